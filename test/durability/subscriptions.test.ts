/**
 * Subscriptions (G10, G12) with real processes: an engine and two hosts of subscribers are killed, and connections are
 * cut, while writers write. Afterwards the database and the logs of the subscribers are judged.
 *
 * `IRONFLOW_TEST_SEED=7 IRONFLOW_TEST_ROUNDS=100` runs a hundred storms from seed 7 on; `IRONFLOW_TEST_STRIKES` makes
 * each longer.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { DatabaseSync } from "node:sqlite"
import { createClient, createSubscriptionClient } from "@ironflow/node"
import { afterAll, assert, describe, it, vi } from "vitest"
import { copyDatabase, EngineProcess, freePort, Life } from "./Chaos.ts"
import type { ClientLine } from "./subscriptions/client.ts"
import { runStorm } from "./subscriptions/Storm.ts"
import { judgeStorm, type StormEvidence } from "./subscriptions/StormChecker.ts"
import { seeds } from "../Long.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-storm-"))
const cache = process.env.NODE_COMPILE_CACHE ?? path.join(folder, "cache")
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))
const newFolder = (): string => fs.mkdtempSync(path.join(folder, "storm-"))

const strikes = Number(process.env.IRONFLOW_TEST_STRIKES ?? 6)

describe("subscribers in a storm", () => {
  let last: StormEvidence | undefined

  for (const seed of seeds(1, 10)) {
    it(
      `see everything in order, and nothing again that they have acked, with seed ${seed}`,
      {
        timeout: 60_000 + strikes * 5000
      },
      async () => {
        const evidence = await runStorm(seed, strikes, newFolder(), cache)

        const { figures, violations } = judgeStorm(evidence)
        assert.deepStrictEqual(violations, [], `seed ${seed}: ${JSON.stringify(figures)}`)
        last = evidence
        assert.isTrue(evidence.isCalm)
        assert.isAbove(figures.stored, 100)
        assert.isAbove(figures.seen, figures.stored)
        assert.isAbove(figures.acknowledged, 100)
        assert.isAbove(figures.handedOutAgain, 0, "the groups were disturbed")
      }
    )
  }

  /** What a subscriber received in its last life. */
  const gotBy = (lines: ReadonlyArray<ClientLine>, who: string) => {
    const begun = lines.findLastIndex((line) => line.who === who && line.t === "life")
    return lines.flatMap((line, at) =>
      at > begun && line.who === who && line.t === "got" ? [{ line, at }] : []
    )
  }
  const without = (lines: ReadonlyArray<ClientLine>, ...gone: ReadonlyArray<ClientLine | undefined>) =>
    lines.filter((line) => !gone.includes(line))
  /**
   * The delivery and the ack of the event that a subscriber of this name acked soonest. In so short a time no strike
   * came in between, so it is certain that the connection still held the event.
   */
  const ackedBy = (lines: ReadonlyArray<ClientLine>, name: string) => {
    const acks = lines.flatMap((ack, index) => {
      if (!ack.who.startsWith(name) || ack.t !== "settled" || ack.how !== "ack") return []
      const got = lines
        .slice(0, index)
        .findLast((line) => line.t === "got" && line.who === ack.who && line.id === ack.id)
      return got === undefined ? [] : [{ got, index, at: ack.at }]
    })
    return acks.reduce((one, other) => (other.at - other.got.at < one.at - one.got.at ? other : one))
  }
  const repeatDelivery = (lines: ReadonlyArray<ClientLine>, name: string) => {
    const { at, got, index } = ackedBy(lines, name)
    return lines.toSpliced(index + 1, 0, { ...got, at: at + 0.001 })
  }

  const forgeries: ReadonlyArray<
    readonly [string, (lines: ReadonlyArray<ClientLine>) => ReadonlyArray<ClientLine>, RegExp]
  > = [
    ["a gap", (lines) => without(lines, gotBy(lines, "all.0")[3]?.line), /^all\.0 got .*: a gap/],
    [
      "a gap across the death of its process",
      (lines) => {
        const received = lines.filter((line) => line.who === "resumer.0" && line.t === "got")
        return without(lines, received[Math.floor(received.length / 2)])
      },
      /^resumer\.0 got .*: a gap/
    ],
    [
      "a late beginning",
      (lines) => {
        const lateLines = gotBy(lines, "news.1").slice(0, -1)
        return without(lines, ...lateLines.map(({ line }) => line))
      },
      /^news\.1 began with .* and missed/
    ],
    [
      "another order",
      (lines) => {
        const [a, b] = gotBy(lines, "even.0").slice(-2)
        return lines.with(a!.at, b!.line).with(b!.at, a!.line)
      },
      /^even\.0 got .*: out of order/
    ],
    [
      "a missing last event",
      (lines) => without(lines, gotBy(lines, "careful.1").at(-1)?.line),
      /^careful\.1 has come to/
    ],
    [
      "an event that was not subscribed to",
      (lines) => {
        const { at, line } = gotBy(lines, "even.1")[0]!
        return lines.with(at, { ...line, id: "evt_of_somebody_else" })
      },
      /^even\.1 got evt_of_somebody_else, which it has not/
    ],
    [
      "an acked event again",
      (lines) => repeatDelivery(lines, "careful"),
      /^careful\.. got .* again, which it had acked/
    ],
    [
      "an acked message of a group again",
      (lines) => repeatDelivery(lines, "packer"),
      /^group packers: packer\.. got .* again, which had been acked/
    ],
    [
      "two holders",
      (lines) => {
        const { got } = ackedBy(lines, "packer")
        return [...lines, { ...got, who: "second packer.1", at: got.at + 0.001 }]
      },
      /^group packers: second packer\.1 got .* while packer\.. held it/
    ],
    [
      "a message that nobody has acked",
      (lines) => {
        const last = lines.findLast(({ t }) => t === "done")!
        return lines.filter((line) => line.t !== "done" || !("id" in last) || line.id !== last.id)
      },
      /^group printers: nobody has settled/
    ],
    [
      "a message that is not for the group",
      (lines) => {
        const { got } = ackedBy(lines, "packer")
        return lines.map((line) => (line === got ? { ...got, id: "evt_of_somebody_else" } : line))
      },
      /^group packers handed out evt_of_somebody_else, which is not for it/
    ]
  ]

  it.each(forgeries)("are found to be wrong when a log has %s", (_, forge, complaint) => {
    if (last === undefined) return assert.fail("there is no evidence")
    const { violations } = judgeStorm({ ...last, lines: forge(last.lines) })

    assert.isTrue(
      violations.some((violation) => complaint.test(violation)),
      violations.join("\n")
    )
  })

  it.each([
    ["a lost event", "DELETE FROM events WHERE position = (SELECT min(position) FROM events)", /is lost$/],
    [
      "an event twice",
      "UPDATE events SET data = (SELECT data FROM events ORDER BY position LIMIT 1) WHERE position = (SELECT max(position) FROM events)",
      /is stored twice$/
    ],
    [
      "an unfinished delivery",
      "INSERT INTO deliveries (consumer_group, position, due_at) SELECT key, cursor, 0 FROM consumer_groups WHERE name = 'packers'",
      /^group packers has not finished/
    ],
    [
      "a group that is behind",
      "UPDATE consumer_groups SET cursor = 1",
      /^group printers has not come to the end/
    ]
  ])("are found to be wrong when the database has %s", (_, damage, complaint) => {
    if (last === undefined) return assert.fail("there is no evidence")
    const database = path.join(newFolder(), "storm.db")
    copyDatabase(last.database, database)
    const db = new DatabaseSync(database)
    db.exec(damage)
    db.close()

    const { violations } = judgeStorm({ ...last, database })

    assert.isTrue(
      violations.some((violation) => complaint.test(violation)),
      violations.join("\n")
    )
  })
})

