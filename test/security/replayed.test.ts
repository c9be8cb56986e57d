/**
 * Attacks that once stopped an engine or got around its access rules, sent to a real `ironflow serve` with and without keys.
 * Each gets a clear answer. Meanwhile a client and a worker continue to work, and another process checks that the server stays
 * fast and small.
 */
import fs from "node:fs"
import http from "node:http"
import http2 from "node:http2"
import net from "node:net"
import os from "node:os"
import path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import WebSocket from "ws"
import { freePort, Terminal } from "../Cli/Terminal.ts"
import { listen } from "../Serve/Hosts.ts"
import { registrationOf } from "../wire/RawTurnWorker.ts"
import { BOOTSTRAP } from "./Keys.ts"
import { Watcher } from "./fuzz/Watched.ts"

const service = "/ironflow.v1.IronflowService"
const pubSub = "/ironflow.v1.PubSubService"
const streams = "/ironflow.v1.EntityStreamService"

/** The server that is attacked, and its keys, which are empty for a server without keys. */
interface Target {
  readonly url: string
  readonly port: number
  readonly operator: string
  /** A key with `role_viewer`. */
  readonly viewer: string
  /** A key that may do everything except what its policies deny. */
  readonly denied: string
}

type Send = (target: Target) => Promise<string>
type Attack = readonly [name: string, send: Send, answer: RegExp, mode?: "with keys" | "without keys"]

// ---------------------------------------------------------------------------------------------------------------------
// Ways to send
// ---------------------------------------------------------------------------------------------------------------------

const authorization = (key: string): Record<string, string> =>
  key === "" ? {} : { authorization: `Bearer ${key}` }

/** The answer as `status text`. */
const ask = async (
  { operator, url }: Target,
  method: string,
  path: string,
  body?: unknown,
  { headers, key = operator }: { readonly key?: string; readonly headers?: Record<string, string> } = {}
): Promise<string> => {
  const response = await fetch(url + path, {
    method,
    headers: { "content-type": "application/json", ...authorization(key), ...headers },
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) })
  })
  return `${response.status} ${await response.text()}`
}

const post =
  (path: string, body: unknown, key?: keyof Target): Send =>
  (target) =>
    ask(target, "POST", path, body, key === undefined ? {} : { key: String(target[key]) })

/** Sends a frame over a socket. The answer is the next frame, or how the socket closes. */
const sendFrame =
  (path: string, frame: string, key: "operator" | "viewer" = "operator"): Send =>
  async (target) => {
    const socket = new WebSocket(target.url.replace("http", "ws") + path, {
      headers: authorization(target[key])
    })
    socket.on("error", () => undefined)
    try {
      await new Promise((resolve) => socket.once("open", resolve))
      const received = new Promise<string>((resolve) => {
        socket.once("message", (data) => resolve(String(data)))
        socket.once("close", (code, why) => resolve(`closed ${code} ${String(why)}`))
      })
      socket.send(frame)
      return await received
    } finally {
      socket.terminate()
    }
  }

const channel = (method: string, path: string, body: string): Send =>
  sendFrame("/api/v1/channel", `1 ${method} ${path} ${Buffer.byteLength(body)}\n${body}`)

/** Sends text on a new connection. The answer is all that comes until the connection ends. */
const bytes =
  (text: (target: Target) => string): Send =>
  (target) =>
    new Promise((resolve, reject) => {
      const socket = net.connect(target.port, "127.0.0.1", () => socket.write(text(target)))
      let received = ""
      socket.on("data", (chunk) => (received += chunk)).on("error", reject)
      socket.on("close", () => resolve(received))
    })

/** The status of a request over HTTP/2. */
const overHttp2 =
  (headers: Record<string, string>): Send =>
  (target) =>
    new Promise((resolve, reject) => {
      const session = http2.connect(target.url)
      const stream = session.request({
        ":path": "/api/v1/functions",
        ...authorization(target.operator),
        ...headers
      })
      let answer = ""
      let status = 0
      stream.on("response", (response) => (status = Number(response[":status"])))
      stream.on("data", (chunk) => (answer += chunk)).on("error", reject)
      stream.on("close", () => {
        session.destroy()
        resolve(`${status} ${answer}`)
      })
    })

