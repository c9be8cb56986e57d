/** Transcripts of the key-value store and of configurations, with requests of legacy clients. */
import { once } from "node:events"
import { afterAll, assert, beforeAll, beforeEach, describe, it } from "vitest"
import { WebSocket } from "ws"
import { createClient } from "@ironflow/node"
import { type Ironflow, start } from "./Ironflow.ts"
import { send } from "./RawClient.ts"

const KEYS = "/api/v1/kv/buckets/carts/keys"
const octets = { "content-type": "application/octet-stream" }

let ironflow: Ironflow
beforeAll(async () => void (ironflow = await start()))
afterAll(() => ironflow.close())

const call = (method: string, path: string, body?: unknown, headers?: Record<string, string>) =>
  send(ironflow.url, method, path, body, headers)

beforeEach(async () => {
  await call("DELETE", "/api/v1/kv/buckets/carts")
  await call("POST", "/api/v1/kv/buckets", { name: "carts" })
})

const base64 = (text: string): string => Buffer.from(text).toString("base64")

describe("buckets", () => {
  it("are created with 201, described in snake case, listed with a count, deleted with 204", async () => {
    const created = await call("POST", "/api/v1/kv/buckets", { name: "s", ttl_seconds: 60, history: 2 })
    assert.strictEqual(created.status, 201)
    assert.include(created.body, { name: "s", ttl_seconds: 60, history: 2, values: 0, bytes: 0 })
    assert.match(created.body.created_at, /^\d{4}-/)

    assert.strictEqual((await call("POST", "/api/v1/kv/buckets", { name: "s" })).status, 409)
    assert.deepStrictEqual((await call("GET", "/api/v1/kv/buckets/s")).body, created.body)
    assert.strictEqual((await call("GET", "/api/v1/kv/buckets")).body.count, 2)
    assert.strictEqual((await call("DELETE", "/api/v1/kv/buckets/s")).status, 204)
    const gone = await call("GET", "/api/v1/kv/buckets/s")
    assert.strictEqual(gone.status, 404)
    assert.include(gone.body.error, "Bucket not found")
  })

  it.for([
    [{}, "name"],
    [{ name: "a b" }, "cannot be the name of a bucket"],
    [{ name: "$config" }, "cannot be the name of a bucket"],
    [{ name: "b", ttl_seconds: -1 }, "ttlSeconds"],
    [{ name: "b", history: "many" }, "history"]
  ] as const)("are refused as %j", async ([body, reason]) => {
    const answer = await call("POST", "/api/v1/kv/buckets", body)

    assert.strictEqual(answer.status, 400)
    assert.include(answer.body.error, reason)
  })
})

describe("keys", () => {
  it("store the bytes of the body, and return them as base64", async () => {
    const put = await call("PUT", `${KEYS}/user:1`, "plain", octets)
    assert.deepStrictEqual(put.body, { revision: put.body.revision })
    const { created_at, ...entry } = (await call("GET", `${KEYS}/user:1`)).body
    assert.match(created_at, /^\d{4}-/)
    assert.deepStrictEqual(entry, {
      key: "user:1",
      value: base64("plain"),
      content_type: "application/octet-stream",
      revision: put.body.revision,
      operation: "put"
    })

    await call("PUT", `${KEYS}/json`, { a: 1 })
    assert.strictEqual((await call("GET", `${KEYS}/json`)).body.value, base64('{"a":1}'))
    await call("PUT", `${KEYS}/nothing`, undefined, {})
    assert.strictEqual((await call("GET", `${KEYS}/nothing`)).body.value, "")
  })

  it("are the rest of the path, encoded or not", async () => {
    for (const [path, key] of [
      ["a/b/c", "a/b/c"],
      ["a%2Fb", "a/b"],
      ["a.b", "a.b"],
      ["%C3%A4", "ä"],
      ["keys/x", "keys/x"]
    ] as const) {
      assert.strictEqual((await call("PUT", `${KEYS}/${path}`, "1", octets)).status, 200)
      assert.strictEqual((await call("GET", `${KEYS}/${path}`)).body.key, key)
    }
    assert.strictEqual((await call("PUT", `${KEYS}/50%`, "1", octets)).status, 400)
    assert.strictEqual((await call("PUT", `${KEYS}/`, "1", octets)).status, 400)
  })

  it("are created and updated conditionally, with 412 and both revisions on a conflict", async () => {
    const create = () => call("PUT", `${KEYS}/c`, "1", { ...octets, "if-none-match": "*" })
    const update = (revision: string) => call("PUT", `${KEYS}/c`, "2", { ...octets, "if-match": revision })

    const { revision } = (await create()).body
    const again = await create()
    assert.strictEqual(again.status, 412)
    assert.strictEqual(again.body.code, "REVISION_CONFLICT")
    assert.include(again.body.details.error.data, { expected: 0, actual: revision })
    assert.strictEqual((await update(String(revision + 1))).status, 412)
    assert.strictEqual((await update(`"${revision}"`)).status, 200)
    assert.strictEqual((await update(String(revision))).status, 412)
    for (const nonsense of ["x", "-1", "0", "*"]) assert.strictEqual((await update(nonsense)).status, 400)
    assert.strictEqual((await call("GET", `${KEYS}/c`)).body.value, base64("2"))
  })

  it("are deleted, purged and listed", async () => {
    for (const key of ["user.1", "user.2", "user-3"]) await call("PUT", `${KEYS}/${key}`, "1", octets)
    assert.deepStrictEqual((await call("GET", `${KEYS}?filter=user.*`)).body, {
      keys: ["user.1", "user.2"],
      count: 2
    })
    assert.strictEqual((await call("DELETE", `${KEYS}/user.1`)).status, 204)
    assert.strictEqual((await call("DELETE", `${KEYS}/user.2?purge=true`)).status, 204)
    assert.strictEqual((await call("DELETE", `${KEYS}/never`)).status, 204)
    assert.deepStrictEqual((await call("GET", KEYS)).body.keys, ["user-3"])
    assert.strictEqual((await call("GET", `${KEYS}/user.1`)).status, 404)
    assert.strictEqual((await call("GET", "/api/v1/kv/buckets/nowhere/keys")).status, 404)
  })

  it.for([
    ["invalid JSON", "{", { "content-type": "application/json" }, "has the content type of JSON"],
    ["a value over the limit", "x".repeat(2 ** 20 + 1), octets, "1048576 bytes"],
    [
      "conditions that contradict each other",
      "1",
      { ...octets, "if-match": "1", "if-none-match": "*" },
      "contradict"
    ]
  ] as const)("refuse %s", async ([, body, headers, reason]) => {
    const answer = await call("PUT", `${KEYS}/bad`, body, headers)

    assert.strictEqual(answer.status, 400)
    assert.include(answer.body.error, reason)
    assert.deepStrictEqual((await call("GET", KEYS)).body.keys, [])
  })
})

