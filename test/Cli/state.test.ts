/** The commands `kv` and `config`, with a server that is a process of its own. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { jsonHere, runHere } from "./Here.ts"
import { freePort, Terminal } from "./Terminal.ts"

const terminal = new Terminal()
let env: { readonly IRONFLOW_SERVER_URL: string }

beforeAll(async () => {
  const port = await freePort()
  env = { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` }
  await terminal.start(["serve", "--port", String(port)]).until("Ironflow listens at")
}, 40_000)
afterAll(() => terminal[Symbol.asyncDispose]())

const run = (...args: ReadonlyArray<string>) => runHere(args, { env })
const json = (...args: ReadonlyArray<string>) => jsonHere(args, { env })

describe.concurrent("kv", () => {
  it("creates a bucket, writes keys conditionally, shows and deletes them", async () => {
    const created = await run("kv", "create-bucket", "carts", "--ttl", "3600", "--history", "5")
    assert.strictEqual(created.stdout, "Bucket carts is created.\n")

    const put = await run("kv", "put", "carts", "c-1", '{"items":2}', "--create")
    assert.strictEqual(put.stdout, "Key c-1 is at revision 1.\n")
    const again = await run("kv", "put", "carts", "c-1", "{}", "--create")
    assert.strictEqual(again.code, 1)
    assert.include(again.stderr, "exists already, at revision 1")
    assert.deepInclude(await json("kv", "put", "carts", "c-1", "plain text", "--revision", "1"), {
      key: "c-1",
      revision: 2
    })
    const piped = await terminal.run(["kv", "put", "carts", "d-1"], { env, input: "[1,2]\n" })
    assert.strictEqual(piped.stdout, "Key d-1 is at revision 3.\n")

    const shown = await run("kv", "get", "carts", "c-1")
    assert.match(shown.stdout, /^revision +2$/m)
    assert.include(shown.stdout, "plain text")
    assert.deepInclude(await json("kv", "get", "carts", "d-1"), { value: [1, 2], revision: 3 })
    assert.deepStrictEqual(await json("kv", "list", "carts"), { keys: ["c-1", "d-1"] })
    assert.strictEqual((await run("kv", "list", "carts", "d-*")).stdout, "d-1\n")
    assert.deepStrictEqual(
      (await json("kv", "history", "carts", "c-1")).entries.map(({ value }: { value: unknown }) => value),
      [{ items: 2 }, "plain text"]
    )

    assert.strictEqual((await run("kv", "delete", "carts", "d-1")).stdout, "Key d-1 is deleted.\n")
    assert.include(
      (await run("kv", "delete", "carts", "c-1", "--purge")).stdout,
      "with its earlier revisions"
    )
    assert.strictEqual((await run("kv", "list", "carts")).stdout, "There are no such keys.\n")
    const gone = await run("kv", "get", "carts", "c-1")
    assert.strictEqual(gone.code, 1)
    assert.include(gone.stderr, 'bucket "carts" has no value for "c-1"')

    // the marker of the deleted key d-1 stays for a day
    assert.match((await run("kv", "buckets")).stdout, /^carts +0 +8 +5 +3600s /m)
    assert.strictEqual(
      (await run("kv", "delete-bucket", "carts")).stdout,
      "Bucket carts is deleted, with all its keys.\n"
    )
    const missing = await run("kv", "list", "carts")
    assert.strictEqual(missing.code, 1)
    assert.include(missing.stderr, "Bucket not found: carts")
  }, 180_000)

  it("watches keys until it is stopped", async () => {
    await run("kv", "create-bucket", "watched")
    await run("kv", "put", "watched", "before", "1")
    const watching = terminal.start(["kv", "watch", "watched", "--from", "0", "--json"], { env })
    await watching.until('"key":"before"')
    await run("kv", "put", "watched", "after", '{"a":1}')
    await run("kv", "delete", "watched", "after")
    const output = await watching.until('"operation":"delete"')
    watching.signal("SIGINT")
    await watching.ended

    assert.deepStrictEqual(
      output
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line)),
      [
        { bucket: "watched", key: "before", value: 1, revision: 1, operation: "put" },
        { bucket: "watched", key: "after", value: { a: 1 }, revision: 2, operation: "put" },
        { bucket: "watched", key: "after", revision: 3, operation: "delete" }
      ]
    )
  }, 180_000)
})

describe.concurrent("config", () => {
  it("sets, patches, lists, shows and deletes configurations", async () => {
    assert.strictEqual(
      (await run("config", "set", "app", '{"theme":"dark","locale":"en"}')).stdout,
      "Configuration app is at revision 1.\n"
    )
    const patched = await terminal.run(["config", "patch", "app"], { env, input: '{"locale":"fr"}' })
    assert.strictEqual(patched.stdout, "Configuration app is at revision 2.\n")
    assert.deepStrictEqual(JSON.parse((await run("config", "get", "app")).stdout), {
      theme: "dark",
      locale: "fr"
    })
    assert.deepInclude((await json("config", "list")).configs[0], { name: "app", revision: 2 })
    assert.match((await run("config", "list")).stdout, /^app +2 .*"locale"/m)

    const watching = terminal.start(["config", "watch", "app", "--from", "0"], { env })
    await watching.until("2  ")
    assert.strictEqual((await run("config", "delete", "app")).stdout, "Configuration app is deleted.\n")
    await watching.until("3  deleted")
    watching.signal("SIGINT")
    await watching.ended

    assert.strictEqual((await run("config", "list")).stdout, "There are no configurations.\n")
    const gone = await run("config", "get", "app")
    assert.strictEqual(gone.code, 1)
    assert.include(gone.stderr, "Configuration not found: app")
  }, 180_000)

  it("refuses data that is not an object", async () => {
    const { code, stderr } = await run("config", "set", "list", "[1]")

    assert.strictEqual(code, 2)
    assert.include(stderr, "The data must be a JSON object")
  }, 180_000)
})
