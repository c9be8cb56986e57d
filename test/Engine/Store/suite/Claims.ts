/** Claims: which worker gets which run, and how many runs at a time. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import type { Job } from "../../../../src/Protocol/Worker.ts"
import {
  complete,
  done,
  fail,
  handles,
  pause,
  release,
  retryRun,
  settle,
  type ShopTest,
  sleep,
  suspend
} from "./Shop.ts"
import * as Claims from "../../../../src/Engine/Turns/Claims.ts"
import * as ExtendLeases from "../../../../src/Engine/Turns/ExtendLeases.ts"
import * as LostLeases from "../../../../src/Engine/Turns/LostLeases.ts"
import type { EndedRunRecord } from "../../../../src/Engine/Store/EndedRunRecord.ts"
import * as RunRows from "../../../../src/Engine/Runs/RunRows.ts"
import * as Reports from "../../../../src/Engine/Turns/Reports.ts"
import * as RunControl from "../../../../src/Engine/Runs/RunControl.ts"

const numbers = (n: number) => Array.from({ length: n }, (_, i) => i)
const inputs = (jobs: ReadonlyArray<Job>) => jobs.map((job) => JSON.parse(job.event.data).n)

/** All orders of the items of a list. */
const permutations = <A>(list: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  list.length === 0
    ? [[]]
    : list.flatMap((first, i) =>
        list.indexOf(first) < i ? [] : permutations(list.toSpliced(i, 1)).map((rest) => [first, ...rest])
      )

export const claimsSuite = (test: ShopTest): void => {
  describe("claims", () => {
    test("that find nothing do not hide runs that become ready in the same commit", function* (shop) {
      yield* shop.register(handles("charge"))
      assert.isTrue(shop.lastChanges?.mayHaveReady)
      yield* shop.claim()
      assert.isFalse(shop.lastChanges?.mayHaveReady)
      yield* shop.emit("order.placed")
      assert.isTrue(shop.lastChanges?.mayHaveReady)
      yield* shop.claimOne()
      yield* shop.claim()
      assert.isFalse(shop.lastChanges?.mayHaveReady)
      // after a registration the function may have ready runs, although it has none
      yield* shop.register(handles("charge"))
      const announced: Array<readonly [started: number, ready: boolean, mayHaveReady: boolean]> = []
      const stop = shop.store.onCommit(({ counts, mayHaveReady, ready }) => {
        announced.push([counts.started, ready, mayHaveReady])
      })

      const [jobs] = yield* Effect.all([shop.claim(), shop.emit("order.placed")], {
        concurrency: "unbounded"
      })
      stop()

      assert.deepStrictEqual(jobs, [])
      assert.deepStrictEqual(announced.at(-1), [1, true, true])
      yield* shop.claimOne()
    })

    test("a job has everything that its turn needs", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* shop.pass(5000)
      const { eventId, runIds } = yield* shop.emit(
        "order.placed",
        { orderId: "o-1" },
        { version: 3, metadata: '{"trace":"t"}', source: "api", idempotencyKey: "k" }
      )

      const job = yield* shop.claimOne()

      assert.deepStrictEqual(job, {
        jobId: job.jobId,
        runId: runIds[0]!,
        functionId: "charge",
        environment: "default",
        attempt: 1,
        generation: 0,
        event: {
          id: eventId,
          name: "order.placed",
          version: 3,
          data: '{"orderId":"o-1"}',
          metadata: '{"trace":"t"}',
          timestamp: 5000,
          source: "api",
          idempotencyKey: "k"
        },
        journal: [],
        open: [],
        lingerMs: 0,
        createdAt: 5000,
        transactions: true
      })
      assert.strictEqual(yield* shop.status(job.runId), "running")
      assert.strictEqual((yield* shop.run(job.runId)).workerId, "worker-1")
    })

    test("runs are dispatched oldest first, at most as many as the worker has room for, each once", function* (shop) {
      yield* shop.register(handles("charge"))
      for (const n of numbers(5)) {
        yield* shop.emit("order.placed", { n })
        yield* shop.pass(1)
      }

      assert.deepStrictEqual(inputs(yield* shop.claim({ room: 2 })), [0, 1])
      assert.deepStrictEqual(inputs(yield* shop.claim({ room: 10 })), [2, 3, 4])
      assert.deepStrictEqual(inputs(yield* shop.claim({ room: 10 })), [])
    })

    test("a worker without room, or without the function, gets nothing", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* shop.emit("order.placed")

      assert.deepStrictEqual(yield* shop.claim({ room: 0 }), [])
      assert.deepStrictEqual(yield* shop.claim({ functions: ["ship"] }), [])
      assert.strictEqual((yield* shop.claim()).length, 1)
    })

    test("a busy function does not keep another one from its runs", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship", { on: ["order.paid"] }))
      for (const n of numbers(20)) yield* shop.emit("order.placed", { n })
      yield* shop.emit("order.paid")

      const claimed = [...(yield* shop.claim()), ...(yield* shop.claim())]

      assert.deepStrictEqual(claimed.map(({ functionId }) => functionId).sort(), ["charge", "ship"])
    })

    test("a worker with the registered code is preferred, and workers with older code get the rest", function* (shop) {
      yield* shop.register(handles("charge", { codeHash: "new" }))
      yield* shop.emit("order.placed")
      yield* shop.emit("order.placed")
      const old = shop.demand({ worker: "old", codeHash: "old", room: 5 })
      const current = shop.demand({ worker: "current", room: 1 })

      const claims = yield* shop.store.write(Claims.claimRuns("default", [old, current]))

      assert.deepStrictEqual(
        claims.map(({ workerId }) => workerId),
        ["current", "old"]
      )
    })

    test("the worker with more room is preferred among workers with the same code", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* shop.emit("order.placed")

      const claims = yield* shop.store.write(
        Claims.claimRuns("default", [
          shop.demand({ worker: "busy", room: 1 }),
          shop.demand({ worker: "idle", room: 3 })
        ])
      )

      assert.deepStrictEqual(
        claims.map(({ workerId }) => workerId),
        ["idle"]
      )
    })

    test("a function that requires labels goes only to workers that have them", function* (shop) {
      yield* shop.register(handles("render", { metadata: { requires: { gpu: "yes", cores: 8 } } }))
      yield* shop.emit("order.placed")

      assert.deepStrictEqual(yield* shop.claim(), [])
      assert.deepStrictEqual(yield* shop.claim({ labels: { gpu: "yes", cores: "4" } }), [])
      assert.strictEqual((yield* shop.claim({ labels: { gpu: "yes", cores: "8" } })).length, 1)
    })

    test("a claim gets the runs of an event in the same commit", function* (shop) {
      yield* shop.register(handles("charge"))

      const [{ runIds }, jobs] = yield* Effect.all([shop.emit("order.placed"), shop.claim()], {
        concurrency: "unbounded"
      })

      assert.deepStrictEqual(
        jobs.map(({ runId }) => runId),
        runIds
      )
    })
  })

  describe("claims and events of one commit", () => {
    const kinds = ["emit", "emit", "steer", "claim", "claim"] as const
    const orders = permutations(kinds)

    test("lose no run, whatever their order is", function* (shop) {
      yield* shop.register(
        handles("charge"),
        handles("ship", { concurrency: { limit: 1 } }),
        handles("bill", { on: ["order.placed", "order.changed"] })
      )
      for (const order of orders) {
        const waiting = yield* shop.emit("order.changed")
        const bill = yield* shop.claimOne()
        assert.strictEqual(bill.runId, waiting.runIds[0])
        const emitted: Array<string> = []
        const claimed: Array<Job> = []
        const commands = order.map((kind) => {
          switch (kind) {
            case "emit":
              return Effect.map(shop.emit("order.placed"), ({ runIds }) => void emitted.push(...runIds))
            case "steer":
              // this command finds the run by reading its row
              return Effect.asVoid(
                shop.store.write(RunControl.cancelRun("default", bill.runId, "it is not wanted"))
              )
            case "claim":
              return Effect.map(shop.claim({ room: 1 }), (jobs) => void claimed.push(...jobs))
          }
        })
        yield* Effect.all(commands, { concurrency: "unbounded" })

        let done = 0
        for (let round = 0; round < 20; round++) {
          for (; done < claimed.length; done++) yield* shop.report(claimed[done]!, complete())
          claimed.push(...(yield* shop.claim({ room: 2 })))
        }
        const sorted = (runs: ReadonlyArray<string>) => runs.toSorted()
        assert.deepStrictEqual(sorted(claimed.map(({ runId }) => runId)), sorted(emitted), order.join(", "))
        for (const id of emitted) assert.strictEqual(yield* shop.status(id), "completed", order.join(", "))
        assert.isFalse(shop.lastChanges?.mayHaveReady, order.join(", "))
      }
    })

    test("leave what a worker has no room for to the next claim, oldest first", function* (shop) {
      yield* shop.register(handles("charge"))
      const emits = numbers(5).map((n) => shop.emit("order.placed", { n }))
      let jobs: ReadonlyArray<Job> = []
      const claim = Effect.map(shop.claim({ room: 2 }), (some) => void (jobs = some))

      yield* Effect.all([...emits, claim], { concurrency: "unbounded" })

      assert.deepStrictEqual(inputs(jobs), [0, 1])
      assert.isTrue(shop.lastChanges?.mayHaveReady)
      assert.deepStrictEqual(inputs(yield* shop.claim({ room: 10 })), [2, 3, 4])
      assert.deepStrictEqual(yield* shop.claim(), [])
    })
  })

  describe("the end of a run that ended in its first turn", () => {
    const endings = {
      completed: [complete({ ok: true })],
      "completed without an output": [complete()],
      "completed after a step": [done("weigh:0"), complete([1])],
      "completed with an error as its output": [complete({ "~error": { name: "Error", message: "no" } })],
      failed: [fail("out of paper", { page: 3 })]
    }
    for (const [how, ops] of Object.entries(endings)) {
      test(`is announced as it would be read: ${how}`, function* (shop) {
        yield* shop.register(handles("charge"))
        assert.deepStrictEqual(yield* shop.claim(), [])
        const announced = new Map<string, EndedRunRecord>()
        const stop = shop.store.onCommit(({ endings }) => {
          for (const [id, ending] of endings) announced.set(id, ending)
        })
        const [, [job]] = yield* Effect.all(
          [shop.emit("order.placed", { n: 1 }), shop.claim({ worker: "near" })],
          { concurrency: "unbounded" }
        )
        yield* TestClock.adjust(7)
        yield* shop.report(job!, ...ops)
        stop()

        const ending = announced.get(job!.runId)
        assert.isDefined(ending)
        assert.deepStrictEqual(
          yield* shop.store.read(RunRows.showEnding("default", ending)),
          yield* shop.run(job!.runId)
        )
      })
    }

    test("is not announced when it is large, or when the turn was not the first", function* (shop) {
      yield* shop.register(handles("charge"))
      assert.deepStrictEqual(yield* shop.claim(), [])
      let announced = 0
      const stop = shop.store.onCommit(({ endings }) => void (announced += endings.size))
      const [, [small]] = yield* Effect.all([shop.emit("order.placed"), shop.claim()], {
        concurrency: "unbounded"
      })
      yield* shop.report(small!, complete())
      assert.strictEqual(announced, 1)
      const large = "x".repeat(5000)
      const [, [first]] = yield* Effect.all([shop.emit("order.placed", { large }), shop.claim()], {
        concurrency: "unbounded"
      })
      yield* shop.report(first!, complete())
      const [, [second]] = yield* Effect.all([shop.emit("order.placed"), shop.claim()], {
        concurrency: "unbounded"
      })
      yield* shop.report(second!, complete(large))
      const [, [third]] = yield* Effect.all([shop.emit("order.placed"), shop.claim()], {
        concurrency: "unbounded"
      })
      yield* shop.report(third!, release)
      yield* shop.report(yield* shop.claimOne(), complete())
      stop()

      assert.strictEqual(announced, 1)
      for (const job of [first!, second!, third!]) {
        assert.strictEqual(yield* shop.status(job.runId), "completed")
      }
    })
  })

  describe("a claim in one commit with a command that fails", () => {
    test("claims the same runs", function* (shop) {
      yield* shop.register(handles("charge"))
      const live = yield* shop.start()
      yield* shop.emit("order.placed", { n: 1 })
      const broken = { ...done("broken:0"), name: { not: "a name" } as unknown as string }

      const [jobs, error] = yield* Effect.all(
        [
          shop.claim({ room: 10 }),
          Effect.flip(
            Reports.applyReports(shop.store, "default", [
              { jobId: live.jobId, runId: live.runId, ops: [broken] }
            ])
          )
        ],
        { concurrency: "unbounded" }
      )

      assert.strictEqual(error._tag, "StoreError")
      assert.deepStrictEqual(inputs(jobs), [1])
    })
  })

  describe("concurrency limits", () => {
    test("a limit without a key applies to all runs of the function together", function* (shop) {
      yield* shop.register(handles("charge", { concurrency: { limit: 2 } }))
      for (const n of numbers(5)) yield* shop.emit("order.placed", { n })

      const jobs = yield* shop.claim({ room: 10 })
      assert.deepStrictEqual(inputs(jobs), [0, 1])
      assert.deepStrictEqual(inputs(yield* shop.claim({ worker: "worker-2", room: 10 })), [])

      yield* shop.report(jobs[0]!, complete())
      assert.deepStrictEqual(inputs(yield* shop.claim({ room: 10 })), [2])
    })

    test("a limit with a key applies to every key separately", function* (shop) {
      yield* shop.register(handles("charge", { concurrency: { limit: 1, key: "event.data.customer" } }))
      for (const n of numbers(3)) yield* shop.emit("order.placed", { n, customer: "ann" })
      yield* shop.emit("order.placed", { n: 3, customer: "bob" })
      yield* shop.emit("order.placed", { n: 4 })

      const jobs = yield* shop.claim({ room: 10 })
      assert.deepStrictEqual(inputs(jobs).sort(), [0, 3, 4])
      assert.deepStrictEqual(yield* shop.claim({ room: 10 }), [])

      yield* shop.report(
        jobs.find((job) => inputs([job])[0] === 0)!,
        complete()
      )
      assert.deepStrictEqual(inputs(yield* shop.claim({ room: 10 })), [1])
    })

    test("five hundred keys at their limit do not delay a key that has room", function* (shop) {
      yield* shop.register(handles("charge", { concurrency: { limit: 1, key: "event.data.customer" } }))
      for (const round of [0, 1]) {
        yield* Effect.forEach(
          numbers(500),
          (n) => shop.emit("order.placed", { n, round, customer: `customer-${n}` }),
          { concurrency: "unbounded" }
        )
      }
      assert.strictEqual((yield* shop.claim({ room: 1000 })).length, 500)
      yield* shop.emit("order.placed", { n: 1000, customer: "zoe" })

      assert.deepStrictEqual(inputs(yield* shop.claim({ room: 10 })), [1000])
    })

    test("a suspended run does not count under the limit", function* (shop) {
      yield* shop.register(handles("charge", { concurrency: { limit: 1 } }))
      yield* shop.emit("order.placed", { n: 0 })
      yield* shop.emit("order.placed", { n: 1 })
      const [first] = yield* shop.claim({ room: 10 })

      yield* shop.report(first!, sleep("rest:0", 1000), suspend("rest:0"))

      assert.deepStrictEqual(inputs(yield* shop.claim({ room: 10 })), [1])
      yield* shop.pass(1000)
      assert.deepStrictEqual(yield* shop.claim({ room: 10 }), [])
    })

    for (const [how, free] of [
      ["completes", (shop, job) => shop.report(job, complete())],
      ["ends at sign-out", (shop, job) => shop.report(job, release)],
      ["is tried again later", (shop, job) => shop.report(job, retryRun(1000))],
      ["pauses itself", (shop, job) => shop.report(job, pause)],
      [
        "is cancelled",
        (shop, job) => shop.store.write(RunControl.cancelRun("default", job.runId, "no stock"))
      ],
      [
        "is paused by a client",
        (shop, job) =>
          Effect.andThen(
            shop.store.write(RunControl.pauseRun("default", job.runId, "")),
            shop.report(job, done("charge:0"), release)
          )
      ],
      ["loses its worker", (shop) => shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))],
      [
        "is patched",
        (shop, job) =>
          Effect.andThen(
            shop.report(job, done("charge:0")),
            shop.store.write(RunControl.patchStep("default", `${job.runId}:charge:0`, "1", ""))
          )
      ]
    ] satisfies ReadonlyArray<
      [string, (shop: Parameters<Parameters<ShopTest>[1]>[0], job: Job) => Effect.Effect<unknown, unknown>]
    >) {
      test(`a run that ${how} makes room for the next one`, function* (shop) {
        yield* shop.register(handles("charge", { concurrency: { limit: 1, key: "event.data.customer" } }))
        const first = yield* shop.start("order.placed", { n: 0, customer: "ann" })
        yield* shop.pass(1)
        yield* shop.emit("order.placed", { n: 1, customer: "ann" })
        assert.deepStrictEqual(yield* shop.claim({ room: 10 }), [])

        yield* free(shop, first)

        assert.strictEqual((yield* shop.claim({ room: 10 })).length, 1)
        assert.strictEqual((yield* shop.claim({ room: 10 })).length, 0)
      })
    }

    test("a lowered limit applies to later runs", function* (shop) {
      yield* shop.register(handles("charge", { concurrency: { limit: 3 } }))
      for (const n of numbers(5)) yield* shop.emit("order.placed", { n })
      const jobs = yield* shop.claim({ room: 10 })
      yield* shop.register(handles("charge", { concurrency: { limit: 1 } }))

      for (const [i, job] of jobs.entries()) {
        assert.deepStrictEqual(yield* shop.claim({ room: 10 }), [], `after ${i} of 3`)
        yield* shop.report(job, complete())
      }
      assert.deepStrictEqual(inputs(yield* shop.claim({ room: 10 })), [3])
    })

    test("the limit does not count runs that started before it", function* (shop) {
      yield* shop.register(handles("charge"))
      for (const n of numbers(3)) yield* shop.emit("order.placed", { n })
      yield* shop.register(handles("charge", { concurrency: { limit: 1 } }))
      for (const n of [3, 4]) yield* shop.emit("order.placed", { n })

      assert.strictEqual((yield* shop.claim({ room: 2 })).length, 2)
      assert.strictEqual((yield* shop.claim({ room: 10 })).length, 2)
      assert.strictEqual((yield* shop.claim({ room: 10 })).length, 0)
    })

    test("a run that is lost for good makes room for the next one", function* (shop) {
      yield* shop.register(handles("charge", { concurrency: { limit: 1 } }))
      const first = yield* shop.start("order.placed", { n: 0 })
      for (let losses = 1; losses < 10; losses++) {
        yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))
        yield* shop.pass(120_000)
        assert.strictEqual((yield* shop.claimOne()).runId, first.runId)
      }
      yield* shop.emit("order.placed", { n: 1 })
      assert.deepStrictEqual(yield* shop.claim({ room: 10 }), [])

      yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))

      assert.strictEqual(yield* shop.status(first.runId), "paused")
      assert.deepStrictEqual(inputs(yield* shop.claim({ room: 10 })), [1])
    })
  })

  describe("actors", () => {
    const ship = handles("ship", { actorKey: "event.data.van" })

    test("the runs of an actor go to one worker while it lives", function* (shop) {
      yield* shop.register(ship)
      yield* shop.start("order.placed", { n: 0, van: "v-1" }, { worker: "worker-1" })
      yield* shop.emit("order.placed", { n: 1, van: "v-1" })
      yield* shop.emit("order.placed", { n: 2, van: "v-2" })
      yield* shop.emit("order.placed", { n: 3 })

      assert.deepStrictEqual(inputs(yield* shop.claim({ worker: "worker-2", room: 10 })), [2, 3])
      const [kept] = yield* shop.claim({ worker: "worker-1", room: 10 })
      assert.deepStrictEqual(inputs([kept!]), [1])
      assert.strictEqual((yield* shop.run(kept!.runId)).actorId, "v-1")
    })

    test("the runs of an actor go to another worker when theirs is gone", function* (shop) {
      yield* shop.register(ship)
      const job = yield* shop.start("order.placed", { n: 0, van: "v-1" }, { worker: "worker-1" })
      yield* shop.emit("order.placed", { n: 1, van: "v-1" })
      yield* shop.report(job, complete())

      yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", false))

      assert.deepStrictEqual(inputs(yield* shop.claim({ worker: "worker-2", room: 10 })), [1])
    })

    test("the runs of an actor go to another worker when theirs has reconnected without the function", function* (shop) {
      yield* shop.register(ship)
      const job = yield* shop.start("order.placed", { n: 0, van: "v-1" }, { worker: "worker-1" })
      yield* shop.emit("order.placed", { n: 1, van: "v-1" })
      yield* shop.report(job, complete())
      yield* shop.store.write(ExtendLeases.adoptLeases("default", "worker-1", [], 1000, new Set(["ship"])))
      assert.deepStrictEqual(yield* shop.claim({ worker: "worker-2", room: 10 }), [])

      yield* shop.store.write(ExtendLeases.adoptLeases("default", "worker-1", [], 1000, new Set(["charge"])))

      assert.deepStrictEqual(inputs(yield* shop.claim({ worker: "worker-2", room: 10 })), [1])
    })

    test("many runs of an actor whose worker is busy do not delay runs of other actors", function* (shop) {
      yield* shop.register(ship)
      yield* shop.start("order.placed", { n: 0, van: "v-1" }, { worker: "worker-1" })
      yield* Effect.forEach(numbers(150), (n) => shop.emit("order.placed", { n, van: "v-1" }), {
        concurrency: "unbounded"
      })
      yield* shop.pass(1)
      yield* shop.emit("order.placed", { n: 1000, van: "v-2" })

      assert.deepStrictEqual(inputs(yield* shop.claim({ worker: "worker-2", room: 1 })), [1000])
    })

    test("many runs of one new actor do not delay runs of other actors", function* (shop) {
      yield* shop.register(ship)
      yield* Effect.forEach(numbers(150), (n) => shop.emit("order.placed", { n, van: "v-1" }), {
        concurrency: "unbounded"
      })
      yield* shop.pass(1)
      yield* shop.emit("order.placed", { n: 1000, van: "v-2" })

      const claims = yield* shop.store.write(
        Claims.claimRuns("default", [
          shop.demand({ worker: "worker-1", room: 1 }),
          shop.demand({ worker: "worker-2", room: 1 })
        ])
      )

      assert.deepStrictEqual(inputs(claims.map(({ job }) => job)), [0, 1000])
    })

    test("under a limit too, runs of an actor whose worker is busy do not delay runs of other actors", function* (shop) {
      yield* shop.register(handles("ship", { actorKey: "event.data.van", concurrency: { limit: 2 } }))
      yield* shop.start("order.placed", { n: 0, van: "v-1" }, { worker: "worker-1" })
      yield* shop.emit("order.placed", { n: 1, van: "v-1" })
      yield* shop.pass(1)
      yield* shop.emit("order.placed", { n: 2, van: "v-2" })

      assert.deepStrictEqual(inputs(yield* shop.claim({ worker: "worker-2", room: 10 })), [2])
    })

    test("under a limit too, a run that waited for the worker of its actor goes there when that worker has room", function* (shop) {
      yield* shop.register(handles("ship", { actorKey: "event.data.van", concurrency: { limit: 9 } }))
      yield* shop.start("order.placed", { n: 0, van: "v-1" }, { worker: "worker-1" })
      yield* shop.emit("order.placed", { n: 1, van: "v-1" })
      assert.deepStrictEqual(yield* shop.claim({ worker: "worker-2", room: 10 }), [])

      assert.deepStrictEqual(inputs(yield* shop.claim({ worker: "worker-1" })), [1])
    })
  })

  describe("a later turn", () => {
    test("receives the journal in the handler's order, and the open steps", function* (shop) {
      yield* shop.register(handles("charge"))
      const first = yield* shop.start()
      yield* shop.report(
        first,
        sleep("rest:0", 1000),
        done("charge:0", { _tag: "Success", value: '{"paid":true}' }),
        done("tax:0", { _tag: "Failure", error: { name: "TypeError", message: "no rate" } }, { attempt: 3 }),
        done("log:0", { _tag: "Success", value: undefined })
      )
      yield* shop.pass(1000)
      yield* shop.report(first, settle("rest:0"), done("pack:0"), sleep("later:0", 5000), suspend("later:0"))
      yield* shop.pass(5000)

      const second = yield* shop.claimOne()

      assert.notStrictEqual(second.jobId, first.jobId)
      assert.deepStrictEqual(second.journal, [
        {
          stepKey: "charge:0",
          name: "charge",
          kind: "run",
          outcome: { _tag: "Success", value: '{"paid":true}' },
          attempt: 1
        },
        {
          stepKey: "tax:0",
          name: "tax",
          kind: "run",
          outcome: { _tag: "Failure", error: { name: "TypeError", message: "no rate" } },
          attempt: 3
        },
        {
          stepKey: "log:0",
          name: "log",
          kind: "run",
          outcome: { _tag: "Success", value: undefined },
          attempt: 1
        },
        {
          stepKey: "rest:0",
          name: "rest",
          kind: "sleep",
          outcome: { _tag: "Success", value: undefined },
          attempt: 1
        },
        {
          stepKey: "pack:0",
          name: "pack",
          kind: "run",
          outcome: { _tag: "Success", value: '"ok"' },
          attempt: 1
        },
        {
          stepKey: "later:0",
          name: "later",
          kind: "sleep",
          outcome: { _tag: "Success", value: undefined },
          attempt: 1
        }
      ])
      assert.deepStrictEqual(second.open, [])
    })
  })
}
