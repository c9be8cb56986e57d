import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { assert, describe } from "vitest"
import { Step } from "../../src/effect.ts"
import { createFunction, type Trigger } from "../../src/index.ts"
import { scenario } from "./Story.ts"
import { World } from "./World.ts"

/** A function that returns the event that started it. */
const reporting = (...triggers: ReadonlyArray<Trigger>) =>
  createFunction({ id: "report", triggers }, async ({ event }) => ({
    name: event.name,
    source: event.source,
    scheduledAt: event.data.scheduledAt
  }))

/** The scheduled times of the runs of `report`, oldest first. */
const fires = (world: World) =>
  Effect.gen(function* () {
    yield* world.settle
    const { runs } = yield* world.client.listRuns({ functionId: "report", limit: 1000 })
    return runs.reverse().map(({ input }) => String((input as { scheduledAt: string }).scheduledAt))
  })

describe("cron", () => {
  scenario(
    "a cron trigger starts a run at its time in UTC, with an event that is named after the function",
    {
      config: { triggers: [{ cron: "30 9 * * *" }] },
      promise:
        () =>
        async ({ event }) => ({ name: event.name, source: event.source, data: event.data }),
      effect:
        () =>
        ({ event }) =>
          Effect.succeed({ name: event.name, source: event.source, data: event.data })
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        yield* world.advance("9 hours")
        yield* world.advance("29 minutes")
        assert.strictEqual((yield* client.listRuns()).totalCount, 0)
        yield* world.advance("1 minute")
        const { runs } = yield* client.listRuns()
        assert.lengthOf(runs, 1)

        assert.deepStrictEqual(yield* world.completes(runs[0]!.id), {
          name: "cron.order",
          source: "cron",
          data: { cron: "30 9 * * *", timezone: "UTC", scheduledAt: "1970-01-01T09:30:00.000Z" }
        })
        yield* world.advance("1 day")
        assert.strictEqual((yield* client.listRuns()).totalCount, 2)
      })
  )

  it.effect("a cron trigger with an event name emits that event, which may trigger other functions", () =>
    Effect.gen(function* () {
      const trigger = { cron: "0 * * * *", event: "hour.struck" }
      const listener = createFunction(
        { id: "listener", triggers: [{ event: "hour.*" }] },
        async ({ event }) => event.name
      )
      const world = yield* World.make({ functions: [reporting(trigger), listener] })
      yield* world.advance("1 hour")
      const { runs } = yield* world.client.listRuns()

      assert.sameMembers(
        runs.map(({ functionId }) => functionId),
        ["report", "listener"]
      )
      assert.strictEqual(runs[0]?.eventId, runs[1]?.eventId)
    })
  )

  it.effect("a fixed time that the clocks skip in spring fires once, at the end of the gap", () =>
    Effect.gen(function* () {
      // Berlin goes from 2:00 to 3:00 at 01:00 UTC on 29 March 2026
      yield* TestClock.setTime(Date.parse("2026-03-27T12:00:00Z"))
      const world = yield* World.make({
        functions: [reporting({ cron: "30 2 * * *", timezone: "Europe/Berlin" })]
      })
      for (let i = 0; i < 4 * 24; i++) yield* world.advance("1 hour")

      assert.deepStrictEqual(yield* fires(world), [
        "2026-03-28T01:30:00.000Z",
        "2026-03-29T01:00:00.000Z",
        "2026-03-30T00:30:00.000Z",
        "2026-03-31T00:30:00.000Z"
      ])
    })
  )

  it.effect("a fixed time that the clocks repeat in autumn fires the first time only", () =>
    Effect.gen(function* () {
      // Berlin goes from 3:00 to 2:00 at 01:00 UTC on 25 October 2026
      yield* TestClock.setTime(Date.parse("2026-10-23T12:00:00Z"))
      const world = yield* World.make({
        functions: [reporting({ cron: "30 2 * * *", timezone: "Europe/Berlin" })]
      })
      for (let i = 0; i < 4 * 24; i++) yield* world.advance("1 hour")

      assert.deepStrictEqual(yield* fires(world), [
        "2026-10-24T00:30:00.000Z",
        "2026-10-25T00:30:00.000Z",
        "2026-10-26T01:30:00.000Z",
        "2026-10-27T01:30:00.000Z"
      ])
    })
  )

  it.effect("a schedule of every half hour fires both times in the hour that the clocks repeat", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.parse("2026-10-24T23:45:00Z"))
      const world = yield* World.make({
        functions: [reporting({ cron: "*/30 * * * *", timezone: "Europe/Berlin" })]
      })
      for (let i = 0; i < 5; i++) yield* world.advance("30 minutes")

      assert.deepStrictEqual(yield* fires(world), [
        "2026-10-25T00:00:00.000Z",
        "2026-10-25T00:30:00.000Z",
        "2026-10-25T01:00:00.000Z",
        "2026-10-25T01:30:00.000Z",
        "2026-10-25T02:00:00.000Z"
      ])
    })
  )

  it.effect("an engine that has missed fires makes up for the last one", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ functions: [reporting({ cron: "0 * * * *" })], onDisk: true })
      yield* world.advance("1 hour")
      assert.deepStrictEqual(yield* fires(world), ["1970-01-01T01:00:00.000Z"])
      yield* world.close
      yield* TestClock.adjust("5 hours")
      yield* TestClock.adjust("20 minutes")
      yield* world.start()

      assert.deepStrictEqual(yield* fires(world), ["1970-01-01T01:00:00.000Z", "1970-01-01T06:00:00.000Z"])
      yield* world.advance("40 minutes")
      assert.lengthOf(yield* fires(world), 3)
    })
  )

  it.effect("a fire without a worker creates its run, which runs when a worker connects", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ functions: [reporting({ cron: "0 * * * *" })] })
      yield* world.shutDownWorkers
      yield* world.advance("1 hour")
      const { runs } = yield* world.client.listRuns()
      assert.lengthOf(runs, 1)
      assert.strictEqual((yield* world.client.explain(runs[0]!.id)).code, "NO_WORKER")
      yield* world.startWorker()

      assert.deepInclude((yield* world.completes(runs[0]!.id)) as object, { source: "cron" })
    })
  )

  it.effect("a removed trigger no longer fires, and a new one fires from now on", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ functions: [reporting({ cron: "0 * * * *" })] })
      yield* world.advance("1 hour")
      yield* world.shutDownWorkers
      yield* world.startWorker({ functions: [reporting({ cron: "30 * * * *" })] })
      for (let i = 0; i < 4; i++) yield* world.advance("30 minutes")

      assert.deepStrictEqual(yield* fires(world), [
        "1970-01-01T01:00:00.000Z",
        "1970-01-01T01:30:00.000Z",
        "1970-01-01T02:30:00.000Z"
      ])
      yield* world.shutDownWorkers
      yield* world.startWorker({ functions: [reporting()] })
      yield* world.advance("1 day")
      assert.lengthOf(yield* fires(world), 3)
    })
  )

  it.effect("registering a function again, as a deployment does, neither loses a fire nor adds one", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ functions: [reporting({ cron: "0 * * * *" })], onDisk: true })
      for (let i = 0; i < 8; i++) {
        yield* world.advance("30 minutes")
        yield* i % 2 === 0 ? world.deploy() : world.restart()
      }

      assert.deepStrictEqual(yield* fires(world), [
        "1970-01-01T01:00:00.000Z",
        "1970-01-01T02:00:00.000Z",
        "1970-01-01T03:00:00.000Z",
        "1970-01-01T04:00:00.000Z"
      ])
    })
  )

  for (const [overlap, starts, heldBack] of [
    ["allow", ["01:00", "02:00", "03:00", "04:00", "05:00"], undefined],
    ["skip", ["01:00", "04:00"], { skipped: 2, waiting: 0 }],
    ["queue", ["01:00", "02:00", "03:00", "04:00", "05:00"], { skipped: 0, waiting: 2 }]
  ] as const) {
    scenario(
      `overlap "${overlap}" decides which runs start when a run takes longer than its schedule`,
      {
        config: { triggers: [{ cron: "0 * * * *", overlap }] },
        world: { onDisk: true },
        promise:
          (stage) =>
          async ({ event, step }) => {
            await step.run("begin", () => stage.does(event.data.scheduledAt.slice(11, 16), 1))
            await step.sleep("work", "2.5h")
          },
        effect:
          (stage) =>
          ({ event }) =>
            Effect.andThen(
              Step.run(
                "begin",
                Effect.sync(() => stage.does(event.data.scheduledAt.slice(11, 16), 1))
              ),
              Step.sleep("work", "2.5 hours")
            )
      },
      ({ client, log, world }) =>
        Effect.gen(function* () {
          for (let i = 0; i < 3; i++) yield* world.advance("1 hour")
          const { runs } = yield* client.listRuns()
          const first = runs.at(-1)!
          const { details, message } = yield* client.explain(first.id)
          if (heldBack === undefined) assert.notProperty(details, "schedule")
          else {
            assert.deepInclude(details.schedule, { cron: "0 * * * *", timezone: "UTC", overlap, ...heldBack })
            assert.match(
              message,
              overlap === "skip"
                ? /sleeps until .* 2 fires of the schedule "0 \* \* \* \*" were left out since this run began\./
                : /sleeps until .* 2 fires of the schedule "0 \* \* \* \*" wait for the end of this run, the first one since 1970-01-01T02:00:00.000Z\./
            )
          }
          assert.deepStrictEqual((yield* client.listFunctions())[0]?.triggers, [
            { cron: "0 * * * *", overlap }
          ])

          // the engine stops between the fire and the end of the run
          yield* world.restart()
          yield* world.advance("30 minutes")
          if (overlap === "queue") yield* world.until("the next run begins", () => log.includes("02:00"))
          for (let i = 0; i < 4; i++) yield* world.advance("30 minutes")
          if (overlap === "queue") for (let i = 0; i < 20; i++) yield* world.advance("30 minutes")

          assert.deepStrictEqual(
            log.filter((time) => time <= "05:00"),
            [...starts]
          )
        })
    )
  }
})
