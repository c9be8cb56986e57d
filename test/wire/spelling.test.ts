/** A request with a misspelled member is refused, as the clients refuse it; unknown members are ignored. */
import { afterAll, assert, beforeAll, it } from "vitest"
import { EngineServer } from "../Client/EngineServer.ts"

let server: EngineServer
beforeAll(async () => {
  server = await EngineServer.start()
})
afterAll(() => server[Symbol.asyncDispose]())

const ask = async (line: string, body?: object) => {
  const [method = "", path = ""] = line.split(" ")
  const answer = await fetch(server.url + path, {
    method,
    headers: { "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) })
  })
  return { status: answer.status, text: await answer.text() }
}

const wrong: ReadonlyArray<readonly [line: string, body: object | undefined, message: RegExp]> = [
  ["GET /api/v1/events?nam=order.*", undefined, /has no query parameter .*nam.*: did you mean .*name/],
  ["GET /api/v1/streams?entitytype2=order", undefined, /did you mean .*entity_type/],
  ["GET /api/v1/consumer-groups?statsu=stalled", undefined, /did you mean .*status/],
  ["GET /api/v1/runs?limits=5", undefined, /limits/],
  ["GET /api/v1/secrets?limt=5", undefined, /did you mean .*limit/],
  ["POST /ironflow.v1.IronflowService/Trigger", { event: "a", idempotencykey2: "k" }, /idempotencyKey/],
  ["POST /ironflow.v1.IronflowService/CancelRun", { id: "run_1", reson: "so" }, /did you mean .*reason/],
  ["POST /ironflow.v1.PubSubService/Publish", { topic: "a", data: 1, idempotncyKey: "k" }, /idempotencyKey/],
  ["POST /api/v1/bulk", { action: "cancel", filters: { status: "failed" }, dryrunn: true }, /dryrunn/],
  ["POST /api/v1/bulk", { action: "cancel", filters: { status: "failed" }, heed: true }, /heed/],
  ["POST /api/v1/bulk", { action: "cancel", filters: { status: "failed", sine: "1d" } }, /sine/]
]

it("refuses a misspelled member", async () => {
  for (const [line, body, message] of wrong) {
    const { status, text } = await ask(line, body)
    assert.strictEqual(status, 400, line)
    assert.match(text, message, line)
  }
  const { text } = await ask("GET /api/v1/bulk")
  assert.strictEqual(text, "{}")
})

it("ignores unknown members, and those of later clients", async () => {
  assert.strictEqual((await ask("GET /api/v1/events?unheard_of=1&limit=5")).status, 200)
  const body = { event: "order.placed", data: {}, unheardOf: 1, namespace: "library", event_name: "x" }
  assert.strictEqual((await ask("POST /ironflow.v1.IronflowService/Trigger", body)).status, 200)
})
