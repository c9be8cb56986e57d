/** Every call answers hostile bodies with a message, in time, and continues. */
import process from "node:process"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import { pathOf } from "../../src/Protocol/Http/CallAddress.ts"
import { callSpecs } from "../../src/Protocol/AllCalls.ts"
import { freePort, type Running, Terminal } from "../Cli/Terminal.ts"
import { Vitals } from "../security/fuzz/Vitals.ts"
import { type Ironflow, start } from "./Ironflow.ts"
import { type Answer, send as sendRaw } from "./RawClient.ts"
import { isLong } from "../Long.ts"

const BOOTSTRAP = "bootstrap-key-of-the-operator-0123456789"
const authorized = { "content-type": "application/json", authorization: `Bearer ${BOOTSTRAP}` }

const nested = (levels: number): string => "[".repeat(levels) + "]".repeat(levels)

let server: Ironflow
beforeAll(async () => {
  vi.stubEnv("IRONFLOW_MASTER_KEY", "ab".repeat(32))
  server = await start({ bootstrapKey: BOOTSTRAP })
})
afterAll(async () => {
  await server.close()
  vi.unstubAllEnvs()
})

const send = (method: string, path: string, body?: unknown): Promise<Answer> =>
  sendRaw(server.url, method, path, body, authorized)

const variables = {
  id: "w-1",
  name: "orders",
  bucket: "orders",
  key: "a",
  runId: "run_1",
  jobId: "job_1",
  stepId: "run_1:charge",
  policyId: "p-1",
  token: "t"
}

/** A valid value for every field of any call. */
const usual: { readonly [field: string]: unknown } = {
  name: "orders",
  event: "order.placed",
  topic: "orders",
  pattern: "events:order.*",
  id: "orders",
  data: {},
  events: [{ event: "order.placed", name: "order.placed", data: {} }],
  entity_id: "o-1",
  entity_type: "order",
  expected_version: -1,
  run_id: "run_1",
  runId: "run_1",
  step_id: "run_1:charge",
  output: {},
  status: "active",
  session: "ses_1",
  batch: 1,
  reports: [],
  triggers: [{ event: "order.placed" }],
  effect: "allow",
  actions: "emit:*",
  resources: "*",
  org_id: "org",
  value: "x",
  url: "https://shop.example.com",
  limit: 10,
  worker_id: "w-1",
  hostname: "h",
  function_ids: [],
  max_concurrent_jobs: 1,
  mode: "managed",
  projection: "orders",
  items: [{ name: "orders" }]
}

const odd: ReadonlyArray<readonly [string, string]> = [
  ["an object without a text", '{"toString":1,"valueOf":1,"toJSON":1}'],
  ["arrays in arrays", nested(90)],
  ["a list of odd things", '[null,{"toString":1},[[]],"__proto__",1e308]'],
  ["null", "null"],
  ["a very long text", JSON.stringify("x".repeat(5000))],
  ["a number", "-1e308"],
  ["an object of objects", '{"__proto__":{"a":1},"constructor":{"prototype":{}},"a":{"toString":1}}']
]

/** The odd values that each field gets; in the short form of the tests one of them. */
const oddest = odd.slice(0, 3)
const oddFor = (nth: number) => (isLong ? oddest : oddest.slice(nth % 3, (nth % 3) + 1))

let documents: Answer["body"]

/** The fields that the documents name for a call; all known fields when they name none. */
const fieldsOf = async (call: { readonly method: string; readonly path: string }) => {
  documents ??= (await send("GET", "/openapi.json")).body
  const api = documents
  const path = call.path.replace(/:(\w+)\*?/g, "{$1}")
  const schema =
    api.paths[path]?.[call.method.toLowerCase()]?.requestBody?.content["application/json"]?.schema
  const named = schema?.$ref === undefined ? schema : api.components.schemas[schema.$ref.split("/").at(-1)]
  return Object.keys(named?.properties ?? usual)
}

const calls = Object.entries(callSpecs).filter(([, { method }]) => method !== "GET")

