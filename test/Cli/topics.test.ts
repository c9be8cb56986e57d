/** `topics`, `publish` and `subscribe`, with a server that is a process of its own. */
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

it("messages are published, counted, and printed as they arrive", { timeout: 60_000 }, async () => {
  assert.include((await runHere(["topics"], { env })).stdout, "There are no topics.")
  const first = await jsonHere(["publish", "news", '{"i":1}'], { env })
  assert.match(first.eventId, /^evt_|^msg_/)

  const plain = terminal.start(["subscribe", "topic:news", "--replay", "1"], { env })
  const member = terminal.start(
    [
      "subscribe",
      "topic:news",
      "--group",
      "printers",
      "--replay",
      "1",
      "--filter",
      "event.data.i > 1",
      "--json"
    ],
    { env }
  )
  await plain.until('{"i":1}')
  const printed = await terminal.run(["publish", "news", "-"], { env, input: '{"i":2}' })
  assert.match(printed.stdout, /^Published \S+ to news\.$/m)
  await plain.until('{"i":2}')
  const line = await member.until(/"i":2.*\n/)
  assert.deepInclude(JSON.parse(line.trim()), { topic: "news", data: { i: 2 } })

  const { topics } = await jsonHere(["topics"], { env })
  assert.lengthOf(topics, 1)
  assert.deepInclude(topics[0], { name: "news", messageCount: 2, consumerCount: 2 })
  for (const running of [plain, member]) running.signal("SIGINT")
  await Promise.all([plain.ended, member.ended])

  // the group knows what its member has printed, and continues after it
  const next = terminal.start(["subscribe", "topic:news", "--group", "printers", "--json"], { env })
  await jsonHere(["publish", "news", '{"i":3}'], { env })
  const later = await next.until(/"i":3.*\n/)
  assert.lengthOf(later.trim().split("\n"), 1)
  next.signal("SIGINT")
  await next.ended
})

it("invalid use of `topics`, `publish` and `subscribe` is refused", { timeout: 60_000 }, async () => {
  for (const args of [
    ["subscribe", "events:a..b"],
    ["subscribe", "topic:news", "--filter", "event.data.("],
    ["publish", "", "{}"],
    ["publish", "news", "{"]
  ]) {
    const { code, stderr, stdout } = await runHere(args, { env })
    assert.notStrictEqual(code, 0, args.join(" "))
    assert.isNotEmpty(stderr + stdout)
  }
})

it("a subscription ends cleanly when its output is no longer read", { timeout: 60_000 }, async () => {
  const subscription = terminal.start(["subscribe", "topic:weather", "--json"], { env })
  // messages arrive from the moment when it has subscribed
  while (!subscription.output().includes("sun")) {
    await jsonHere(["publish", "weather", '{"sun":true}'], { env })
  }

  subscription.hangUp()
  await jsonHere(["publish", "weather", '{"sun":false}'], { env })

  const { code, stderr } = await subscription.ended
  assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
})
