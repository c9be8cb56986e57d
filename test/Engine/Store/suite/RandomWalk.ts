/** Hundreds of random operations on a store. After each one, the guarantees are checked, whatever the database is. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Job, TurnOp } from "../../../../src/Protocol/Worker.ts"
import {
  compensate,
  complete,
  done,
  fail,
  failure,
  handles,
  invoke,
  invokeAsync,
  pause,
  publish,
  release,
  retryRun,
  retryStep,
  settle,
  type Shop,
  type ShopTest,
  sleep,
  success,
  suspend,
  waitFor,
  withdraw
} from "./Shop.ts"
import * as LostLeases from "../../../../src/Engine/Turns/LostLeases.ts"
import * as Reports from "../../../../src/Engine/Turns/Reports.ts"
import * as RunInspection from "../../../../src/Engine/Runs/RunInspection.ts"
import * as RunControl from "../../../../src/Engine/Runs/RunControl.ts"
import * as Stuck from "../../../../src/Engine/Runs/Stuck.ts"
import * as RunList from "../../../../src/Engine/Runs/RunList.ts"
import { either } from "../../../Long.ts"

const STEPS = either(100, 400)
/** Checking every run is slow, so it is done only once in this many steps. */
const CHECK_EVERY = 10

/** Numbers from 0 to 1 that are the same for the same seed (the mulberry32 generator). */
const randomOf = (seed: number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

const LIMIT = 2
const functions = [
  handles("order"),
  handles("charge", {
    on: ["order.placed", "order.paid"],
    concurrency: { limit: LIMIT, key: "event.data.k" }
  }),
  handles("ship", { on: ["order.paid"], actorKey: "event.data.k" }),
  handles("notify", { on: [], concurrency: { limit: 1 }, actorKey: "event.data.k" })
]
const workers = ["worker-1", "worker-2", "worker-3"]

class Walk {
  readonly random: () => number
  readonly shop: Shop
  /** Live turns as the workers know them. Some are stale. */
  readonly turns: Array<{ readonly job: Job; readonly worker: string }> = []
  readonly runs = new Set<string>()
  /** Journal entries as they were first seen. `patchStep`, retries and resumes from a step remove them. */
  readonly journal = new Map<string, string>()
  /** When each ended run was last changed: such a run is checked again only after another change. */
  readonly seen = new Map<string, string>()
  step = 0

  constructor(shop: Shop, random: () => number) {
    this.shop = shop
    this.random = random
  }

  int(below: number): number {
    return Math.floor(this.random() * below)
  }
  pick<A>(values: ReadonlyArray<A>): A {
    return values[this.int(values.length)]!
  }
  data(): unknown {
    return { k: this.int(3), n: this.int(3) }
  }

  /** Something that the handler of a turn might do next. */
  op(): TurnOp {
    const key = `${this.pick(["a", "b", "c", "d"])}:${this.int(4)}`
    switch (this.int(14)) {
      case 0:
        return sleep(`sleep-${key}`, this.int(3000))
      case 1:
        return waitFor(`wait-${key}`, this.pick(["order.placed", "order.paid", "order.*"]), {
          timeoutMs: this.int(5000),
          ...(this.int(2) === 0 ? {} : { match: this.pick(["data.k", "event.data.n > 1"]) })
        })
      case 2:
        return invoke(`invoke-${key}`, this.pick(["ship", "notify", "unknown"]), {
          input: this.data(),
          timeoutMs: this.int(5000)
        })
      case 3:
        return invokeAsync(`async-${key}`, "notify", this.data())
      case 4:
        return retryStep(`run-${key}`, 1 + this.int(3), this.int(2000))
      case 5:
        return publish(`publish-${key}`, "orders", this.data())
      case 6:
        return settle(`${this.pick(["sleep", "wait", "invoke"])}-${key}`)
      case 7:
        return withdraw(`${this.pick(["sleep", "wait", "invoke"])}-${key}`)
      case 8:
        return done(`once-${key}`)
      default:
        // the last attempt of several
        return done(`run-${key}`, this.int(5) === 0 ? failure("declined") : success(this.step), {
          attempt: 2 + this.int(3)
        })
    }
  }

  ending(): TurnOp {
    switch (this.int(12)) {
      case 0:
        return fail("no stock")
      case 1:
        return retryRun(this.int(2000))
      case 2:
        return pause
      case 3:
        return release
      case 4:
      case 5:
        return complete(this.step)
      default:
        return suspend()
    }
  }

  report(): Effect.Effect<unknown, unknown> {
    const turn = this.pick(this.turns)
    if (turn === undefined) return Effect.void
    const { job } = turn
    const ops = Array.from({ length: this.int(4) }, () => this.op())
    if (this.int(20) === 0) ops.push(compensate("a", "b"))
    const ends = this.int(2) === 0
    if (ends) ops.push(this.ending())
    return Effect.flatMap(
      Reports.applyReports(this.shop.store, "default", [{ jobId: job.jobId, runId: job.runId, ops }]),
      ([ack]) => {
        // sometimes the walk keeps a refused turn, so that this turn reports again
        if (!ends && (ack?._tag !== "Refused" || this.int(3) === 0)) return Effect.void
        this.turns.splice(this.turns.indexOf(turn), 1)
        // sometimes no worker says that it has dropped the run
        return this.int(2) === 0
          ? Effect.void
          : this.shop.store.write(LostLeases.endRevokedLeases("default", [job.jobId]))
      }
    )
  }

  /** Run control on a random run. It may be refused: other tests check in which states. */
  steer(): Effect.Effect<unknown, unknown> {
    const { store } = this.shop
    const runId = this.pick([...this.runs])
    if (runId === undefined) return Effect.void
    const steps = Effect.orElseSucceed(RunInspection.getRunSteps(store, "default", runId), () => [])
    const action = this.int(5)
    const steered = Effect.flatMap(steps, (known): Effect.Effect<unknown, unknown> => {
      const step = this.pick(known)
      const from = this.int(2) === 0 ? undefined : step?.id
      switch (action) {
        case 0:
          return store.write(RunControl.cancelRun("default", runId, ""))
        case 1:
          return store.write(RunControl.pauseRun("default", runId, ""))
        case 2:
          return store.write(RunControl.resumeRun("default", runId, from))
        case 3:
          return store.write(RunControl.retryRun("default", runId, from))
        default:
          return step === undefined
            ? Effect.void
            : store.write(RunControl.patchStep("default", step.id, "0", ""))
      }
    })
    // cancelling and pausing do not change the journal; the other operations may, as exceptions to guarantee G3
    if (action >= 2) this.forget(runId)
    return Effect.catchIf(
      steered,
      (error) => ["INVALID_STATE", "STEP_NOT_FOUND"].includes((error as { code?: string }).code ?? ""),
      () => Effect.void
    )
  }

  forget(runId: string): void {
    for (const key of this.journal.keys()) if (key.startsWith(`${runId}:`)) this.journal.delete(key)
  }

  advance(): Effect.Effect<unknown, unknown> {
    const { shop } = this
    const dice = this.int(20)
    if (dice < 4) return shop.emit(this.pick(["order.placed", "order.paid"]), this.data())
    if (dice < 10) {
      const worker = this.pick(workers)
      const leaseMs = this.int(2) === 0 ? {} : { leaseMs: 1 + this.int(2000) }
      return Effect.map(shop.claim({ worker, room: 1 + this.int(3), ...leaseMs }), (jobs) => {
        for (const job of jobs) this.turns.push({ job, worker })
      })
    }
    if (dice < 15) return this.report()
    if (dice < 17) return shop.pass(this.int(1500))
    if (dice < 18) {
      const worker = this.pick(workers)
      return shop.store.write(LostLeases.releaseWorker("default", worker, this.int(2) === 0))
    }
    return this.steer()
  }

  /** Checks what must be true at every moment. */
  check(): Effect.Effect<void, unknown> {
    const { shop, journal } = this
    return Effect.gen({ self: this }, function* () {
      assert.strictEqual(yield* Stuck.countStuckRuns(shop.store), 0, "no run is stuck")
      if (this.step % CHECK_EVERY > 0) return

      const { runs } = yield* RunList.listRuns(shop.store, { environment: "default", limit: 1000 })
      const leased = new Map<string, number>()
      for (const { id, functionId, endedAt, updatedAt } of runs) {
        this.runs.add(id)
        if (endedAt !== undefined && this.seen.get(id) === updatedAt && this.step > 0) continue
        this.seen.set(id, updatedAt)
        const situation = yield* shop.situation(id)
        const { lease } = situation
        const live = lease !== undefined && lease.isRevoked !== true
        // a revoked lease counts under the limit, too
        if (lease !== undefined) {
          const place = `${functionId} ${situation.concurrencyKey}`
          leased.set(place, (leased.get(place) ?? 0) + 1)
        }
        const { status } = situation.run
        assert.strictEqual(
          live,
          status === "running" || (status === "compensating" && live),
          "leases and states"
        )
        if (lease !== undefined) assert.isUndefined(situation.readyAt, "a leased run is not handed out")

        const steps = yield* RunInspection.getRunSteps(shop.store, "default", id)
        const keys = steps.map((step) => step.id)
        assert.strictEqual(new Set(keys).size, keys.length, `each step key is there once: ${keys.join(", ")}`)
        for (const step of steps) {
          if (step.status === "waiting") continue
          const entry = JSON.stringify(step)
          assert.strictEqual(journal.get(step.id) ?? entry, entry, "entries never change")
          journal.set(step.id, entry)
        }
      }
      for (const [place, count] of leased) {
        if (place.startsWith("charge")) assert.isAtMost(count, LIMIT, place)
        if (place.startsWith("notify")) assert.isAtMost(count, 1, place)
      }
    })
  }
}

export const randomWalkSuite = (test: ShopTest): void => {
  describe("a random walk", () => {
    const wanted = process.env.IRONFLOW_TEST_SEED
    const others = Array.from({ length: either(1, 10) }, () => Math.floor(Math.random() * 2 ** 31))
    for (const seed of wanted === undefined ? [1, ...others] : [Number(wanted)]) {
      test(`keeps all guarantees (IRONFLOW_TEST_SEED=${seed})`, function* (shop) {
        const walk = new Walk(shop, randomOf(seed))
        yield* shop.register(...functions)
        for (walk.step = 0; walk.step < STEPS; walk.step++) {
          yield* walk.advance()
          yield* walk.check()
        }
        walk.step = 0
        yield* walk.check()
        // a random seed may make a short walk
        if (seed !== 1) return
        assert.isAbove(walk.runs.size, 5, "the walk went somewhere")
        assert.isAbove(walk.journal.size, 5, "the walk went somewhere")

        // once all leases are released, everything that is not paused comes to an end
        yield* shop.store.write(LostLeases.releaseWorker("default", workers[0]!, false))
        yield* shop.store.write(LostLeases.releaseWorker("default", workers[1]!, false))
        yield* shop.store.write(LostLeases.releaseWorker("default", workers[2]!, false))
        for (let round = 0; round < 200; round++) {
          yield* shop.pass(10_000)
          const jobs = yield* shop.claim({ worker: "sweeper", room: 50 })
          if (jobs.length === 0 && round > 20) break
          for (const job of jobs) yield* shop.report(job, job.compensating ? fail("x") : complete())
        }
        const left = yield* Effect.forEach([...walk.runs], (id) => shop.status(id))
        assert.deepStrictEqual(
          [...new Set(left)].filter(
            (status) => !["completed", "failed", "cancelled", "paused"].includes(status)
          ),
          []
        )
      })
    }
  })
}
