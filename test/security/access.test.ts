/** Rights that change while a call is in progress: what counts are the rights at the moment in which something is done. */
import { once } from "node:events"
import * as http from "node:http"
import * as http2 from "node:http2"
import { createClient, UnauthenticatedError } from "@ironflow/node"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import { afterEach, assert, beforeEach, describe, it, vi } from "vitest"
import { ApiKeys } from "../../src/Client/ApiKeys.ts"
import { Client } from "../../src/Client/Client.ts"
import * as ClientHttp from "../../src/Client/HttpServices.ts"
import { RawStream, REGISTERED } from "../wire/RawStream.ts"
import { registrationOf } from "../wire/RawTurnWorker.ts"
import { BOOTSTRAP, type OpenSocket, Keys } from "./Keys.ts"

const open: Array<AsyncDisposable> = []
const opened = async (keys: Promise<Keys>): Promise<Keys> => {
  const made = await keys
  open.push(made)
  return made
}

beforeEach(() => {
  vi.stubEnv("IRONFLOW_MASTER_KEY", "ab".repeat(32))
})
afterEach(async () => {
  for (const one of open.splice(0).toReversed()) await one[Symbol.asyncDispose]()
  vi.unstubAllEnvs()
})

interface StartedRequest {
  /** Sends the body, and returns the status of the answer. */
  readonly finish: () => Promise<number>
}

/** A request whose headers the server has seen, and whose body has yet to come. */
const beginHttp1 = async (url: string, path: string, body: object, key: string): Promise<StartedRequest> => {
  const text = JSON.stringify(body)
  const request = http.request(url + path, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(text),
      // the server says "continue" when it has handed on the headers
      expect: "100-continue",
      ...(key === "" ? {} : { authorization: `Bearer ${key}` })
    }
  })
  request.flushHeaders()
  await once(request, "continue")
  return {
    finish: async () => {
      request.end(text)
      const [response] = await once(request, "response")
      response.resume()
      return response.statusCode
    }
  }
}

const beginHttp2 = async (url: string, path: string, body: object, key: string): Promise<StartedRequest> => {
  const session = http2.connect(url).on("error", () => undefined)
  open.push({ [Symbol.asyncDispose]: async () => session.destroy() })
  const request = session.request({
    ":method": "POST",
    ":path": path,
    "content-type": "application/json",
    ...(key === "" ? {} : { authorization: `Bearer ${key}` })
  })
  // the server takes the frames of one connection in order, so the answer to a ping means that it has the headers
  await new Promise<void>((resolve, reject) =>
    session.once("connect", () => session.ping((error) => (error === null ? resolve() : reject(error))))
  )
  return {
    finish: async () => {
      request.end(JSON.stringify(body))
      const [headers] = await once(request, "response")
      request.resume()
      return Number(headers[":status"])
    }
  }
}

describe.each([
  ["HTTP/1.1", beginHttp1],
  ["HTTP/2", beginHttp2]
] as const)("a request over %s whose body comes late", (_, begin) => {
  const effects = [
    ["makes no key", "/api/v1/apikeys", { name: "late", role_ids: [] }, "/api/v1/apikeys", "late"],
    ["stores no secret", "/api/v1/secrets", { name: "LATE", value: "x" }, "/api/v1/secrets", "LATE"],
    ["sets no configuration", "/api/v1/config/late", { a: 1 }, "/api/v1/config", "late"],
    [
      "registers no function",
      "/ironflow.v1.IronflowService/RegisterFunction",
      { id: "late" },
      "/api/v1/functions",
      "late"
    ]
  ] as const

  it.each(effects)("%s when its key was deleted meanwhile", async (_name, path, body, list, mark) => {
    const keys = await opened(Keys.start())
    const { id, key } = await keys.makeKey({ role_ids: ["role_admin"] })
    const begun = await begin(keys.server.url, path, body, key)

    await keys.ok(keys.send("DELETE", `/api/v1/apikeys/${id}`))

    assert.strictEqual(await begun.finish(), 401)
    assert.notInclude((await keys.send("GET", list)).text, mark)
  })

  it.each(effects)("%s when its key has lost the right meanwhile", async (_name, path, body, list, mark) => {
    const keys = await opened(Keys.start())
    const role = await keys.makeRole()
    const policy = await keys.makePolicy({ actions: "*" })
    await keys.assign(role, policy)
    const { key } = await keys.makeKey({ env_id: "*", role_ids: [role] })
    const begun = await begin(keys.server.url, path, body, key)

    await keys.remove(role, policy)

    assert.strictEqual(await begun.finish(), 403)
    assert.notInclude((await keys.send("GET", list)).text, mark)
  })

  it.each(effects)(
    "%s when it has no key and the first key was made meanwhile",
    async (_name, path, body, list, mark) => {
      const keys = await opened(Keys.open())
      const begun = await begin(keys.server.url, path, body, "")

      const first = await keys.makeKey({ name: "first" }, { key: "" })

      assert.strictEqual(await begun.finish(), 401)
      assert.notInclude((await keys.send("GET", list, undefined, { key: first.key })).text, mark)
    }
  )
})

