/** Runs that were lost together are tried again one by one, until the cause is found. */
import { assert, describe } from "@effect/vitest"
import type { Job } from "../../../../src/Protocol/Worker.ts"
import { complete, done, handles, release, type Shop, type ShopTest, sleep, suspend } from "./Shop.ts"
import * as ExtendLeases from "../../../../src/Engine/Turns/ExtendLeases.ts"
import * as LostLeases from "../../../../src/Engine/Turns/LostLeases.ts"
import * as FireDue from "../../../../src/Engine/Schedules/FireDue.ts"
import * as RunControl from "../../../../src/Engine/Runs/RunControl.ts"

/** Emits `n` orders, and returns the ids of their runs. */
function* place(shop: Shop, n: number) {
  const ids: Array<string> = []
  for (let i = 0; i < n; i++) ids.push((yield* shop.emit("order.placed", { i })).runIds[0]!)
  return ids
}

/**
 * Lets a worker claim all runs that it can take, and die, `times` times. Afterwards no run waits for the delay that
 * follows a loss.
 */
function* die(shop: Shop, times: number, options: { readonly leaseMs?: number } = {}) {
  for (let i = 0; i < times; i++) {
    yield* shop.claim({ worker: `worker-${i}`, room: 16, ...options })
    yield* shop.store.write(LostLeases.releaseWorker("default", `worker-${i}`, true))
    yield* shop.pass(100_000)
  }
}

/** The ids of the runs. */
const ids = (jobs: ReadonlyArray<Job>): Array<string> => jobs.map(({ runId }) => runId)

interface PlayResult {
  readonly pausedAfterMs: number
  readonly finishedAfterMs: number
  readonly finished: ReadonlySet<string>
  readonly deaths: number
}

/**
 * Plays workers that die whenever they hold the run that is to blame. Ends when all other runs have finished and that
 * run is paused.
 */
function* play(
  shop: Shop,
  runs: ReadonlyArray<string>,
  options: {
    readonly toBlame: string
    readonly workers: number
    /** How many milliseconds each of the other runs takes. */
    readonly takes: (runId: string) => number
    /** Whether each lease is lost alone, as with a push endpoint, and not together with its worker. */
    readonly turnByTurn: boolean
  }
) {
  const beatMs = 250
  const until = runs.length - 1
  const finished = new Set<string>()
  let finishedAfterMs = 0
  let deaths = 0
  const busyWorkers = Array.from({ length: options.workers }, (_, n) => ({
    id: `worker-${n}`,
    jobs: new Map<Job, number>()
  }))
  for (let now = 0; now < 600_000; now += beatMs) {
    for (const worker of busyWorkers) {
      for (const job of yield* shop.claim({ worker: worker.id, room: 16 - worker.jobs.size })) {
        worker.jobs.set(job, now + options.takes(job.runId))
      }
      for (const [job, endsAt] of worker.jobs) {
        if (endsAt > now || job.runId === options.toBlame) continue
        worker.jobs.delete(job)
        yield* shop.report(job, complete())
        finished.add(job.runId)
        finishedAfterMs = now
      }
      if (ids([...worker.jobs.keys()]).includes(options.toBlame)) {
        deaths++
        if (options.turnByTurn) {
          for (const { jobId } of worker.jobs.keys())
            yield* shop.store.write(LostLeases.loseLease("default", jobId, "cut off"))
        } else {
          yield* shop.store.write(LostLeases.releaseWorker("default", worker.id, true))
          worker.id = `worker-${deaths + 10}`
        }
        worker.jobs.clear()
      }
    }
    if (finished.size === until && (yield* shop.status(options.toBlame)) === "paused") {
      return { pausedAfterMs: now, finishedAfterMs, finished, deaths } satisfies PlayResult
    }
    yield* shop.pass(beatMs)
  }
  return assert.fail(`only ${finished.size} of ${until} have finished`)
}

