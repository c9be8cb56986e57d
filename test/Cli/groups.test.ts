/** The command `groups`, with a server that is a process of its own. */
import { on, once } from "node:events"
import { afterAll, assert, beforeAll, it } from "vitest"
import { WebSocket } from "ws"
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

it(
  "a group is shown, paused, resumed and deleted, and its dead letters are retried",
  { timeout: 60_000 },
  async () => {
    const run = (...args: ReadonlyArray<string>) => runHere(["groups", ...args], { env })
    assert.include((await run("list")).stdout, "There are no consumer groups")
    await fetch(`${env.IRONFLOW_SERVER_URL}/api/v1/consumer-groups`, {
      method: "POST",
      body: JSON.stringify({ name: "printers", pattern: "topic:news", ackMode: "manual" })
    })
    const member = terminal.start(["subscribe", "topic:news", "--group", "printers", "--json"], { env })
    while (!(await run("get", "printers")).stdout.includes("JOINED"));

    const paused = await run("pause", "printers", "--reason", "no paper")
    assert.include(paused.stdout, "`ironflow groups resume printers` continues it")
    await jsonHere(["publish", "news", '{"i":1}'], { env })
    const got = await run("get", "printers")
    assert.match(got.stdout, /^why +Paused by \S+ at \S+ \(no paper\); 1 event waits\.$/m)
    assert.match(got.stdout, /^max in flight +100 per member$/m)
    assert.match(got.stdout, /^MEMBER +ACK MODE/m)
    const { groups } = await jsonHere(["groups", "list", "--status", "paused"], { env })
    assert.lengthOf(groups, 1)
    assert.deepInclude(groups[0], { name: "printers", pattern: "topic:news", status: "paused", lag: 1 })
    assert.strictEqual(member.output(), "")

    assert.include((await run("resume", "printers")).stdout, "Consumer group printers continues")
    await member.until('"i":1')
    const socket = new WebSocket(`${env.IRONFLOW_SERVER_URL.replace("http", "ws")}/ws`)
    const answers = on(socket, "message")
    const hear = async () => JSON.parse(String((await answers.next()).value?.[0]))
    await once(socket, "open")
    const options = { consumerGroup: "menders", ackMode: "manual" }
    socket.send(JSON.stringify({ type: "subscribe", subscription: { pattern: "topic:news", options } }))
    await hear()
    await jsonHere(["publish", "news", '{"i":2}'], { env })
    const { eventId } = await hear()
    socket.send(JSON.stringify({ type: "ack", eventId, ackType: "term", requestId: 1, reason: "torn" }))
    await hear()
    assert.match((await run("dead-letters", "menders")).stdout, new RegExp(`${eventId} +news +1 +\\S+ +torn`))
    assert.match((await run("get", "menders")).stdout, /^dead letters +1$/m)
    assert.strictEqual((await run("retry", "menders")).stdout, "1 dead letter is delivered again.\n")
    assert.strictEqual((await hear()).eventId, eventId)
    assert.include((await run("retry", "menders")).stdout, "has no dead letters")
    socket.close()

    // printed messages are acked, whatever acks the group requires
    while ((await jsonHere(["groups", "get", "printers"], { env })).inFlight > 0);
    const deleted = await run("delete", "printers", "--namespace", "default", "--pattern", "topic:news")
    assert.strictEqual(deleted.stdout, "Consumer group printers is deleted.\n")
    const { code, stderr, stdout } = await member.ended
    assert.notStrictEqual(code, 0)
    assert.include(stderr + stdout, "CONSUMER_GROUP_DELETED")

    const missing = await terminal.run(["groups", "get", "printers", "--json"], { env })
    assert.notStrictEqual(missing.code, 0)
    assert.include(missing.stderr + missing.stdout, "CONSUMER_GROUP_NOT_FOUND")
  }
)