/** Sends a request whose body is completed only after `meanwhile`. */
const interrupted = async (
  { port }: Target,
  key: string,
  path: string,
  body: string,
  meanwhile: () => Promise<unknown>
): Promise<string> => {
  const request = http.request({
    port,
    host: "127.0.0.1",
    method: "POST",
    path,
    headers: {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
      ...authorization(key)
    }
  })
  const answered = new Promise<string>((resolve, reject) => {
    request.on("error", reject)
    request.on("response", (response) => {
      let text = ""
      response.on("data", (chunk) => (text += chunk))
      response.on("end", () => resolve(`${response.statusCode} ${text}`))
    })
  })
  request.write(body.slice(0, 1))
  // `meanwhile` makes a request; when that is answered, the server has read this head
  await meanwhile()
  request.end(body.slice(1))
  return await answered
}

// ---------------------------------------------------------------------------------------------------------------------
// What is sent
// ---------------------------------------------------------------------------------------------------------------------

const deep = "[".repeat(10_000) + "]".repeat(10_000)
const MiB = 1024 * 1024
/** Twelve bodies of 4.4 MB at once, each kept as chunks, as a whole and as text, take half of this. */
const RSS_MB = 350
/** On a quiet machine it is less than a second, but other programs use the machine too. */
const MOST_MS = 3000

/** The JSON of an object, with `json` in place of `"@"`. */
const withJson = (value: object, json: string): string => JSON.stringify(value).replace('"@"', json)

const odd: ReadonlyArray<readonly [string, string]> = [
  ["20 KB of nested lists", deep],
  ["an object with toString", '{"toString":1}'],
  ["an object with toJSON and valueOf", '{"toJSON":1,"valueOf":1,"constructor":1}'],
  ["an object with __proto__", '{"__proto__":{"toString":1}}']
]

/** A frame for each field and each odd value, with the value in the field. */
const frames = (
  where: string,
  path: string,
  fields: Readonly<Record<string, object>>,
  answer: RegExp,
  key?: "viewer"
): ReadonlyArray<Attack> =>
  odd.flatMap(([what, json]) =>
    Object.entries(fields).map(([field, frame]): Attack => [
      `${what} as \`${field}\` of a frame of ${where}`,
      sendFrame(path, withJson(frame, json), key),
      // unknown options are ignored
      field === "options" && json !== deep ? /"status":"ok"/ : answer
    ])
  )

const pattern = "events:a"
const subscriptionFields = {
  type: { type: "@" },
  subscription: { type: "subscribe", subscription: "@" },
  subscriptions: { type: "subscribe", subscriptions: "@" },
  pattern: { type: "subscribe", subscription: { pattern: "@" } },
  options: { type: "subscribe", subscription: { pattern, options: "@" } },
  filter: { type: "subscribe", subscription: { pattern, options: { filter: "@" } } },
  consumerGroup: { type: "subscribe", subscription: { pattern, options: { consumerGroup: "@" } } },
  patterns: { type: "unsubscribe", patterns: "@" },
  subscriptionId: { type: "ack", subscriptionId: "@", eventId: "e" },
  eventId: { type: "ack", subscriptionId: "s", eventId: "@" }
}
const request = { _tag: "Request", id: "1", tag: "work", payload: {}, headers: [] }
const rpcFields = {
  _tag: { ...request, _tag: "@" },
  id: { ...request, id: "@" },
  tag: { ...request, tag: "@" },
  payload: { ...request, payload: "@" },
  headers: { ...request, headers: "@" }
}

const hundred = `[${Array.from({ length: 100 }, (_, i) => i + 1).join()}]`
const loops = (depth: number): string =>
  depth === 0 ? "true" : `${hundred}.all(${"abcd"[depth - 1]}, ${loops(depth - 1)})`

const expressions: Readonly<Record<string, string>> = {
  "four loops over a hundred": loops(4),
  "a search for a long text in a long text": "event.data.text.contains(event.data.part)",
  "ninety sums of lists": `size(${Array(91).fill("event.data.list").join("+")}) > 0`,
  "sums of texts": `size(${Array(60).fill("event.data.text").join("+")}) > 0`
}
const weighty = {
  text: "a".repeat(100_000),
  part: `${"a".repeat(50_000)}b`,
  list: Array.from({ length: 2000 }, (_, i) => i)
}