it("a paused group delivers nothing across kills, and then continues with its held events", async () => {
  const engine = new EngineProcess(path.join(newFolder(), "paused.db"), await freePort(), cache)
  const restart = async () => {
    await engine.kill()
    await engine.start()
  }
  await engine.start()
  await using client = createClient({ serverUrl: engine.url })
  using sub = createSubscriptionClient({ serverUrl: engine.url, reconnectDelay: 5, maxReconnectDelay: 50 })
  try {
    await sub.connect()
    const seenWithoutGroup: Array<number> = []
    await sub.subscribe("topic:>", { onEvent: ({ data }) => seenWithoutGroup.push(data.i) })
    const seen: Array<{ readonly i: number; readonly eventId: string }> = []
    const member = await sub.subscribe("topic:news", {
      consumerGroup: "printers",
      ackMode: "manual",
      onEvent: ({ data, eventId }) => seen.push({ i: data.i, eventId: eventId! })
    })
    const numbers = () => seen.map(({ i }) => i)
    const publish = (i: number) => client.publish("news", { i })
    for (let i = 1; i <= 4; i++) await publish(i)
    await vi.waitFor(() => assert.deepStrictEqual(numbers(), [1, 2, 3, 4]), 5000)
    for (const { eventId } of seen.slice(0, 2)) await member.ack(eventId)

    await client.consumerGroups.pause("printers", { by: "ops" })
    await restart()
    await publish(5)
    await vi.waitFor(async () => {
      const group = await client.consumerGroups.get("printers")
      assert.strictEqual(group.memberCount, 1)
      assert.deepInclude(group, { status: "paused", pausedBy: "ops", lag: 1, inFlight: 0, retrying: 2 })
    }, 5000)
    await vi.waitFor(() => assert.include(seenWithoutGroup, 5), 5000)
    assert.deepStrictEqual(numbers(), [1, 2, 3, 4])

    // the filter applies once it is acknowledged
    await client.consumerGroups.update("printers", { filter: "event.data.i != 6" })
    for (const i of [6, 7]) await publish(i)
    await client.consumerGroups.resume("printers")
    await restart()
    await vi.waitFor(() => assert.includeMembers(numbers().slice(4), [3, 4, 5, 7]), 5000)

    assert.notInclude(numbers(), 6)
    assert.deepStrictEqual(
      numbers().filter((i) => i <= 2),
      [1, 2],
      "acked events are not delivered again"
    )
    assert.strictEqual((await client.consumerGroups.get("printers")).status, "active")
  } finally {
    await engine.kill()
  }
})