describe("long calls", () => {
  let keys: Keys
  beforeEach(async () => {
    keys = await opened(Keys.start())
  })

  /** A key whose only policy can be removed. */
  const revocable = async (actions: string) => {
    const role = await keys.makeRole()
    const policy = await keys.makePolicy({ actions })
    await keys.assign(role, policy)
    const { id, key } = await keys.makeKey({ role_ids: [role] })
    return { id, key, revoke: () => keys.remove(role, policy) }
  }

  const watches = [
    ["a watch of keys", "kv:read", "/api/v1/kv/buckets/orders/watch?revision=now"],
    ["a watch of a configuration", "config:read", "/api/v1/config/prices/watch?revision=now"],
    ["a stream of a worker over rpc", "worker:run", "/rpc/worker"],
    ["a subscription", "subscription:read", "/ws"]
  ] as const

  it.each(watches)("%s ends with the policy that allowed it", async (_name, actions, path) => {
    await keys.ok(keys.send("POST", "/api/v1/kv/buckets", { name: "orders" }))
    const { key, revoke } = await revocable(actions)
    const { closed, frames, socket } = await keys.socket(path, key)
    if (path === "/ws") {
      socket.send(JSON.stringify({ type: "subscribe", subscription: { pattern: "events:order.*" } }))
      await vi.waitFor(() => assert.lengthOf(frames, 1))
    }

    await revoke()

    assert.strictEqual(await closed, 1008)
  })

  it.each(watches)("%s stays open when other rights change", async (_name, actions, path) => {
    await keys.ok(keys.send("POST", "/api/v1/kv/buckets", { name: "orders" }))
    const { key } = await revocable(actions)
    const { socket } = await keys.socket(path, key)

    await keys.makeRole({ actions: "run:read" })

    const pong = once(socket, "pong")
    socket.ping()
    await pong
    assert.strictEqual(socket.readyState, socket.OPEN)
  })

  it("a subscription to states ends with the right to read them", async () => {
    const role = await keys.makeRole({ actions: "subscription:read" })
    const policy = await keys.makePolicy({ actions: "config:read" })
    await keys.assign(role, policy)
    const { key } = await keys.makeKey({ role_ids: [role] })
    const { closed, frames, socket } = await keys.socket("/ws", key)
    socket.send(JSON.stringify({ type: "subscribe", subscription: { pattern: "system.config.>" } }))
    await vi.waitFor(() => assert.strictEqual(frames[0]?.results[0].status, "ok"))

    await keys.remove(role, policy)

    assert.strictEqual(await closed, 1008)
  })

  it("a stream of a worker over Connect ends with the policy that allowed it", async () => {
    const { key, revoke } = await revocable("worker:run")
    const worker = new RawStream(keys.server.url, { authorization: `Bearer ${key}` })
    worker.register("w-1", [], 1)
    await worker.next(REGISTERED)

    await revoke()

    await once(worker.stream, "close")
    assert.strictEqual(worker.end?.error?.code, "permission_denied")
  })

  it("a stream of a worker over rpc ends when a policy denies just this worker", async () => {
    const role = await keys.makeRole({ actions: "worker:run" })
    const deny = await keys.makePolicy({ effect: "deny", actions: "worker:run", resources: "worker:w-1" })
    const { key } = await keys.makeKey({ role_ids: [role] })
    const workers = await Promise.all(
      ["w-1", "w-2"].map(async (workerId) => {
        const connection = await keys.socket("/rpc/worker", key)
        const payload = {
          worker_id: workerId,
          capabilities: { turns: 1 },
          registration: registrationOf(workerId, [{ id: "ship" }]),
          instance: workerId
        }
        const work = { _tag: "Request", id: "1", tag: "work", payload, headers: [] }
        connection.socket.send(JSON.stringify(work))
        await vi.waitFor(() => assert.include(JSON.stringify(connection.frames), "registered"))
        return connection
      })
    )

    await keys.assign(role, deny)

    assert.strictEqual(await workers[0]!.closed, 1008)
    assert.strictEqual(workers[1]!.socket.readyState, 1)
  })

  const waits = [
    [
      "for work",
      "worker:run",
      async (key: string) => {
        const { session } = await keys.ok(
          keys.send(
            "POST",
            "/api/v1/workers/w-1/register",
            {
              worker_id: "w-1",
              function_ids: [],
              capabilities: { turns: 1 },
              registration: registrationOf("w-1", [{ id: "ship" }]),
              instance: "w-1"
            },
            { key }
          )
        )
        return keys.send(
          "POST",
          "/api/v1/workers/w-1/turns/poll",
          { session, asked: 1, seen: 0, waitMs: 30_000 },
          { key }
        )
      }
    ],
    [
      "for a projection that another worker has",
      "projection:run",
      (key: string) => {
        const claim = (workerId: string, options?: { key: string }) =>
          keys.send(
            "POST",
            "/api/v1/projections/totals/owner/claim",
            {
              workerId,
              registration: { name: "totals", events: ["order.*"], mode: "managed" },
              waitMs: 30_000
            },
            options
          )
        return keys.ok(claim("w-1")).then(() => claim("w-2", { key }))
      }
    ]
  ] as const

  it.each(waits)(
    "a call that waits %s is refused when the policy that allowed it is removed",
    async (_name, actions, wait) => {
      const { id, key, revoke } = await revocable(actions)
      const waiting = wait(key)
      await vi.waitFor(async () =>
        assert.isString((await keys.ok(keys.send("GET", `/api/v1/apikeys/${id}`))).last_used_at)
      )

      await revoke()

      assert.strictEqual((await waiting).status, 403)
    }
  )
})