const emit = (target: Target, name: string): Promise<string> =>
  ask(target, "POST", `${service}/Emit`, { event: name, data: weighty })

/** Subscribes with a filter, and emits an event that it is evaluated for. Returns both answers. */
const filtered =
  (filter: string): Send =>
  async (target) => {
    const socket = new WebSocket(`${target.url.replace("http", "ws")}/ws`, {
      headers: authorization(target.viewer)
    })
    try {
      await new Promise((resolve) => socket.once("open", resolve))
      const received = new Promise<string>((resolve) =>
        socket.once("message", (frame) => resolve(String(frame)))
      )
      socket.send(
        JSON.stringify({
          type: "subscribe",
          subscription: { pattern: "events:weighty.*", options: { filter } }
        })
      )
      return `${await received} ${await emit(target, "weighty.filtered")}`
    } finally {
      socket.terminate()
    }
  }

const triggered =
  (expression: string): Send =>
  async (target) => {
    const id = `fn-${expression.length}`
    const triggers = [{ event: "weighty.triggered", expression }]
    const registered = await ask(target, "POST", `${service}/RegisterFunction`, { id, triggers })
    return `${registered.slice(0, 3)} ${await emit(target, "weighty.triggered")}`
  }

const conditional =
  (condition: string): Send =>
  async (target) => {
    const body = { name: "p", effect: "deny", actions: "emit:*", resources: "event:weighty.*", condition }
    const made = await ask(target, "POST", "/api/v1/policies", body)
    const { id: policy } = JSON.parse(made.slice(4))
    if (policy === undefined) return made
    const { id: role } = JSON.parse((await ask(target, "POST", "/api/v1/roles", { name: "r" })).slice(4))
    const all = { name: "a", effect: "allow", actions: "*", resources: "*" }
    const { id: allows } = JSON.parse((await ask(target, "POST", "/api/v1/policies", all)).slice(4))
    for (const id of [policy, allows])
      await ask(target, "POST", `/api/v1/roles/${role}/policies`, { policy_id: id })
    const key = await makeKey(target, { role_ids: [role] })
    return await ask(
      target,
      "POST",
      `${service}/Emit`,
      { event: "weighty.guarded", data: weighty },
      { key: key.key }
    )
  }

const makeKey = async (
  target: Target,
  input: object
): Promise<{ readonly id: string; readonly key: string }> =>
  JSON.parse((await ask(target, "POST", "/api/v1/apikeys", { name: "test", ...input })).slice(4))

const register = (worker: string, more: object): object => ({
  worker_id: worker,
  hostname: "host-1",
  function_ids: [],
  capabilities: { turns: 1 },
  instance: "instance-1",
  jobs: [],
  registration: registrationOf(worker, []),
  ...more
})

/** Runs a push endpoint with a valid description and this answer to turns. Returns the end of its run. */
const pushed =
  (name: string, answer: string): Send =>
  async (target) => {
    const { functions } = registrationOf("w", [{ id: `push-${name}`, event: `push.${name}` }])
    const description = JSON.stringify({ type: "description", capabilities: { turns: 1 }, functions })
    const endpoint = await listen(async (request: http.IncomingMessage, response: http.ServerResponse) => {
      let received = ""
      for await (const chunk of request) received += chunk
      response.end(received.includes('"describe"') ? description : answer)
    })
    try {
      const registered = await ask(target, "POST", "/api/v1/push/endpoints", { url: endpoint.url })
      if (!registered.startsWith("200")) return registered
      const emitted = await ask(target, "POST", `${service}/Emit`, { event: `push.${name}`, data: {} })
      const [runId] = JSON.parse(emitted.slice(4)).runIds
      return await ask(target, "GET", `/api/v1/runs/${runId}/wait?timeout=20000`)
    } finally {
      await ask(target, "DELETE", `/api/v1/push/endpoints?url=${encodeURIComponent(endpoint.url)}`)
      await endpoint.close()
    }
  }

const tooMuch =
  /"(code|type)":"(LIMIT_EXCEEDED|BODY_TOO_LARGE|resource_exhausted|invalid_argument|VALIDATION_ERROR)"|Nesting|limit is/

