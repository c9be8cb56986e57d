/**
 * Every call and socket, for every kind of caller without the right: each is refused as documented, and changes nothing.
 * The calls come from the tables of the engine, and the expectations from `Calls.ts`: a new call or socket without an
 * entry fails.
 */
import { once } from "node:events"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import WebSocket from "ws"
import { actions } from "../../src/Policy.ts"
import { pathOf } from "../../src/Protocol/Http/CallAddress.ts"
import { accessTo } from "../../src/Protocol/CallSpec.ts"
import { descriptions } from "../../src/Protocol/Server.ts"
import { callSpecs, type SocketName, sockets } from "../../src/Protocol/AllCalls.ts"
import { temporaryDatabase } from "../wire/Ironflow.ts"
import { RawSocket } from "../wire/RawSocket.ts"
import { RawEvents } from "../wire/RawEvents.ts"
import { RawStream } from "../wire/RawStream.ts"
import { registrationOf } from "../wire/RawTurnWorker.ts"
import { type Call, callsFor, callNames, pathFor } from "./Calls.ts"
import { BOOTSTRAP, Keys, type PolicyOf } from "./Keys.ts"
import { Stored } from "./Stored.ts"

const everything: PolicyOf = { actions: "*" }

/** Keys that lack a right. Each is made once and used for many calls. */
class LimitedKeys {
  readonly #keys: Keys
  readonly #made = new Map<string, Promise<string>>()

  constructor(keys: Keys) {
    this.#keys = keys
  }

  #once(name: string, make: () => Promise<string>): Promise<string> {
    const made = this.#made.get(name) ?? make()
    this.#made.set(name, made)
    return made
  }

  /** A key that has all rights but this one. */
  without(action: string): Promise<string> {
    const others = actions.filter((one) => one !== action).join(", ")
    return this.#once(`without ${action}`, () => this.#keys.keyThat({ actions: others }))
  }

  /** A key that has all rights, and is denied the action on the resource. */
  denied(action: string, resource: string): Promise<string> {
    const denied: PolicyOf = { effect: "deny", actions: action, resources: resource }
    return this.#once(`denied ${action} ${resource}`, () => this.#keys.keyThat(everything, denied))
  }

  elsewhere(): Promise<string> {
    return this.#once("elsewhere", async () => {
      const { key } = await this.#keys.makeKey({ env_id: "env_staging", role_ids: ["role_admin"] })
      return key
    })
  }
}

vi.stubEnv("IRONFLOW_MASTER_KEY", "ab".repeat(32))
const database = temporaryDatabase()
let keys: Keys
let limited: LimitedKeys
let calls: ReturnType<typeof callsFor>
let stored: Stored

beforeAll(async () => {
  keys = await Keys.start({ filename: database.filename })
  limited = new LimitedKeys(keys)
  const [fn] = registrationOf("worker-0", [{ id: "ship-order", event: "order.placed" }]).functions
  await keys.ok(keys.rpc("IronflowService/RegisterFunction", { ...fn, recording: true }))
  const { eventId, runIds } = await keys.ok(
    keys.rpc("IronflowService/Trigger", { event: "order.placed", data: {} })
  )
  const { id: org } = await keys.ok(keys.send("POST", "/api/v1/orgs", { name: "victim" }))
  const { id: key } = await keys.makeKey({ name: "victim" })
  const role = await keys.makeRole()
  const policy = await keys.makePolicy({ actions: "run:read" })
  await keys.ok(keys.send("POST", "/api/v1/kv/buckets", { name: "orders" }))
  calls = callsFor({ run: runIds[0], event: eventId, key, org, role, policy })
  stored = new Stored(database.filename)
}, 40_000)
afterAll(async () => {
  stored[Symbol.dispose]()
  await keys[Symbol.asyncDispose]()
  database[Symbol.dispose]()
  vi.unstubAllEnvs()
})

