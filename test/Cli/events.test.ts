/** The command `events`, with a server that is a process of its own. */
import { afterAll, assert, beforeAll, it } from "vitest"
import { jsonHere, runHere } from "./Here.ts"
import { freePort, Terminal } from "./Terminal.ts"

const terminal = new Terminal()
let env: { readonly IRONFLOW_SERVER_URL: string }

beforeAll(async () => {
  const port = await freePort()
  env = { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` }
  await terminal.start(["serve", "--port", String(port)]).until("listens")
})
afterAll(() => terminal[Symbol.asyncDispose]())

it("events are listed, shown and followed", { timeout: 90_000 }, async () => {
  assert.include((await runHere(["events", "list"], { env })).stdout, "There are no such events.")
  const { eventId } = await jsonHere(["emit", "order.placed", '{"i":1}', "--idempotency-key", "once"], {
    env
  })
  await jsonHere(["streams", "append", "o-1", "order.paid", '{"i":2}', "--type", "order"], { env })

  const listed = await runHere(["events", "list", "order.*"], { env })
  assert.match(
    listed.stdout,
    /^EVENT +AT +NAME +DATA\n.*order\.paid +\{"i":2\}\n.*order\.placed +\{"i":1\}\n$/
  )
  const page = await runHere(["events", "list", "--limit", "1", "--oldest"], { env })
  const [, cursor = ""] = /the next page: --cursor (\S+)/.exec(page.stdout) ?? []
  assert.include(page.stdout, eventId)
  for (const args of [
    ["--limit", "1", "--oldest", "--cursor", cursor],
    ["--entity", "o-1", "--entity-type", "order", "--since", "2020-01-01"],
    ["order.paid"]
  ]) {
    const { events } = await jsonHere(["events", "list", ...args], { env })
    assert.deepStrictEqual(
      events.map(({ data }: { data: unknown }) => data),
      [{ i: 2 }],
      args.join(" ")
    )
  }
  const { events } = await jsonHere(["events", "list", "--idempotency-key", "once"], { env })
  assert.strictEqual(events[0].id, eventId)

  const shown = await terminal.run(["events", "get", eventId], { env })
  assert.match(shown.stdout, /^event +evt_\w+\nname +order\.placed\nversion +1\n/)
  assert.match(shown.stdout, /^idempotency key +once$/m)
  assert.deepInclude(await jsonHere(["events", "get", eventId], { env }), {
    id: eventId,
    data: { i: 1 }
  })

  const all = terminal.start(["events", "tail", "--last", "1"], { env })
  const ofEntity = terminal.start(["events", "tail", "--entity", "o-1", "--json"], { env })
  await all.until('order.paid  {"i":2}')
  await ofEntity.until(/"i":2.*\n/)
  await jsonHere(["emit", "order.placed", '{"i":3}'], { env })
  await jsonHere(
    ["streams", "append", "o-1", "order.sent", '{"i":4}', "--type", "order", "--expected-version", "1"],
    { env }
  )
  await all.until('order.placed  {"i":3}')
  await all.until('order.sent  {"i":4}')
  await ofEntity.until(/"i":4.*\n/)
  assert.notInclude(all.output(), '{"i":1}')
  assert.notInclude(ofEntity.output(), '"i":3')
  for (const running of [all, ofEntity]) running.signal("SIGINT")
  for (const { code } of await Promise.all([all.ended, ofEntity.ended])) assert.strictEqual(code, 0)
})

it("invalid use of `events` is refused", { timeout: 60_000 }, async () => {
  for (const [args, code, message] of [
    [["list", "order..x"], 2, 'The name of the events cannot be "order..x"'],
    [["list", "--limit", "0"], 2, "Error: --limit must be an integer from 1 to 1000, got 0."],
    [["list", "--since", "soon"], 2, "Error: --since must be a time, such as 2026-11-29T10:00:00Z"],
    [
      ["list", "--cursor", "x"],
      2,
      'Cursor "x" is not one that this command printed: take the cursor of the previous page.'
    ],
    [["tail", "--last", "2000"], 2, "--last must be an integer from 0 to 1000, got 2000"],
    [["get", "evt_1"], 1, "There is no event evt_1 in this environment."]
  ] as const) {
    const ended = await runHere(["events", ...args], { env })
    assert.strictEqual(ended.code, code, ended.stderr)
    assert.include(ended.stderr, message)
  }
})