describe("a call with odd values", () => {
  it.each(calls)("is answered with an error other than 500: %s", async (_name, call) => {
    const path = pathOf(call, variables)
    for (const [what, value] of odd) {
      const whole = await send(call.method, path, value)
      assert.notStrictEqual(whole.status, 500, `${what} as the body: ${whole.text}`)
    }
    const fields = await fieldsOf(call)
    for (const [nth, field] of fields.entries()) {
      for (const [what, value] of oddFor(nth)) {
        const members = Object.entries({ ...usual, [field]: undefined }).filter(
          ([, one]) => one !== undefined
        )
        const rest = members.map(([name, one]) => `${JSON.stringify(name)}:${JSON.stringify(one)}`)
        const body = `{${[...rest, `${JSON.stringify(field)}:${value}`].join(",")}}`
        const { status, text } = await send(call.method, path, body)
        assert.notStrictEqual(status, 500, `${what} as ${field}: ${text}`)
      }
    }
  })

  it.each(calls)("of 10,000 levels is refused with the limit: %s", async (_name, call) => {
    const path = pathOf(call, variables)
    const answer = await send(call.method, path, `{"name":"a","data":${nested(10_000)}}`)

    assert.notStrictEqual(answer.status, 500, answer.text)
    if (call.method === "DELETE" || path.endsWith("/Health")) return
    assert.strictEqual(answer.status, 400)
    assert.match(answer.text, /Nesting of .* is too large: more than 100 levels/)
  })

  it("may have 100 levels of data, and no more", async () => {
    const emit = (levels: number) =>
      send("POST", "/ironflow.v1.IronflowService/Trigger", `{"event":"a.b","data":${nested(levels)}}`)

    assert.strictEqual((await emit(100)).status, 200)
    const refused = await emit(101)
    assert.strictEqual(refused.status, 400)
    assert.include(refused.text, "more than 100 levels")
  })

  it("does not count brackets in texts", async () => {
    const { status } = await send("POST", "/ironflow.v1.IronflowService/Trigger", {
      event: "a.b",
      data: { text: `${"[{".repeat(1000)} \\" ${'"\\'.repeat(1000)}` }
    })

    assert.strictEqual(status, 200)
  })
})

describe("limits are checked first", () => {
  const restricted = async (): Promise<Record<string, string>> => {
    const { body: policy } = await send("POST", "/api/v1/policies", {
      name: `orders only ${Math.random()}`,
      effect: "allow",
      actions: "emit:event",
      resources: "event:*a*b*c*d*e*f"
    })
    const { body: role } = await send("POST", "/api/v1/roles", { name: `r ${Math.random()}` })
    await send("POST", `/api/v1/roles/${role.id}/policies`, { policy_id: policy.id })
    const { body: key } = await send("POST", "/api/v1/apikeys", { name: "k", role_ids: [role.id] })
    return { "content-type": "application/json", authorization: `Bearer ${key.secret}` }
  }
  /** Measures processor time of this process, in which the server runs too. */
  const within = async (ms: number, answer: Promise<Answer>): Promise<Answer> => {
    const since = process.cpuUsage()
    const answered = await answer
    const { system, user } = process.cpuUsage(since)
    assert.isBelow((system + user) / 1000, ms)
    return answered
  }

  it("so that a name of 4 MB is not compared with the patterns of policies", async () => {
    const headers = await restricted()
    const body = JSON.stringify({ event: "abcde".repeat(800_000), data: {} })

    const { status, text } = await within(
      2000,
      sendRaw(server.url, "POST", "/ironflow.v1.IronflowService/Trigger", body, headers)
    )

    assert.strictEqual(status, 400)
    assert.match(text, /The name .* is too large: 4000000 characters, and the limit is 1024/)
  })

  it("so that a batch of 130,000 events is refused before each event is checked", async () => {
    const headers = await restricted()
    const events = Array.from({ length: 130_000 }, (_, i) => ({ event: `a${i}` }))

    const { status, text } = await within(
      2000,
      sendRaw(server.url, "POST", "/ironflow.v1.IronflowService/TriggerBatch", { events }, headers)
    )

    assert.strictEqual(status, 400)
    assert.include(text, "130000")
    assert.include(text, "1000")
  })
})

describe("a running engine", () => {
  const terminal = new Terminal()
  let url: string
  let engine: Running
  beforeAll(async () => {
    const port = await freePort()
    url = `http://127.0.0.1:${port}`
    engine = terminal.start(["serve", "--port", String(port)], {
      env: { IRONFLOW_BOOTSTRAP_KEY: BOOTSTRAP }
    })
    await engine.until(`Ironflow listens at ${url}`)
  }, 40_000)
  afterAll(() => terminal[Symbol.asyncDispose]())

  it.each(["/ironflow.v1.IronflowService/Health", "/ironflow.v1.IronflowService/Trigger"])(
    "answers other requests while %s gets twelve bodies of 4.4 MB of brackets",
    async (path) => {
      const bodies = Array.from({ length: 12 }, () =>
        sendRaw(url, "POST", path, "[".repeat(4_400_000), { "content-type": "application/json" }).catch(
          // it may be refused before it has been sent completely
          () => undefined
        )
      )

      const vitals = new Vitals(engine.pid)
      let slowest = 0
      let open = true
      const all = Promise.all(bodies).then(() => (open = false))
      while (open) {
        const { answer, workedMs } = await vitals.check(url, 20_000)
        assert.strictEqual(answer, 200)
        slowest = Math.max(slowest, workedMs)
      }
      await all

      // in processor time, since other programs use the machine too
      assert.isBelow(slowest, 1500)
    }
  )
})