/** Makes all calls, one after the other. Fails for those that get another status or change something. */
const refuse = async (
  status: number,
  ask: (name: keyof typeof calls, call: Call) => Promise<number | undefined>
): Promise<void> => {
  const complaints: Array<string> = []
  let rows = stored.rows()
  let { version } = stored
  for (const name of callNames) {
    const answered = await ask(name, calls[name])
    if (answered !== undefined && answered !== status) complaints.push(`${name}: ${answered}`)
    if (stored.version === version) continue
    version = stored.version
    const now = stored.rows()
    const known = new Set(rows)
    const changes = now.filter((row) => !known.has(row))
    if (changes.length > 0 || now.length !== rows.length)
      complaints.push(`${name} changed ${changes.join(", ")}`)
    rows = now
  }
  assert.deepStrictEqual(complaints, [])
}

const send = async (name: keyof typeof calls, key: string, environment?: string): Promise<number> => {
  const call = calls[name]
  const options = environment === undefined ? { key } : { key, environment }
  return (await keys.send(callSpecs[name].method, pathFor(name, call), call.body, options)).status
}

/** The right that the call needs; `undefined` if it is public. */
const guarded = (name: keyof typeof calls): readonly [action: string, resource: string] | undefined => {
  const { may } = calls[name]
  return may === "public" ? undefined : may
}

describe("every call", () => {
  it("has an entry in `Calls.ts` with its documented right", () => {
    assert.sameMembers(Object.keys(calls), Object.keys(callSpecs))
    for (const name of callNames) {
      const rule = accessTo(callSpecs[name])
      const stated = guarded(name)
      assert.deepStrictEqual(
        [name, stated?.[0], stated?.[1].split(":")[0]],
        [
          name,
          typeof rule === "string" ? undefined : rule.action,
          typeof rule === "string" ? undefined : rule.resource.kind
        ]
      )
    }
  })

  it("is public only when it reports health", () => {
    const open = callNames.filter((name) => calls[name].may === "public")

    assert.deepStrictEqual(open, ["health", "restHealth", "ready"])
  })

  it("refuses a caller without a key", () =>
    refuse(401, (name) => (guarded(name) === undefined ? Promise.resolve(undefined) : send(name, ""))))

  it("refuses a wrong key", () =>
    refuse(401, (name) =>
      guarded(name) === undefined ? Promise.resolve(undefined) : send(name, "ifk_wrong")
    ))

  it("refuses a key of another environment", async () => {
    const key = await limited.elsewhere()
    await refuse(403, async (name) =>
      guarded(name) === undefined ? undefined : await send(name, key, "default")
    )
  })

  it("refuses a key that has all other rights", async () => {
    for (const action of new Set(callNames.map((name) => guarded(name)?.[0]))) {
      if (action !== undefined) await limited.without(action)
    }
    await refuse(403, async (name) => {
      const stated = guarded(name)
      return stated === undefined ? undefined : await send(name, await limited.without(stated[0]))
    })
  })

  it("refuses a key that is denied only this", async () => {
    // a denial for all items of a kind would hide the denial for one item
    const deniedOf = (isAll: boolean) =>
      keys.keyThat(
        everything,
        ...callNames.flatMap((name): ReadonlyArray<PolicyOf> => {
          const [actions, resources] = guarded(name) ?? ["", ""]
          return actions !== "" && resources.endsWith(":*") === isAll
            ? [{ effect: "deny", actions, resources }]
            : []
        })
      )
    const [one, all] = [await deniedOf(false), await deniedOf(true)]

    await refuse(403, async (name) => {
      const stated = guarded(name)
      return stated === undefined ? undefined : await send(name, stated[1].endsWith(":*") ? all : one)
    })
  })

  it("refuses a key that has ended since the request began", async () => {
    const { id, key } = await keys.makeKey({ role_ids: ["role_admin"], env_id: "*" })
    const begun = await Promise.all(
      callNames
        .filter((name) => guarded(name) !== undefined)
        .map(async (name) => {
          const { method } = callSpecs[name]
          const body = calls[name].body === undefined ? "" : JSON.stringify(calls[name].body)
          const head =
            `${method} ${pathFor(name, calls[name])} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n` +
            `Authorization: Bearer ${key}\r\n`
          const socket = await RawSocket.open(keys.server.port)
          // the server has the head of a request with a body; a request without a body still has an incomplete head
          const hasBody = body !== ""
          const first = hasBody
            ? `${head}Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nExpect: 100-continue\r\n\r\n`
            : head
          await socket.send(first)
          if (hasBody) await socket.until("HTTP/1.1 100 Continue")
          return [name, { socket, rest: hasBody ? body : "\r\n" }] as const
        })
    )
    const open = new Map<string, (typeof begun)[number][1]>(begun)
    await keys.ok(keys.send("DELETE", `/api/v1/apikeys/${id}`))

    await refuse(401, async (name) => {
      const request = open.get(name)
      if (request === undefined) return undefined
      await request.socket.send(request.rest)
      const answer = await request.socket.all()
      request.socket[Symbol.dispose]()
      return Number(/HTTP\/1\.1 (?!100)(\d{3})/.exec(answer)?.[1])
    })
  })

  it("answers an allowed key with the status in `Calls.ts`", async () => {
    const inOrder = Object.keys(calls) as typeof callNames
    const answered: Array<string> = []
    for (const name of inOrder) answered.push(`${name} ${await send(name, BOOTSTRAP)}`)

    assert.deepStrictEqual(
      answered,
      inOrder.map((name) => `${name} ${calls[name].answers ?? 200}`)
    )
  })
})