export const suspectsSuite = (test: ShopTest, isWhole: boolean): void => {
  describe("runs that were lost together", () => {
    const ways = [
      ["short runs on one worker", 1, false, () => 1000],
      [
        "runs on one worker, one of them with a long step,",
        1,
        false,
        (n: number) => (n === 5 ? 20_000 : 1000)
      ],
      [
        "runs on three workers, one of them with a long step,",
        3,
        false,
        (n: number) => (n === 5 ? 20_000 : 1000)
      ],
      [
        "runs at a push endpoint, one of them with a long step,",
        1,
        true,
        (n: number) => (n === 5 ? 20_000 : 1000)
      ]
    ] as const
    for (const [what, workers, turnByTurn, takes] of isWhole ? ways : ways.slice(1, 2)) {
      test(`are tried separately: ${what} finish within a minute, and only the run to blame is paused`, function* (shop) {
        yield* shop.register(handles("charge"))
        const runs = yield* place(shop, 16)
        const toBlame = runs[7]!

        const tried = yield* play(shop, runs, {
          toBlame,
          workers,
          turnByTurn,
          takes: (runId) => takes(runs.indexOf(runId))
        })

        assert.deepStrictEqual(
          runs.filter((runId) => !tried.finished.has(runId)),
          [toBlame]
        )
        assert.isAtMost(tried.finishedAfterMs, 60_000)
        assert.strictEqual(tried.deaths, 10)
        assert.deepInclude((yield* shop.situation(toBlame)).pause, { code: "LOST_REPEATEDLY" })
      })
    }

    test("are dispatched in smaller groups after each loss, and in the end alone", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* place(shop, 16)
      for (const [deaths, together] of [
        [0, 16],
        [1, 16],
        [1, 8]
      ] as const) {
        yield* die(shop, deaths)
        const jobs = yield* shop.claim({ worker: "another", room: 16 })
        assert.strictEqual(jobs.length, together)
        yield* shop.store.write(LostLeases.releaseWorker("default", "another", false))
      }
      // in the end even a run that could always share a worker is dispatched alone
      yield* die(shop, 12)
      assert.strictEqual((yield* shop.claim({ worker: "another", room: 16 })).length, 1)
    })

    test("are due again at random times", function* (shop) {
      yield* shop.register(handles("charge"))
      const runs = yield* place(shop, 8)
      for (let i = 0; i < 2; i++) {
        yield* shop.claim({ room: 16 })
        yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))
      }

      const due = new Set<number>()
      for (const runId of runs) due.add((yield* shop.situation(runId)).waits[0]!.dueAt!)

      assert.isAbove(due.size, 1)
      assert.isTrue([...due].every((at) => at >= 1000 && at <= 1500))
    })
  })

  describe("a suspect", () => {
    test("does not delay runs that are not suspects, nor other functions", function* (shop) {
      yield* shop.register(handles("charge", { concurrency: { limit: 100 } }))
      yield* place(shop, 2)
      yield* die(shop, 4)
      const [held] = yield* shop.claim({ room: 1 })
      yield* shop.register(handles("ship"))
      const newRuns = (yield* shop.emit("order.placed", {})).runIds

      const [first] = yield* shop.claim({ room: 1 })
      const [second] = yield* shop.claim({ room: 1 })

      assert.isDefined(held)
      assert.sameMembers(ids([first!, second!]), newRuns)
      assert.deepStrictEqual(yield* shop.claim({ room: 1 }), [])
    })

    test("that has made progress is not a suspect any more: the next one is dispatched at once", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* place(shop, 3)
      yield* die(shop, 6)
      const [first] = yield* shop.claim({ room: 16 })
      assert.deepStrictEqual(yield* shop.claim({ room: 15 }), [])

      yield* shop.report(first!, done("a:0"))

      assert.strictEqual(shop.lastChanges?.ready, true)
      const [second] = yield* shop.claim({ room: 15 })
      assert.isDefined(second)
      // a wait that ends a turn is progress too
      yield* shop.report(second!, sleep("nap:0", 10), suspend("nap:0"))
      const [third] = yield* shop.claim({ room: 15 })
      yield* shop.pass(10)
      assert.deepStrictEqual(
        ids(yield* shop.claim({ room: 1 })),
        [second!.runId],
        "the second runs beside the third"
      )
      yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))
      const again = yield* shop.claim({ room: 2 })
      assert.sameMembers(
        ids(again),
        [first!.runId, second!.runId],
        "one loss since their progress causes no delay"
      )
      assert.isDefined(third)
    })

    test("that has run for a minute delays no other run, and is not blamed for the death of another worker", function* (shop) {
      yield* shop.register(handles("charge"))
      const [first, second] = yield* place(shop, 2)
      // each run on a worker of its own, so that each is lost alone
      for (let i = 0; i < 9; i++) {
        const [one] = yield* shop.claim({ worker: `a-${i}`, room: 1 })
        const [other] = yield* shop.claim({ worker: `b-${i}`, room: 1 })
        assert.sameMembers(ids([one!, other!]), [first, second])
        yield* shop.store.write(LostLeases.releaseWorker("default", `a-${i}`, true))
        yield* shop.store.write(LostLeases.releaseWorker("default", `b-${i}`, true))
        yield* shop.pass(60_000)
      }
      const [early] = yield* shop.claim({ room: 16 })
      yield* shop.pass(59_000)
      assert.deepStrictEqual(yield* shop.claim({ room: 15 }), [])
      assert.deepInclude(yield* FireDue.fireDue(shop.store), { nextDueAt: 9 * 60_000 + 60_000 })

      yield* shop.pass(1000)
      assert.strictEqual(shop.lastChanges?.ready, true)
      const later = yield* shop.claimOne({ room: 15 })
      yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))

      assert.strictEqual(yield* shop.status(later.runId), "paused")
      assert.strictEqual(yield* shop.status(early!.runId), "waiting")
      yield* shop.pass(90_000)
      assert.deepStrictEqual(ids(yield* shop.claim()), [early!.runId])
      yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))
      assert.strictEqual(yield* shop.status(early!.runId), "paused", "this run was lost alone")
    })

    test("of a function with a limit is dispatched when the suspect before it has ended", function* (shop) {
      yield* shop.register(
        handles("ship"),
        handles("charge", { concurrency: { limit: 2, key: "event.data.i" } })
      )
      yield* place(shop, 1)
      yield* die(shop, 4)
      const [held] = yield* shop.claim({ room: 1 })
      assert.strictEqual(held!.functionId, "ship")
      // the engine considers it while the other suspect keeps it away
      assert.deepStrictEqual(yield* shop.claim({ room: 1 }), [])

      yield* shop.report(held!, complete())

      const [next] = yield* shop.claim({ room: 1 })
      assert.strictEqual(next?.functionId, "charge")
    })

    test("is recognized when its worker reconnects", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* place(shop, 2)
      yield* die(shop, 4)
      const [held] = yield* shop.claim({ room: 1, leaseMs: 1000 })

      yield* shop.store.write(
        ExtendLeases.adoptLeases("default", "worker-1", [held!.jobId], 1000, new Set(["charge"]))
      )

      assert.deepStrictEqual(yield* shop.claim({ room: 15 }), [])
      yield* shop.report(held!, release)
      assert.strictEqual((yield* shop.claim({ room: 15 })).length, 1)
    })

    test("that a user pauses stays paused for the reason of the user when its worker dies", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* place(shop, 1)
      yield* die(shop, 9)
      const job = yield* shop.claimOne()
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, "stock-taking"))

      yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))

      assert.strictEqual((yield* shop.run(job.runId)).pauseReason, "stock-taking")
    })
  })
}