describe("configurations", () => {
  it("are set, read, patched, listed with data, and can be deleted repeatedly", async () => {
    const set = await call("POST", "/api/v1/config/app%20settings", '{"theme":"dark","__proto__":{"a":1}}')
    assert.deepStrictEqual(set.body, { name: "app settings", revision: set.body.revision })
    const patched = await call("PATCH", "/api/v1/config/app%20settings", { theme: "light" })
    assert.isAbove(patched.body.revision, set.body.revision)

    const { text } = await call("GET", "/api/v1/config/app%20settings")
    assert.include(text, '"data":{"theme":"light","__proto__":{"a":1}}')
    assert.match(JSON.parse(text).updatedAt, /^\d{4}-/)
    assert.lengthOf((await call("GET", "/api/v1/config")).body.configs, 1)
    for (let i = 0; i < 2; i++)
      assert.strictEqual((await call("DELETE", "/api/v1/config/app%20settings")).status, 204)
    assert.strictEqual((await call("GET", "/api/v1/config/app%20settings")).status, 404)
    assert.strictEqual((await call("PATCH", "/api/v1/config/app%20settings", {})).status, 404)
  })

  it.for(["[]", "5", "null", '"text"', "{"])("refuse %s as data", async (body) => {
    assert.strictEqual((await call("POST", "/api/v1/config/app", body)).status, 400)
    assert.deepStrictEqual((await call("GET", "/api/v1/config")).body, { configs: [] })
  })
})

describe("a watch over a WebSocket", () => {
  const open = async (path: string) => {
    const socket = new WebSocket(ironflow.url.replace("http", "ws") + path)
    // oxlint-disable-next-line typescript/no-explicit-any -- the tests check what the engine sends
    const frames: Array<any> = []
    const listeners: Array<() => void> = []
    socket.on("message", (data) => {
      frames.push(JSON.parse(String(data)))
      for (const listener of listeners.splice(0)) listener()
    })
    await once(socket, "open")
    const next = async () => {
      while (frames.length === 0) await new Promise<void>((resolve) => void listeners.push(resolve))
      return frames.shift()
    }
    return { socket, next }
  }

  it("sends a frame for each change of a key, and by default nothing else", async () => {
    const { socket, next } = await open("/api/v1/kv/buckets/carts/watch?key=user.*")
    await call("PUT", `${KEYS}/other`, "0", octets)
    const { revision } = (await call("PUT", `${KEYS}/user.1`, "1", octets)).body
    await call("DELETE", `${KEYS}/user.1`)

    const { created_at: _, ...put } = await next()
    assert.deepStrictEqual(put, {
      type: "kv_update",
      key: "user.1",
      value: base64("1"),
      revision,
      operation: "put",
      bucket: "carts",
      content_type: "application/octet-stream"
    })
    assert.include(await next(), { type: "kv_update", operation: "delete", revision: revision + 1 })
    socket.close()
  })

  it("continues after a requested revision, and says where it begins", async () => {
    const first = (await call("PUT", `${KEYS}/a`, "1", octets)).body.revision
    await call("PUT", `${KEYS}/b`, "2", octets)

    const { socket, next } = await open(`/api/v1/kv/buckets/carts/watch?revision=${first}`)

    assert.include(await next(), { type: "watching", revision: first })
    assert.include(await next(), { key: "b", revision: first + 1 })
    socket.close()
  })

  it("reports an error, and closes", async () => {
    const { socket, next } = await open("/api/v1/kv/buckets/nowhere/watch")
    assert.include(await next(), { type: "error", code: "BUCKET_NOT_FOUND", status: 404 })
    assert.strictEqual((await once(socket, "close"))[0], 4000)

    const refused = new WebSocket(`${ironflow.url.replace("http", "ws")}/api/v1/kv/buckets/b%20b/watch`)
    const [, response] = await once(refused, "unexpected-response")
    assert.strictEqual(response.statusCode, 400)
    response.destroy()
  })

  it("sends the data of a configuration, and null when it is deleted", async () => {
    const { socket, next } = await open("/api/v1/config/app/watch?revision=now")
    await next()
    const { revision } = (await call("POST", "/api/v1/config/app", { a: 1 })).body
    await call("POST", "/api/v1/config/other", { b: 1 })
    await call("DELETE", "/api/v1/config/app")

    assert.include(await next(), { type: "config_update", name: "app", revision })
    assert.deepInclude(await next(), { name: "app", data: null, deleted: true })
    socket.close()
  })
})