describe("every description of the server", () => {
  it.each(Object.values(descriptions))(
    "$path needs a key that may read the engine",
    async ({ method, path }) => {
      const status = async (key: string, environment?: string) =>
        (await keys.send(method, path, undefined, environment === undefined ? { key } : { key, environment }))
          .status

      assert.deepStrictEqual(
        [
          await status(""),
          await status("ifk_wrong"),
          await status(await limited.elsewhere(), "default"),
          await status(await limited.without("engine:read")),
          await status(await limited.denied("engine:read", "engine:*")),
          await status(BOOTSTRAP)
        ],
        [401, 401, 403, 403, 403, 200]
      )
    }
  )
})

// ---------------------------------------------------------------------------------------------------------------------
// Sockets
// ---------------------------------------------------------------------------------------------------------------------

/** The result of a socket: the status of its refusal, its close code, or its frames. */
type End = number | string

interface Socket {
  readonly variables?: { readonly [name: string]: string }
  readonly action: string
  readonly resource: string
  /** A key without the right. The channel itself needs none: its calls are refused one by one. */
  readonly missing: End
  /** A key that is denied the calls on it. */
  readonly denied: End
  /** Makes the call on the open socket, and returns how it is refused. */
  readonly ask?: (socket: WebSocket) => Promise<End>
}

const next = async (socket: WebSocket): Promise<string> => {
  const first = await Promise.race([
    once(socket, "message").then(([data]) => String(data)),
    once(socket, "close").then(([code]) => `closed with ${code}`)
  ])
  return first
}

const rows: { readonly [Name in SocketName]: Socket } = {
  subscriptions: {
    action: "subscription:read",
    resource: "subscription:events:order.*",
    missing: 403,
    denied: "UNAUTHORIZED",
    ask: async (socket) => {
      socket.send(JSON.stringify({ type: "subscribe", subscription: { pattern: "events:order.*" } }))
      return JSON.parse(await next(socket)).results[0].code
    }
  },
  channel: {
    action: "run:read",
    resource: "run:*",
    missing: "403",
    denied: "403",
    ask: async (socket) => {
      socket.send("1 POST /ironflow.v1.IronflowService/ListRuns 2\n{}")
      return (await next(socket)).split(" ")[1] ?? ""
    }
  },
  workers: {
    action: "worker:run",
    resource: "worker:worker-1",
    missing: 403,
    denied: "UNAUTHORIZED",
    ask: async (socket) => {
      socket.send(
        JSON.stringify({ _tag: "Request", id: "1", tag: "work", payload: registerTurns, headers: [] })
      )
      const answer = await next(socket)
      return /UNAUTHORIZED/.exec(answer)?.[0] ?? answer
    }
  },
  watchKeys: {
    variables: { bucket: "orders" },
    action: "kv:read",
    resource: "bucket:orders",
    missing: 403,
    denied: 403
  },
  watchConfig: {
    variables: { name: "prices" },
    action: "config:read",
    resource: "config:prices",
    missing: 403,
    denied: 403
  }
}

