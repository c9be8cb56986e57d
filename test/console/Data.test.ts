/** The pages of streams, keys and configurations, in a browser. */
import { createClient, createFunction } from "@ironflow/node"
import { assert, describe, it } from "vitest"
import { useConsole } from "./Browser.ts"
import { engineWithWorker, script, visitor } from "./Visitors.ts"

const kit = useConsole()

const ship = createFunction({ id: "ship-order", triggers: [{ event: "order.placed" }] }, async () => "done")

const empty = async () => {
  const server = await kit.serve()
  const client = createClient({ serverUrl: server.url })
  return { url: server.url, client, [Symbol.asyncDispose]: () => client.close() }
}

describe("the pages of streams", () => {
  it("shows the events of an entity by version, and the runs that they started", async () => {
    await using it = await engineWithWorker(kit, [ship])
    const { streams } = it.client
    await streams.append("o-1", { name: "order.placed", data: { note: script }, entityType: "order" })
    await streams.append(
      "o-1",
      { name: "order.paid", data: { total: 12 }, entityType: "order" },
      { expectedVersion: 1 }
    )
    await streams.createSnapshot("o-1", { entityType: "order", entityVersion: 2, state: { paid: script } })
    await streams.append("c-1", { name: "customer.moved", data: {}, entityType: "customer" })
    const look = await kit.look(it.url)

    await look.open("streams")
    await look.sees("c-1")
    await look.enter("Type", "order")
    await look.seesNoMore("c-1")
    assert.include(look.page.url(), "type=order")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("streams-light")

    await look.press("o-1")
    await look.sees("order o-1")
    await look.sees("order.paid")
    await look.sees(`"note":"<img`)
    await look.sees("ship-order")
    await look.sees("Of version 2")
    await look.sees(`"paid": "<img`)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("stream-light")
    await streams.append(
      "o-1",
      { name: "order.shipped", data: {}, entityType: "order" },
      { expectedVersion: 2 }
    )
    await look.sees("order.shipped")
  })
})

describe("the pages of keys", () => {
  it("creates a bucket, puts a key, changes and deletes it", async () => {
    await using it = await empty()
    const look = await kit.look(it.url)

    await look.open("keys")
    await look.sees("npx ironflow kv create-bucket")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.press("Create a bucket")
    await look.submit("Create a bucket", { name: "sessions", description: script, history: "five" })
    await look.sees(
      'Revisions that are kept of each key must be an integer, at least 0, with at most 12 digits, got "five".'
    )
    await look.submit("Create a bucket", { history: "5", ttl: "1234567890123" })
    await look.sees(
      'Seconds after which a key expires must be an integer, at least 0, with at most 12 digits, got "1234567890123".'
    )
    await look.submit("Create a bucket", { ttl: "" })
    await look.sees("The bucket sessions is created.")
    await look.sees(script)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("buckets-light")

    await look.press("sessions")
    await look.sees("The bucket is empty.")
    await look.press("Put a key")
    await look.submit("Put a key", { key: "users/4 2?", value: "{ name }" })
    await look.sees("The value is not JSON")
    await look.submit("Put a key", { value: JSON.stringify({ name: script }) })
    await look.sees("The key users/4 2? is created.")
    await look.sees(`"name": "<img`)
    assert.deepStrictEqual(await look.accessibility(), [])

    const sessions = it.client.kv().bucket("sessions")
    await look.press("Edit")
    await look.page.waitForSelector("dialog textarea")
    await sessions.put("users/4 2?", { name: "somebody else" })
    await look.sees("somebody else")
    await look.submit("Edit", { value: '{ "name": "me" }' })
    await look.sees("Somebody has changed the key since you opened this dialog.")
    await look.picture("key-conflict")
    assert.deepStrictEqual((await sessions.get("users/4 2?")).value, { name: "somebody else" })
    await look.press("Leave it")
    await look.press("Edit")
    await look.submit("Edit", { value: '{ "name": "me" }' })
    await look.sees("The key users/4 2? is changed.")
    assert.deepStrictEqual((await sessions.get("users/4 2?")).value, { name: "me" })
    await look.sees("Revisions that are kept, newest first")
    await look.picture("key-light")

    await look.open("keys/sessions")
    await look.sees("users/4 2?")
    await look.enter("Keys that match", "other/*")
    await look.sees("No key matches.")
    await look.open(`keys/sessions/${encodeURIComponent("users/4 2?")}`)
    await look.press("Delete")
    await look.submit("Delete", {})
    await look.sees("Not found.")
    await look.open("keys/sessions")
    await look.press("Delete the bucket")
    await look.submit("Delete the bucket", {})
    await look.sees("There are no buckets")
    assert.deepStrictEqual(await it.client.kv().listBuckets(), [])
  })

  it("shows strings and bytes as what they are", async () => {
    await using it = await empty()
    await it.client.kv().createBucket({ name: "files" })
    const files = it.client.kv().bucket("files")
    await files.put("text", `first line\n${script}`)
    await files.put("bytes", new Uint8Array([255, 0, 1]))
    const look = await kit.look(it.url, { scheme: "dark", width: 400 })

    await look.open("keys/files/text")
    await look.sees("first line")
    await look.sees(script)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("key-dark-narrow")
    await look.open("keys/files/bytes")
    await look.sees("bytes, shown as base64")
    await look.sees("/wAB")
    assert.notInclude(await look.text(), "Edit")
  })
})