// ---------------------------------------------------------------------------------------------------------------------

interface Line {
  readonly call: (method: string, path: string, body?: object) => Promise<{ status: number; body: any }>
}

const overHttp1 = async (keys: Keys, key: string): Promise<Line> => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  open.push({ [Symbol.asyncDispose]: async () => agent.destroy() })
  return {
    call: async (method, path, body) => {
      const request = http.request(keys.server.url + path, {
        agent,
        method,
        headers: {
          "content-type": "application/json",
          ...(key === "" ? {} : { authorization: `Bearer ${key}` })
        }
      })
      request.end(body === undefined ? undefined : JSON.stringify(body))
      const [response] = await once(request, "response")
      let text = ""
      for await (const chunk of response) text += chunk
      return { status: response.statusCode, body: text === "" ? undefined : JSON.parse(text) }
    }
  }
}

const overHttp2 = async (keys: Keys, key: string): Promise<Line> => {
  const session = http2.connect(keys.server.url).on("error", () => undefined)
  open.push({ [Symbol.asyncDispose]: async () => session.destroy() })
  return {
    call: async (method, path, body) => {
      const request = session.request({
        ":method": method,
        ":path": path,
        "content-type": "application/json",
        ...(key === "" ? {} : { authorization: `Bearer ${key}` })
      })
      request.end(body === undefined ? undefined : JSON.stringify(body))
      const [headers] = await once(request, "response")
      let text = ""
      for await (const chunk of request) text += chunk
      return { status: Number(headers[":status"]), body: text === "" ? undefined : JSON.parse(text) }
    }
  }
}

const overChannel = async (keys: Keys, key: string): Promise<Line & Pick<OpenSocket, "closed">> => {
  const { closed, frames, socket } = await keys.socket("/api/v1/channel", key)
  let last = 0
  return {
    closed,
    call: async (method, path, body) => {
      const id = ++last
      const text = body === undefined ? "" : JSON.stringify(body)
      socket.send(`${id} ${method} ${path} ${text.length}\n${text}`)
      const find = () => messagesIn(frames).find((message) => message.id === id)
      await vi.waitFor(() => {
        assert.isTrue(find() !== undefined || socket.readyState === socket.CLOSED)
      })
      const answer = find()
      if (answer === undefined) throw new Error(`${method} ${path} was not answered`)
      return { status: answer.status, body: answer.text === "" ? undefined : JSON.parse(answer.text) }
    }
  }
}