const attacks: ReadonlyArray<Attack> = [
  [
    "4.4 MB of [ twelve times at once",
    async (target) => {
      const body = "[".repeat(4_400_000)
      const answers = await Promise.all(
        Array.from({ length: 12 }, () => ask(target, "POST", `${service}/Emit`, body))
      )
      return [...new Set(answers.map((answer) => answer.slice(0, 3)))].join()
    },
    /^4(00|13)$/
  ],

  // frames that ended the process
  ...frames("/ws", "/ws", subscriptionFields, /"(type|status)":"error"|^closed 1\d\d\d ./, "viewer"),
  ...frames(
    "/rpc/worker",
    "/rpc/worker",
    rpcFields,
    /"type":"error".*"message":"..|"_tag":"(Defect|Exit)"|^closed 1\d\d\d ./
  ),
  [
    "a frame of rpc whose headers are null",
    sendFrame("/rpc/worker", JSON.stringify({ ...request, headers: null })),
    /"type":"error".*"message":"..|"_tag":"(Defect|Exit)"|^closed 1\d\d\d ./
  ],
  [
    "a frame of rpc whose headers are a number",
    sendFrame("/rpc/worker", JSON.stringify({ ...request, headers: 7 })),
    /"type":"error".*"message":"..|"_tag":"(Defect|Exit)"|^closed 1\d\d\d ./
  ],
  [
    "a frame of rpc whose headers are a list of odd things",
    sendFrame("/rpc/worker", JSON.stringify({ ...request, headers: [1, null, {}, ["a"], [["b"], 1]] })),
    /"type":"error".*"message":"..|"_tag":"(Defect|Exit)"|^closed 1\d\d\d ./
  ],
  ...odd.map(([what, json]): Attack => [
    `${what} as the body of a call of the channel`,
    channel("POST", `${service}/Emit`, json),
    /^1 400 /
  ]),
  ["20 KB of nested lists as a call of the channel", sendFrame("/api/v1/channel", deep), /^closed 1\d\d\d ./],
  [
    "a call of the channel whose head is 20 KB of nested lists",
    sendFrame("/api/v1/channel", `1 POST ${deep} 2\n{}`),
    /^1 4\d\d |^closed 1\d\d\d ./
  ],

  // expressions that blocked the event loop
  ...Object.entries(expressions).flatMap(([what, text]): ReadonlyArray<Attack> => [
    [`a filter with ${what}`, filtered(text), /"status":"ok".* 200 /],
    [`a trigger with ${what}`, triggered(text), /^200 200 /],
    [`a condition with ${what}`, conditional(text), /^403 .*condition|^400 /, "with keys"]
  ]),

  // access that was decided too early
  [
    "a key that is deleted between the head and the body of its call",
    async (target) => {
      const { id, key } = await makeKey(target, { role_ids: ["role_admin"] })
      return await interrupted(target, key, "/api/v1/apikeys", '{"name":"late"}', () =>
        ask(target, "DELETE", `/api/v1/apikeys/${id}`)
      )
    },
    /^401 /,
    "with keys"
  ],

  // calls that end the access of their own caller
  [
    "a rotation of the key that the channel has",
    async (target) => {
      const { id, key } = await makeKey(target, { role_ids: ["role_admin"] })
      const path = `/api/v1/apikeys/${id}/rotate`
      return await channel("POST", path, '{"overlap":"24h"}')({ ...target, operator: key })
    },
    /^1 200 .*"key":"ifk_/s,
    "with keys"
  ],

  // ways around a denial
  [
    "the list of configurations with a key that is denied one",
    (target) => ask(target, "GET", "/api/v1/config", undefined, { key: target.denied }),
    /^200 (?!.*prod-db).*"open"/s,
    "with keys"
  ],
  [
    "a write of keys that deletes, with a key that may not delete",
    post("/api/v1/kv/buckets/orders/write", { writes: [{ op: "delete", key: "a" }] }, "denied"),
    /^403 /,
    "with keys"
  ],
  [
    "an append of an event that may not be emitted",
    post(
      `${streams}/AppendEvent`,
      { entityId: "o-1", entityType: "order", eventName: "secret.event", data: {} },
      "denied"
    ),
    /^403 /,
    "with keys"
  ],
  [
    "a function with secrets, registered with a key that may not read them",
    post(`${service}/RegisterFunction`, { id: "f", triggers: [], secrets: ["prod-key"] }, "denied"),
    /^403 /,
    "with keys"
  ],
  [
    "the names of secrets with a key that is denied them",
    (target) => ask(target, "GET", "/api/v1/secrets", undefined, { key: target.denied }),
    /^403 |^200 \[\]/,
    "with keys"
  ],

  // keys with more rights than their maker
  [
    "a key that ends later than the key that makes it",
    async (target) => {
      const { key } = await makeKey(target, { role_ids: ["role_admin"], expires_in: "1h" })
      return await ask(
        target,
        "POST",
        "/api/v1/apikeys",
        { name: "more", expires_in: "2h", role_ids: ["role_admin"] },
        { key }
      )
    },
    /^403 .*cannot make a key that ends later/,
    "with keys"
  ],

  // pages of browsers
  [
    "a page of another site",
    (target) =>
      ask(target, "GET", "/api/v1/functions", undefined, { headers: { origin: "https://evil.example.com" } }),
    /^403 /
  ],
  [
    "an image in a page of another site",
    bytes(
      ({ operator, port }) =>
        `GET /api/v1/functions HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: image\r\n${operator === "" ? "" : `Authorization: Bearer ${operator}\r\n`}Connection: close\r\n\r\n`
    ),
    /^HTTP\/1\.1 403 /
  ],
  [
    "two hosts",
    bytes(() => "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n"),
    /^HTTP\/1\.1 400 /
  ],
  [
    "an authority that is not the host, with an origin",
    overHttp2({ ":authority": "127.0.0.1", host: "evil.example.com", origin: "http://evil.example.com" }),
    /^400 .*two hosts/
  ],

  // work and memory that were spent before a limit was checked
  [
    "130,000 names in one batch",
    post(
      `${service}/TriggerBatch`,
      { events: Array.from({ length: 130_000 }, (_, i) => ({ event: `a${i}` })) },
      "denied"
    ),
    tooMuch
  ],
  [
    "a name of 4 MB",
    post(`${service}/Emit`, { event: "e".repeat(4_000_000), data: {} }, "denied"),
    /^400 .*(256|1024) characters/
  ],
  [
    "300,000 names of members",
    post(
      `${service}/Emit`,
      `{"event":"a","data":{${Array.from({ length: 300_000 }, (_, i) => `"${i}":0`).join()}}}`
    ),
    tooMuch
  ],
  [
    "250,000 labels of a worker",
    post(
      "/api/v1/workers/w-1/register",
      register("w-1", {
        labels: Object.fromEntries(Array.from({ length: 250_000 }, (_, i) => [`l${i}`, ""]))
      })
    ),
    tooMuch
  ],
  [
    "a registration of 10 MB",
    post(
      "/api/v1/workers/w-2/register",
      register("w-2", {
        registration: {
          ...registrationOf("w-2", []),
          functions: registrationOf(
            "w-2",
            Array.from({ length: 100 }, (_, i) => ({ id: `f${i}` }))
          ).functions.map((fn) => ({ ...fn, metadata: { note: "n".repeat(100_000) } }))
        }
      })
    ),
    tooMuch
  ],
  [
    "an answer of a push endpoint of 16 MB of [",
    pushed("brackets", "[".repeat(16 * MiB)),
    /^200 .*_FAILED".*"Nesting of the answer is too large/s
  ],
  [
    "an answer of a push endpoint of 16 MB of small values",
    pushed("values", `{"type":"turn","ops":[${"0,".repeat(8 * MiB - 20)}0]}`),
    /^200 .*_FAILED".*"The number of values in the answer is too large/s
  ],
  ["a page of zero items", (target) => ask(target, "GET", "/api/v1/secrets?limit=0"), /^400 /],

  // small values of a wrong type
  [
    "a status of consumer groups that is an object",
    post(`${pubSub}/ListConsumerGroups`, { status: { toString: 1 } }),
    /^400 /
  ],
  [
    "a status of consumer groups that is nested",
    post(`${pubSub}/ListConsumerGroups`, `{"status":${deep}}`),
    /^400 /
  ],
  [
    "an effect of a policy that is nested",
    post(
      "/api/v1/policies",
      `{"name":"p","actions":"*","resources":"*","effect":${"[".repeat(90)}${"]".repeat(90)}}`
    ),
    /^400 /
  ]
]