describe("the pages of configurations", () => {
  it("sets, changes, replaces and deletes a configuration", async () => {
    await using it = await empty()
    const look = await kit.look(it.url, { scheme: "dark" })

    await look.open("configurations")
    await look.sees("npx ironflow config set")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.press("Set a configuration")
    await look.submit("Set a configuration", { name: "shipping", data: "3" })
    await look.sees("A configuration is a JSON object")
    await look.submit("Set a configuration", { data: JSON.stringify({ limit: 3, note: script }) })
    await look.sees("The configuration shipping is set.")
    await look.sees('"limit": 3')
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("configuration-dark")

    await look.press("Change members")
    await look.submit("Change members", { data: '{ "limit": 4 }' })
    await look.sees('"limit": 4')
    await look.sees(`"note": "<img`)

    await look.press("Replace")
    await look.page.waitForSelector("dialog textarea")
    await it.client.config().patch("shipping", { limit: 5 })
    await look.sees('"limit": 5')
    await look.submit("Replace", { data: '{ "limit": 6 }' })
    await look.sees("Somebody has changed the configuration since")
    await look.press("Leave it")
    await look.press("Replace")
    await look.submit("Replace", { data: '{ "limit": 6 }' })
    await look.sees("The configuration shipping is replaced.")
    assert.deepStrictEqual((await it.client.config().get("shipping")).data, { limit: 6 })

    await look.press("Delete")
    await look.submit("Delete", {})
    await look.sees("There are no configurations")
    assert.deepStrictEqual(await it.client.config().list(), [])
  })
})

describe("the pages of stored data", () => {
  it("say what to try when they are empty, and report missing items", async () => {
    await using it = await empty()
    const look = await kit.look(it.url, { width: 400 })

    await look.open("streams")
    await look.sees("npx ironflow streams append")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("streams-narrow")
    for (const page of ["streams/none", "keys/none", "keys/none/none", "configurations/none"]) {
      await look.open(page)
      await look.sees("Not found.")
    }
  })

  it("refuse a key without the right", async () => {
    await using it = await visitor(kit, [])
    for (const page of [
      "streams",
      "streams/o-1",
      "keys",
      "keys/a",
      "keys/a/b",
      "configurations",
      "configurations/a"
    ]) {
      await it.look.open(page)
      await it.look.sees("You may not do this.")
    }
    await it.look.open("configurations")
    await it.look.press("Set a configuration")
    await it.look.submit("Set a configuration", { name: "a", data: "{}" })
    await it.look.sees("config:write")
  })
})