/** The answers of a channel: `<id> <status> <length>`, a line break, and text of that length. */
const messagesIn = (frames: ReadonlyArray<unknown>) => {
  const messages: Array<{ readonly id: number; readonly status: number; readonly text: string }> = []
  for (let rest = frames.join(""); rest !== "";) {
    const end = rest.indexOf("\n")
    const [id = 0, status = 0, length = 0] = rest.slice(0, end).split(" ").map(Number)
    messages.push({ id, status, text: rest.slice(end + 1, end + 1 + length) })
    rest = rest.slice(end + 1 + length)
  }
  return messages
}

describe.each([
  ["HTTP/1.1", overHttp1],
  ["HTTP/2", overHttp2],
  ["a channel", overChannel]
] as const)("over %s a call that ends its own access is answered nevertheless", (_, line) => {
  it("when it makes the first key, which gets all rights, whatever was requested", async () => {
    const keys = await opened(Keys.open())
    const { call } = await line(keys, "")

    const { body, status } = await call("POST", "/api/v1/apikeys", {
      name: "ci",
      envId: "env_staging",
      role_ids: ["role_viewer"]
    })

    assert.strictEqual(status, 201)
    assert.deepStrictEqual([body.env_id, body.role_ids], ["*", ["role_viewer", "role_admin"]])
    const { id } = await keys.ok(keys.send("POST", "/api/v1/orgs", { name: "Acme" }, { key: body.key }))
    assert.isString(id)
    assert.strictEqual((await keys.send("GET", "/api/v1/orgs", undefined, { key: "" })).status, 401)
  })

  it("when it rotates the key of the call", async () => {
    const keys = await opened(Keys.start())
    const { id, key } = await keys.makeKey({ role_ids: ["role_admin"] })
    const { call } = await line(keys, key)

    const { body, status } = await call("POST", `/api/v1/apikeys/${id}/rotate`)

    assert.strictEqual(status, 200)
    const again = async (key: string) =>
      (await keys.send("GET", "/api/v1/apikeys", undefined, { key })).status
    assert.deepStrictEqual([await again(key), await again(body.key)], [401, 200])
  })

  it("when it deletes the key of the call", async () => {
    const keys = await opened(Keys.start())
    const { id, key } = await keys.makeKey({ role_ids: ["role_admin"] })
    const { call } = await line(keys, key)

    assert.strictEqual((await call("DELETE", `/api/v1/apikeys/${id}`)).status, 204)
    assert.strictEqual((await keys.send("GET", "/api/v1/apikeys", undefined, { key })).status, 401)
  })

  it("when it takes the policy from its own role", async () => {
    const keys = await opened(Keys.start())
    const role = await keys.makeRole({ actions: "role:read" })
    const policy = await keys.makePolicy({ actions: "*" })
    await keys.assign(role, policy)
    const { key } = await keys.makeKey({ env_id: "*", role_ids: [role] })
    const { call } = await line(keys, key)

    assert.strictEqual((await call("DELETE", `/api/v1/roles/${role}/policies/${policy}`)).status, 204)
    assert.strictEqual((await call("GET", "/api/v1/policies")).status, 403)
    assert.strictEqual((await call("GET", "/api/v1/roles")).status, 200)
  })
})

it("a channel without a key closes after the answers to the call that made the first key and to concurrent calls", async () => {
  const keys = await opened(Keys.open())
  const { call, closed } = await overChannel(keys, "")

  // the event comes first, so that it is admitted before there is a key
  const [emitted, first] = await Promise.all([
    call("POST", "/api/v1/events", { name: "order.placed", data: {} }),
    call("POST", "/api/v1/apikeys", { name: "first" })
  ])

  assert.deepStrictEqual([emitted.status, first.status], [200, 201])
  assert.strictEqual(await closed, 1008)
})

