/** The pages of push endpoints, access, secrets and the system, in a browser. */
import { createClient, createFunction, serve } from "@ironflow/node"
import { assert, describe, it } from "vitest"
import { listen, SIGNING_KEY } from "../Serve/Hosts.ts"
import { useConsole } from "./Browser.ts"
import { engineWithWorker, script, visitor } from "./Visitors.ts"

const kit = useConsole()

const ship = createFunction({ id: "ship-order", triggers: [{ event: "order.placed" }] }, async ({ step }) =>
  step.run("pick", async () => "picked")
)

describe("the page of push endpoints", () => {
  it("registers a handler, shows whether it can be reached, and removes it", async () => {
    const server = await kit.serve({ signingKey: SIGNING_KEY })
    const handler = await listen(serve({ functions: [ship], signingKey: SIGNING_KEY, logger: false }))
    const look = await kit.look(server.url)

    await look.open("push")
    await look.sees("npx ironflow functions register")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.press("Register an endpoint")
    await look.submit("Register an endpoint", { url: "nowhere" })
    await look.sees("The request is not valid.")
    await look.submit("Register an endpoint", { url: handler.url })
    await look.sees("Registered: ship-order.")
    await look.sees("available")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("push-light")

    await handler.close()
    await using client = createClient({ serverUrl: server.url })
    await client.emit("order.placed", {})
    await look.sees("not available")
    await look.picture("push-down")
    await look.press("Remove")
    await look.submit("Remove", {})
    await look.sees("The engine calls no handler")
  })
})

describe("the page of secrets", () => {
  it("sets, replaces and deletes a secret, and never shows its value", async () => {
    const server = await kit.serve({ masterKey: "cd".repeat(32) })
    await using client = createClient({ serverUrl: server.url })
    const look = await kit.look(server.url, { scheme: "dark" })

    await look.open("secrets")
    await look.sees("npx ironflow secrets set")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.press("Set a secret")
    await look.submit("Set a secret", { name: "STRIPE_KEY", value: "sk_live_1" })
    await look.sees("The secret STRIPE_KEY is set.")
    const [first] = await client.secrets.list()
    assert.strictEqual(first!.name, "STRIPE_KEY")
    await look.press("Replace")
    await look.submit("Replace", { value: "sk_live_2" })
    await look.seesNoMore("Functions get the new value")
    assert.notInclude(await look.page.content(), "sk_live")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("secrets-dark")
    await look.press("Delete")
    await look.submit("Delete", {})
    await look.sees("There are no secrets")
    assert.deepStrictEqual(await client.secrets.list(), [])
  })

  it("says why secrets need a master key", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url)

    await look.open("secrets")
    await look.press("Set a secret")
    await look.submit("Set a secret", { name: "STRIPE_KEY", value: "sk_live_1" })
    await look.sees("IRONFLOW_MASTER_KEY")
  })
})

describe("the page of access", () => {
  it("creates a key that is shown once, rotates and deletes it", async () => {
    await using it = await visitor(kit, ["role_admin"], "*")
    const { look } = it

    await look.open("access")
    await look.sees("visitor")
    await look.press("Create a key")
    await look.page.waitForSelector("dialog input[value=role_viewer]")
    await look.page.locator("dialog input[value=role_viewer]").click()
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("access-create")
    await look.submit("Create a key", { name: "<b>support</b>", expires: "90d" })
    await look.sees("it is not shown again")
    const secret = /ifk_[\w-]{20,}/.exec(await look.text())?.[0] ?? ""
    await using made = createClient({ serverUrl: it.url, apiKey: secret })
    assert.deepStrictEqual(await made.listFunctions(), [])
    await look.sees("<b>support</b>")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("access-light")
    await look.press("I have it")
    await look.seesNoMore(secret)
    const key = (await it.client.apiKeys.list()).find(({ name }) => name === "<b>support</b>")!
    assert.deepStrictEqual(key.role_ids, ["role_viewer"])
    await it.client.apiKeys.delete(key.id)
    await look.sees("apikey:delete")
  })

  it("creates a role and a policy, and assigns the policy", async () => {
    await using it = await visitor(kit, ["role_admin"], "*")
    const { look } = it

    await look.open("access")
    await look.press("Create a policy")
    await look.submit("Create a policy", { name: "retry-orders", actions: "run:fly", resources: "*" })
    await look.sees("matches no action")
    await look.submit("Create a policy", { actions: "run:read, run:retry", condition: "true" })
    await look.sees("The policy retry-orders is created.")
    await look.press("Create a role")
    await look.submit("Create a role", { name: "support" })
    await look.sees("The role support is created.")
    // at every width all buttons can be seen
    for (const width of [1280, 800, 400, 320]) {
      await look.page.setViewport({ width, height: 900 })
      assert.deepStrictEqual(
        await look.page.evaluate(
          `[...document.querySelectorAll('[aria-label="Roles"] [role="cell"]')].filter((it) => it.querySelector("button") && it.scrollWidth > it.clientWidth).map((it) => it.innerText)`
        ),
        [],
        String(width)
      )
    }
    await look.picture("access-roles-320")
    await look.page.setViewport({ width: 1280, height: 900 })
    await look.press("Policies")
    const policy = (await it.client.policies.list()).find(({ name }) => name === "retry-orders")!
    await look.page.locator(`dialog input[value="${policy.id}"]`).click()
    await look.picture("access-role-policies")
    await look.submit("Policies", {})
    await look.sees("support has retry-orders.")
    const role = (await it.client.roles.list()).find(({ name }) => name === "support")!
    assert.deepStrictEqual(role.policy_ids, [policy.id])

    await look.press("Edit")
    await look.submit("Edit", { actions: "run:read" })
    await look.sees("The policy retry-orders is changed.")
    await look.press("Policies")
    await look.page.locator(`dialog input[value="${policy.id}"]`).click()
    await look.submit("Policies", {})
    await look.sees("The role support has no policies")
    assert.deepStrictEqual((await it.client.roles.get(role.id)).policy_ids, [])
    assert.strictEqual((await it.client.policies.get(policy.id)).actions, "run:read")
    assert.deepStrictEqual(await look.accessibility(), [])
  })

  it("says what to try as long as there is no key", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url, { width: 400 })

    await look.open("access")
    await look.sees("npx ironflow apikeys create admin")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("access-narrow")
  })
})

describe("the page of the system", () => {
  it("shows the health of the engine, and all of its metrics", async () => {
    await using it = await engineWithWorker(kit, [ship])
    const { runIds } = await it.client.emit("order.placed", {})
    await it.client.waitForRun(runIds[0]!)
    const look = await kit.look(it.url)

    await look.open("system")
    await look.sees("No violation of a guarantee was found.")
    await look.sees("A turn")
    await look.sees(/Size of the database\n[1-9]/)
    await look.sees(/Accepts calls\nready/)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("system-light")
    await look.enter("Find", "runs_completed")
    await look.sees("ironflow_runs_completed_total")
    await look.seesNoMore("ironflow_workers")
    await look.page.setViewport({ width: 400, height: 900 })
    await look.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }])
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("system-dark-narrow")
  })
})

describe("the pages of the engine", () => {
  it("refuse a key without the right", async () => {
    await using it = await visitor(kit, [])
    for (const page of ["push", "secrets", "access", "system"]) {
      await it.look.open(page)
      await it.look.sees("You may not do this.")
    }
    await it.look.open("secrets")
    await it.look.press("Set a secret")
    await it.look.submit("Set a secret", { name: "A", value: script })
    await it.look.sees("secret:write")
  })
})