const registerTurns = {
  worker_id: "worker-1",
  function_ids: [],
  capabilities: { turns: 1 },
  registration: registrationOf("worker-1", [{ id: "ship-order", event: "order.placed" }]),
  instance: "instance-1"
}

const opened: Array<WebSocket> = []
afterAll(() => {
  for (const socket of opened) socket.terminate()
})

/** Opens the socket. Returns it, or the status of its refusal. */
const open = async (name: SocketName, key: string, query = ""): Promise<WebSocket | number> => {
  const path = pathOf(sockets[name], rows[name].variables)
  const socket = new WebSocket(keys.server.url.replace("http", "ws") + path + query, {
    headers: key === "" ? {} : { authorization: `Bearer ${key}` }
  })
  opened.push(socket)
  return await new Promise((resolve, reject) => {
    socket.once("open", () => resolve(socket))
    socket.once("unexpected-response", (_request, response) => resolve(response.statusCode ?? 0))
    socket.once("error", reject)
  })
}

const endOf = async (name: SocketName, key: string, query?: string): Promise<End> => {
  const socket = await open(name, key, query)
  if (typeof socket === "number") return socket
  return (await rows[name].ask?.(socket)) ?? "open"
}

describe.each(Object.keys(sockets) as ReadonlyArray<SocketName>)("the socket %s", (name) => {
  it("is refused to every key without the right, and changes nothing", async () => {
    const row = rows[name]
    const { action, resource } = row
    const [elsewhere, missing, denied] = [
      await limited.elsewhere(),
      await limited.without(action),
      await limited.denied(action, resource)
    ]
    const before = stored.rows()

    assert.deepStrictEqual(
      {
        noKey: await endOf(name, ""),
        wrong: await endOf(name, "ifk_wrong"),
        wrongInQuery: await endOf(name, "", "?token=ifk_wrong"),
        elsewhere: await endOf(name, elsewhere, "?env=default"),
        missing: await endOf(name, missing),
        denied: await endOf(name, denied)
      },
      {
        noKey: 401,
        wrong: 401,
        wrongInQuery: 401,
        elsewhere: 403,
        missing: row.missing,
        denied: row.denied
      }
    )
    assert.deepStrictEqual(stored.rows(), before)
  })

  it("is closed with 1008 when its key ends", async () => {
    const { id, key } = await keys.makeKey({ role_ids: ["role_admin"] })
    const socket = await open(name, key)
    if (typeof socket === "number") throw new Error(`It was refused with ${socket}`)
    const closed = once(socket, "close")
    await keys.ok(keys.send("DELETE", `/api/v1/apikeys/${id}`))

    assert.strictEqual((await closed)[0], 1008)
  })
})

describe("the stream of a ConnectRPC worker", () => {
  const refusalOf = async (headers: Record<string, string>): Promise<string | undefined> => {
    await using stream = new RawStream(keys.server.url, headers)
    stream.register("worker-1", ["ship-order"])
    await stream.closed()
    return stream.end?.error?.code
  }
  const bearer = (key: string) => ({ authorization: `Bearer ${key}` })

  it("is refused to every key without the right, and changes nothing", async () => {
    const [elsewhere, missing, denied] = [
      await limited.elsewhere(),
      await limited.without("worker:run"),
      await limited.denied("worker:run", "worker:worker-1")
    ]
    const before = stored.rows()

    assert.deepStrictEqual(
      [
        await refusalOf({}),
        await refusalOf(bearer("ifk_wrong")),
        await refusalOf({ ...bearer(elsewhere), "x-ironflow-environment": "default" }),
        await refusalOf(bearer(missing)),
        await refusalOf(bearer(denied))
      ],
      ["unauthenticated", "unauthenticated", "permission_denied", "permission_denied", "permission_denied"]
    )
    assert.deepStrictEqual(stored.rows(), before)
  })

  it("ends when its key ends", async () => {
    const { id, key } = await keys.makeKey({ role_ids: ["role_admin"] })
    await using stream = new RawStream(keys.server.url, bearer(key))
    await once(stream.stream, "response")
    await keys.ok(keys.send("DELETE", `/api/v1/apikeys/${id}`))
    await stream.closed()

    assert.strictEqual(stream.end?.error?.code, "unauthenticated")
  })
})