it("a first key that expires is refused", async () => {
  const keys = await opened(Keys.open())
  const withoutKey = { key: "" }

  const refused = await keys.send("POST", "/api/v1/apikeys", { name: "ci", expires_in: "1h" }, withoutKey)

  assert.strictEqual(refused.status, 400)
  assert.include(JSON.stringify(refused.body), "The first API key must not expire")
  assert.include(JSON.stringify(refused.body), "ironflow apikeys create admin")
  assert.strictEqual((await keys.send("GET", "/api/v1/apikeys", undefined, withoutKey)).status, 200)
  const first = await keys.ok(keys.send("POST", "/api/v1/apikeys", { name: "admin" }, withoutKey))
  assert.strictEqual(first.env_id, "*")
  const second = { name: "ci", expires_in: "1h" }
  assert.isString(
    (await keys.ok(keys.send("POST", "/api/v1/apikeys", second, { key: first.key }))).expires_at
  )
})

it("of several first keys that are made at once, all but one are refused", async () => {
  const keys = await opened(Keys.open())
  const { frames, socket } = await keys.socket("/api/v1/channel", "")
  const text = JSON.stringify({ name: "first" })

  // one frame, so that they are stored together
  socket.send([1, 2, 3].map((id) => `${id} POST /api/v1/apikeys ${text.length}\n${text}`).join(""))

  await vi.waitFor(() => assert.lengthOf(messagesIn(frames), 3))
  assert.deepStrictEqual(
    messagesIn(frames)
      .map(({ status }) => status)
      .toSorted(),
    [201, 401, 401]
  )
})

describe("a client without a key that makes the first one", () => {
  it("uses it from then on, also after a rotation, until it deletes it", async () => {
    const keys = await opened(Keys.open())
    await using client = createClient({ serverUrl: keys.server.url })
    // enough calls that the client opens a channel
    for (let i = 0; i < 6; i++) await client.listRuns()

    const { id, secret } = await client.apiKeys.create({ name: "ci", envId: "env_default" })

    assert.deepStrictEqual(
      (await client.apiKeys.list()).map(({ id }) => id),
      [id]
    )
    assert.isString((await client.orgs.create({ name: "Acme" })).id)
    assert.isString((await client.kv().createBucket({ name: "orders" })).name)
    await using stranger = createClient({ serverUrl: keys.server.url })
    const refused: unknown = await stranger.listRuns().catch((error: unknown) => error)
    assert.instanceOf(refused, UnauthenticatedError)

    const rotated = await client.apiKeys.rotate(id)
    assert.notStrictEqual(rotated.secret, secret)
    for (let i = 0; i < 6; i++) await client.listRuns()
    await client.apiKeys.delete(id)
    assert.deepStrictEqual(await client.apiKeys.list(), [])
  })

  it("uses it from then on in the Effect API too", async () => {
    const keys = await opened(Keys.open())
    const layer = ClientHttp.layer({ serverUrl: keys.server.url }).pipe(Layer.provide(FetchHttpClient.layer))

    const [made, runs] = await Effect.runPromise(
      Effect.provide(
        Effect.gen(function* () {
          const apiKeys = yield* ApiKeys
          const client = yield* Client
          const made = yield* apiKeys.create({ name: "first" })
          return [made, yield* client.listRuns()] as const
        }),
        layer
      )
    )

    assert.strictEqual(made.env_id, "*")
    assert.deepStrictEqual(runs.runs, [])
  })

  it("continues its subscriptions", async () => {
    const keys = await opened(Keys.open())
    await using client = createClient({ serverUrl: keys.server.url })
    await client.kv().createBucket({ name: "orders" })
    const bucket = client.kv().bucket("orders")
    const seen: Array<string> = []
    const watcher = bucket.watch({ onUpdate: ({ key }) => void seen.push(key) })
    open.push({ [Symbol.asyncDispose]: async () => watcher.stop() })
    await watcher.ready
    await bucket.put("a", 1)
    await vi.waitFor(() => assert.deepStrictEqual(seen, ["a"]))

    await client.apiKeys.create({ name: "first" })

    await bucket.put("b", 2)
    await vi.waitFor(() => assert.deepStrictEqual(seen, ["a", "b"]), 10_000)
  })

  it("keeps its key if it was created with one", async () => {
    const keys = await opened(Keys.start())
    await using client = createClient({ serverUrl: keys.server.url, apiKey: BOOTSTRAP })
    await client.apiKeys.create({ name: "other", envId: "*", role_ids: [] })
    assert.deepStrictEqual((await client.listRuns()).runs, [])
  })
})