describe.each(["with keys", "without keys"] as const)("a server %s", (mode) => {
  let watcher: Watcher
  let target: Target
  let folder: string

  beforeAll(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-replayed-"))
    watcher = await Watcher.start({
      folder,
      ...(mode === "with keys" ? { bootstrapKey: BOOTSTRAP } : {}),
      bounds: { healthMs: MOST_MS, loopMs: MOST_MS, rssMb: RSS_MB, runMs: 10_000 }
    })
    const open = {
      url: watcher.url,
      port: Number(new URL(watcher.url).port),
      operator: "",
      viewer: "",
      denied: ""
    }
    target = mode === "with keys" ? await withKeys({ ...open, operator: BOOTSTRAP }) : open
  }, 60_000)

  afterAll(async () => {
    fs.rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  })

  const attacksOfMode = attacks.filter(([, , , only = mode]) => only === mode)
  it.each(attacksOfMode.map(([name, send, answer]) => ({ name, send, answer })))(
    "answers $name",
    async ({ answer, send }) => {
      const answered = await Promise.race([send(target), delay(25_000, "no answer within 25 s")])

      assert.match(answered.slice(0, 100_000), answer, answered.slice(0, 500))

      assert.notMatch(answered, /because of a bug|INTERNAL_ERROR/)
      if (watcher.broken !== undefined) assert.fail(watcher.broken)
    },
    30_000
  )

  it("stays up, fast and small, and another client keeps working", async () => {
    const report = await watcher.end()

    if (watcher.broken !== undefined) assert.fail(watcher.broken)
    assert.isAbove(report?.runs ?? 0, 0)
    assert.isBelow(report?.server.rssMb ?? 1000, RSS_MB)
    assert.isBelow(report?.server.healthMs ?? 10_000, MOST_MS)
  }, 60_000)
})