/** A request for each call that is answered with a stream, and the resource that it needs. */
const streamed = {
  subscribe: {
    message: { pattern: "events:order.*" },
    method: "Subscribe",
    resource: "subscription:events:order.*"
  },
  joinConsumerGroup: {
    message: { groupName: "readers" },
    method: "JoinConsumerGroup",
    resource: "group:readers"
  }
} as const

it("every streaming call is tested here", () => {
  const names = callNames.filter((name) => "streams" in callSpecs[name])

  assert.sameMembers(names, Object.keys(streamed))
})

describe.each(Object.values(streamed))("a stream of $method", ({ message, method, resource }) => {
  const open = (headers: Record<string, string>) =>
    RawEvents.open(keys.server.url, message, { headers, method })
  const refusalOf = async (headers: Record<string, string>): Promise<string | undefined> => {
    using events = await open(headers)
    return await events.over()
  }
  const bearer = (key: string) => ({ authorization: `Bearer ${key}` })
  beforeAll(async () => {
    const group = { name: "readers", pattern: "events:order.*" }
    await keys.send("POST", "/api/v1/consumer-groups", group)
  })

  it("is refused to every key without the right, and changes nothing", async () => {
    const [elsewhere, missing, denied, deniedEvents] = [
      await limited.elsewhere(),
      await limited.without("subscription:read"),
      await limited.denied("subscription:read", resource),
      await limited.denied("subscription:read", "subscription:events:order.paid")
    ]
    const before = stored.rows()

    assert.deepStrictEqual(
      [
        await refusalOf({}),
        await refusalOf(bearer("ifk_wrong")),
        await refusalOf({ ...bearer(elsewhere), "x-ironflow-environment": "default" }),
        await refusalOf(bearer(missing)),
        await refusalOf(bearer(denied)),
        await refusalOf(bearer(deniedEvents))
      ],
      [
        "unauthenticated",
        "unauthenticated",
        "permission_denied",
        "permission_denied",
        "permission_denied",
        "permission_denied"
      ]
    )
    assert.deepStrictEqual(stored.rows(), before)
  })

  it("ends when its key ends", async () => {
    const { id, key } = await keys.makeKey({ role_ids: ["role_admin"] })
    using events = await open(bearer(key))
    await keys.ok(keys.send("DELETE", `/api/v1/apikeys/${id}`))

    assert.strictEqual(await events.over(), "unauthenticated")
  })

  it("ends with the policy that allowed it, and survives other changes", async () => {
    const role = await keys.makeRole()
    const policy = await keys.makePolicy({ actions: "subscription:read" })
    await keys.assign(role, policy)
    const { key } = await keys.makeKey({ role_ids: [role] })
    using events = await open(bearer(key))
    await keys.makeRole({ actions: "run:read" })
    await keys.ok(keys.rpc("IronflowService/Trigger", { event: "order.placed", data: {} }))
    await events.take(1)

    await keys.remove(role, policy)

    assert.strictEqual(await events.over(), "permission_denied")
  })
})

describe("every call of the server", () => {
  it("is in the tables", () => {
    const folder = join(import.meta.dirname, "../../src/Engine")
    const literal = /\b(?:path|spec|address): *(?:"|`|\{)/
    const found = readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts"))
      .filter((file) => literal.test(readFileSync(join(folder, file), "utf8")))

    assert.deepStrictEqual(found, [])
  })
})