it("a watcher that does not read is closed with 4008", async () => {
  await using slow = await start({ virtualTime: true })
  await send(slow.url, "POST", "/api/v1/kv/buckets", { name: "carts" })
  const socket = new WebSocket(`${slow.url.replace("http", "ws")}/api/v1/kv/buckets/carts/watch?revision=0`)
  await once(socket, "message")
  socket.pause()
  for (let i = 0; i < 40; i++) await send(slow.url, "PUT", `${KEYS}/key-${i}`, "x".repeat(2 ** 20), octets)

  // the buffers at both ends of the connection are full, so that the next frame does not arrive
  await slow.pass(31_000)
  socket.resume()

  assert.strictEqual((await once(socket, "close"))[0], 4008)
})

describe("lists", () => {
  it("are complete without a limit, and paged with one", async () => {
    for (const key of ["a", "b", "c"]) await call("PUT", `${KEYS}/${key}`, "1", octets)

    assert.deepStrictEqual((await call("GET", KEYS)).body, { keys: ["a", "b", "c"], count: 3 })
    assert.deepStrictEqual((await call("GET", `${KEYS}?limit=2`)).body, {
      keys: ["a", "b"],
      count: 2,
      nextCursor: "b"
    })
    assert.deepStrictEqual((await call("GET", `${KEYS}?limit=2&cursor=b`)).body, { keys: ["c"], count: 1 })
    assert.deepStrictEqual((await call("GET", `${KEYS}?limit=2&filter=c`)).body, {
      keys: [],
      count: 0,
      nextCursor: "b"
    })

    for (const name of ["page-a", "page-b"]) await call("POST", `/api/v1/config/${name}`, {})
    const first = (await call("GET", "/api/v1/config?limit=1&cursor=page")).body
    assert.strictEqual(first.nextCursor, "page-a")
    assert.deepStrictEqual(
      first.configs.map(({ name }: { name: string }) => name),
      ["page-a"]
    )
  })

  it("that are long are complete, and are refused without a limit beyond 16 MiB", async () => {
    const names = Array.from({ length: 17_000 }, (_, i) => "k".repeat(994) + String(i).padStart(6, "0"))
    const store = async (keys: ReadonlyArray<string>) => {
      for (let i = 0; i < keys.length; i += 100) {
        const writes = keys.slice(i, i + 100).map((key) => ({ op: "put", key, value: "" }))
        assert.strictEqual((await call("POST", "/api/v1/kv/buckets/carts/write", { writes })).status, 200)
      }
    }
    await store(names.slice(0, 2500))
    const whole = await call("GET", KEYS)
    assert.deepStrictEqual(whole.body, { keys: names.slice(0, 2500), count: 2500 })
    await store(names.slice(2500))

    const refused = await call("GET", KEYS)
    assert.strictEqual(refused.status, 400)
    assert.strictEqual(refused.body.code, "LIMIT_EXCEEDED")
    assert.match(
      refused.body.error,
      /^The list of all keys of bucket "carts" is too large: .*\. Ask for it in pages, with `limit`, and the `nextCursor`/
    )
    assert.strictEqual((await call("GET", `${KEYS}?limit=1000`)).body.nextCursor, names[999])
    const client = createClient({ serverUrl: ironflow.url })
    assert.deepStrictEqual(await client.kv().bucket("carts").listKeys(), names)
    await client.close()
  })

  it.for(["limit=0", "limit=-1", "limit=x", "limit=", "cursor=a", `limit=1&cursor=${"x".repeat(1025)}`])(
    "with %s are refused",
    async (query) => {
      for (const path of [KEYS, "/api/v1/config"])
        assert.strictEqual((await call("GET", `${path}?${query}`)).status, 400)
    }
  )
})