it("the first key, made over a channel for one environment, is valid for all environments at once", async () => {
  await using terminal = new Terminal()
  const port = await freePort()
  await terminal.start(["serve", "--port", String(port)]).until("listens at")
  const target: Target = { url: `http://127.0.0.1:${port}`, port, operator: "", viewer: "", denied: "" }

  const answer = await channel("POST", "/api/v1/apikeys", '{"name":"first","env_id":"env_staging"}')(target)

  assert.match(answer, /^1 201 .*"env_id":"\*"/s)
  const key = /"key":"(ifk_[^"]+)"/.exec(answer)?.[1] ?? ""
  assert.match(await ask(target, "GET", "/api/v1/functions"), /^401 /)
  assert.match(await ask(target, "POST", "/api/v1/orgs", { name: "Acme" }, { key }), /^201 /)
}, 30_000)

/** Makes the keys of the target: one of a viewer, and one that is denied something of each kind. */
const withKeys = async (open: Target): Promise<Target> => {
  const made = async (path: string, body: object) =>
    JSON.parse((await ask(open, "POST", path, body)).slice(4)) as { readonly id: string }
  const role = await made("/api/v1/roles", { name: "denied" })
  for (const [effect, actions, resources] of [
    ["allow", "*", "*"],
    ["deny", "config:*", "config:prod-*"],
    ["deny", "secret:*", "secret:*"],
    ["deny", "kv:delete", "bucket:*"],
    ["deny", "emit:event", "event:secret.*"]
  ]) {
    const policy = await made("/api/v1/policies", { name: "p", effect, actions, resources })
    await ask(open, "POST", `/api/v1/roles/${role.id}/policies`, { policy_id: policy.id })
  }
  await made("/api/v1/kv/buckets", { name: "orders" })
  for (const name of ["open", "prod-db"]) await made(`/api/v1/config/${name}`, { of: name })
  await made("/api/v1/secrets", { name: "prod-key", value: "x" })
  return {
    ...open,
    viewer: (await makeKey(open, { role_ids: ["role_viewer"] })).key,
    denied: (await makeKey(open, { role_ids: [role.id] })).key
  }
}