it.each([
  ["killed", "SIGKILL", "30s"],
  ["frozen for longer than its `ackWait`", "SIGSTOP", "1s"]
] as const)("all events that a member holds go to others when it is %s", async (_, signal, ackWait) => {
  const engine = new EngineProcess(path.join(newFolder(), "lost.db"), await freePort(), cache)
  await engine.start()
  await using client = createClient({ serverUrl: engine.url })
  using sub = createSubscriptionClient({ serverUrl: engine.url })
  const member = new Life("durability/subscriptions/member.ts", { serverUrl: engine.url, ackWait }, cache)
  try {
    const group = { name: "printers", pattern: "topic:news", maxRedeliveries: signal === "SIGKILL" ? 0 : 1 }
    await client.consumerGroups.create(group)
    const ten = Array.from({ length: 10 }, (_, i) => i)
    for (const i of ten) await client.publish("news", { i })
    assert.isTrue(await member.says("got 0"))
    assert.deepInclude(await client.consumerGroups.get("printers"), { inFlight: 10, lag: 0 })

    member.child.kill(signal)

    const seen: Array<number> = []
    for await (const { ack, data } of sub.stream("topic:news", { consumerGroup: "printers" })) {
      seen.push(data.i)
      if (seen.length < 10) continue
      await ack()
      break
    }
    assert.deepStrictEqual(seen, ten)
    const done = { lag: 0, inFlight: 0, retrying: 0, givenUp: 0 }
    await vi.waitFor(async () => assert.deepInclude(await client.consumerGroups.get("printers"), done), 5000)
  } finally {
    member.child.kill("SIGKILL")
    await member.ends("SIGKILL", null)
    await engine.kill()
  }
})
