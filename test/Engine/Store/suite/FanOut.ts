/** Events with very many waits: their delivery takes several transactions, and no wait is missed. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Job, Outcome, TurnOp } from "../../../../src/Protocol/Worker.ts"
import { MAX_ROWS } from "../../../../src/Engine/Store/TransactionBudget.ts"
import * as Append from "../../../../src/Engine/Events/Append.ts"
import { listRuns } from "../../../../src/Engine/Runs/RunList.ts"
import * as RunControl from "../../../../src/Engine/Runs/RunControl.ts"
import * as Stuck from "../../../../src/Engine/Runs/Stuck.ts"
import * as Reports from "../../../../src/Engine/Turns/Reports.ts"
import { fireDue } from "../../../../src/Engine/Schedules/FireDue.ts"
import {
  complete,
  environment,
  handles,
  invoke,
  settle,
  type Shop,
  type ShopTest,
  suspend,
  waitFor
} from "./Shop.ts"

/** So many waits that their delivery takes three transactions. */
const many = 2 * MAX_ROWS + 100

/** Starts runs, and lets each report its ops. Returns their jobs in the order of the runs. */
const startMany = (shop: Shop, count: number, ops: (i: number) => ReadonlyArray<TurnOp>) =>
  Effect.gen(function* () {
    const numbers = Array.from({ length: count }, (_, i) => i)
    // concurrently, so that a few transactions store them all
    yield* Effect.forEach(numbers, (i) => shop.emit("order.placed", { i }), {
      concurrency: "unbounded",
      discard: true
    })
    const jobs: Array<Job> = yield* shop.claim({ room: count })
    assert.strictEqual(jobs.length, count)
    const acks = yield* Reports.applyReports(
      shop.store,
      "default",
      jobs.map(({ jobId, runId }, i) => ({ jobId, runId, ops: [...ops(i)] }))
    )
    assert.isTrue(acks.every(({ _tag }) => _tag === "Accepted"))
    return jobs
  })

const waiting = (shop: Shop, count = many, options: Parameters<typeof waitFor>[2] = {}) =>
  startMany(shop, count, () => [waitFor("paid:0", "order.paid", options), suspend("paid:0")])

const dataOf = (outcome: Outcome | undefined): unknown =>
  outcome === undefined
    ? undefined
    : outcome._tag === "Failure"
      ? outcome.error.name
      : JSON.parse(outcome.value!).data

/** Claims all ready runs, and counts what the last step of each has received. */
const received = (shop: Shop) =>
  Effect.map(shop.claim({ room: 100_000 }), (jobs) => {
    const counts = new Map<string, number>()
    for (const { journal } of jobs) {
      const data = JSON.stringify(dataOf(journal.at(-1)?.outcome))
      counts.set(data, (counts.get(data) ?? 0) + 1)
    }
    return Object.fromEntries(counts)
  })

/** Records how many steps end in each transaction. */
const watchCommits = (shop: Shop) => {
  const ended: Array<number> = []
  shop.store.onCommit(
    ({ activity }) => {
      if (activity.length > 0) ended.push(activity.filter(({ _tag }) => _tag === "StepEnded").length)
    },
    { activity: "steps" }
  )
  return ended
}

export const fanOutSuite = (test: ShopTest, isWhole: boolean): void => {
  /** For tests of what the programs decide, which is the same on every store. */
  const testIfWhole: ShopTest = isWhole ? test : () => undefined
  describe("an event with very many waits", () => {
    test("reaches a limited number of waits in one transaction, and all of them in the end", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* waiting(shop)
      const ended = watchCommits(shop)

      yield* shop.emit("order.paid", { n: 1 })
      assert.deepStrictEqual(ended, [MAX_ROWS])
      yield* shop.fire()

      assert.deepStrictEqual(ended, [MAX_ROWS, MAX_ROWS, 100])
      assert.deepStrictEqual(yield* received(shop), { '{"n":1}': many })
      assert.strictEqual((yield* fireDue(shop.store)).nextDueAt, Infinity)
    })

    test("leaves time for other work: the rest is due later, and calls are served in between", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* waiting(shop)

      yield* shop.emit("order.paid", { n: 1 })
      assert.strictEqual(shop.lastChanges?.dueAt, 0)
      const { nextDueAt } = yield* fireDue(shop.store)
      assert.strictEqual(nextDueAt, 0)

      const [served, last] = yield* Effect.all([shop.emit("order.sent"), fireDue(shop.store)], {
        concurrency: "unbounded"
      })
      assert.isString(served.eventId)
      assert.notStrictEqual(last.nextDueAt, 0)
      assert.deepStrictEqual(yield* received(shop), { '{"n":1}': many })
    })

    testIfWhole("does not share a full transaction with another event", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* startMany(shop, many, (i) => [waitFor("paid:0", i % 2 === 0 ? "a" : "b"), suspend("paid:0")])
      const ended = watchCommits(shop)

      yield* Effect.all([shop.emit("a"), shop.emit("b")], { concurrency: "unbounded" })
      yield* shop.fire()

      assert.isAtMost(Math.max(...ended), MAX_ROWS)
      assert.strictEqual(
        ended.reduce((sum, n) => sum + n, 0),
        many
      )
    })

    testIfWhole("is delivered before later events", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* waiting(shop)

      yield* shop.emit("order.paid", { n: 1 })
      yield* shop.emit("order.paid", { n: 2 })
      yield* shop.emit("order.paid", { n: 3 })
      yield* shop.fire()

      assert.deepStrictEqual(yield* received(shop), { '{"n":1}': many })
    })

    testIfWhole("does not delay an event of another name", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* waiting(shop)
      const [job] = yield* startMany(shop, 1, () => [waitFor("sent:0", "order.sent")])

      yield* shop.emit("order.paid", { n: 1 })
      yield* shop.emit("order.sent", { n: 2 })

      assert.deepStrictEqual(shop.takeNotices(), ["Fired sent:0"])
      yield* shop.report(job!, settle("sent:0"), complete())
      yield* shop.fire()
      assert.deepStrictEqual(yield* received(shop), { '{"n":1}': many })
    })

    testIfWhole("reaches the waits that it matches, and no others", function* (shop) {
      yield* shop.register(handles("charge"))
      const kinds = [
        waitFor("paid:0", "invoice.paid", { match: "data.i" }),
        waitFor("paid:0", "invoice.paid", { match: "event.data.i == trigger.data.i % 2 * 0 + 7" }),
        waitFor("paid:0", "invoice.paid", { match: "event.data.i == 8" }),
        waitFor("paid:0", "invoice.*"),
        waitFor("paid:0", "*.sent"),
        waitFor("paid:0", "invoice.*", { match: "data.i" })
      ]
      yield* startMany(shop, kinds.length * MAX_ROWS, (i) => [kinds[i % kinds.length]!, suspend("paid:0")])

      yield* shop.emit("invoice.paid", { i: 7 })
      yield* shop.fire()

      // waits of two kinds match: those whose expression expects 7, and those for `invoice.*` without `match`; the run
      // with i = 7 is none of those that compare `data.i`
      assert.deepStrictEqual(yield* received(shop), { '{"i":7}': 2 * MAX_ROWS })
      yield* shop.emit("invoice.paid", { i: 8 })
      yield* shop.fire()
      assert.deepStrictEqual(yield* received(shop), { '{"i":8}': MAX_ROWS })
      yield* shop.emit("parcel.sent", { i: 9 })
      yield* shop.fire()
      assert.deepStrictEqual(yield* received(shop), { '{"i":9}': MAX_ROWS })
    })

    testIfWhole(
      "gives every expression its full budget, however many expressions there are",
      function* (shop) {
        yield* shop.register(handles("charge"))
        const list = JSON.stringify(Array.from({ length: 100 }, (_, i) => i))
        const match = `${list}.all(a, ${list}.all(b, a + b >= 0 && event.data.n == 1))`
        yield* waiting(shop, 20, { match })

        const { warnings } = yield* shop.emit("order.paid", { n: 1 })
        yield* shop.fire()

        assert.deepStrictEqual(warnings, [])
        assert.deepStrictEqual(yield* received(shop), { '{"n":1}': 20 })
      }
    )

    test("is delivered once to a wait that is opened meanwhile and has looked back", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* waiting(shop, many)
      const laterJobs = yield* startMany(shop, 2, () => [])

      yield* shop.emit("order.paid", { n: 1 })
      for (const job of laterJobs) {
        const [outcome] = yield* shop.report(job, waitFor("paid:0", "order.paid"))
        assert.deepStrictEqual(dataOf(outcome), { n: 1 })
        yield* shop.report(job, settle("paid:0"))
        assert.deepStrictEqual(yield* shop.report(job, waitFor("paid:1", "order.paid")), [undefined])
      }
      yield* shop.fire()
      assert.deepStrictEqual(yield* received(shop), { '{"n":1}': many })
      assert.deepStrictEqual(shop.takeNotices(), [])

      yield* shop.emit("order.paid", { n: 2 })
      assert.deepStrictEqual(shop.takeNotices(), ["Fired paid:1", "Fired paid:1"])
    })

    testIfWhole("is not delivered to a run that started after it", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* waiting(shop)

      yield* shop.emit("order.paid", { n: 1 })
      yield* received(shop)
      yield* startMany(shop, 1, () => [waitFor("paid:0", "order.paid")])
      yield* shop.fire()

      assert.deepStrictEqual(shop.takeNotices(), [])
    })

    testIfWhole("is delivered before the timeout of a wait that it has not reached yet", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* waiting(shop, many, { timeoutMs: 1000 })
      yield* waiting(shop, many, { timeoutMs: 1000, match: "event.data.n == 1 && trigger.data.i >= 0" })
      yield* waiting(shop, 1, { timeoutMs: 1000, match: "event.data.n == 2" })

      yield* shop.pass(999)
      yield* shop.emit("order.paid", { n: 1 })
      yield* shop.pass(1)

      assert.deepStrictEqual(yield* received(shop), { '{"n":1}': 2 * many, '"WaitTimeoutError"': 1 })
    })

    testIfWhole("does not prevent the timeout of a wait that is newer than the event", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* waiting(shop, many)
      const [job] = yield* startMany(shop, 1, () => [])

      yield* shop.emit("order.paid", { n: 1 })
      yield* shop.report(job!, waitFor("paid:0", "order.paid"), settle("paid:0"))
      yield* shop.report(job!, waitFor("paid:1", "order.paid", { timeoutMs: 0.5 }), suspend("paid:1"))
      yield* shop.pass(1)

      assert.deepStrictEqual(yield* received(shop), { '{"n":1}': many, '"WaitTimeoutError"': 1 })
    })

    test("respects runs that were cancelled or paused meanwhile", function* (shop) {
      yield* shop.register(handles("charge"))
      const jobs = yield* waiting(shop)
      const [cancelled, paused] = [jobs.at(-1)!.runId, jobs.at(-2)!.runId]

      yield* shop.emit("order.paid", { n: 1 })
      yield* shop.store.write(RunControl.cancelRun(environment, cancelled, ""))
      yield* shop.store.write(RunControl.pauseRun(environment, paused, ""))
      yield* shop.fire()

      assert.deepStrictEqual(yield* received(shop), { '{"n":1}': many - 2 })
      assert.strictEqual(yield* shop.status(cancelled), "cancelled")
      assert.deepStrictEqual(yield* shop.steps(cancelled), [])
      assert.strictEqual(yield* shop.status(paused), "paused")
      yield* shop.store.write(RunControl.resumeRun(environment, paused))
      assert.deepStrictEqual(yield* received(shop), { '{"n":1}': 1 })
    })

    testIfWhole("does not make a run that it has not reached yet count as stuck", function* (shop) {
      yield* shop.register(handles("charge"))
      const jobs = yield* waiting(shop)
      yield* shop.emit("order.paid", { n: 1 })

      const { waits } = yield* shop.situation(jobs.at(-1)!.runId)

      assert.strictEqual(yield* Stuck.countStuckRuns(shop.store), 0)
      assert.deepStrictEqual(
        waits.map(({ fired, isBeingDelivered }) => ({ fired, isBeingDelivered })),
        [{ fired: false, isBeingDelivered: true }]
      )
      yield* shop.fire()
      const [wait] = (yield* shop.situation(jobs.at(-1)!.runId)).waits
      assert.isUndefined(wait)
    })

    test("is sent to live turns a few megabytes at a time, as one shared string", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* startMany(shop, 30, () => [waitFor("paid:0", "order.paid")])
      const told: Array<number> = []
      shop.store.onCommit(({ notices }) => void (notices.length > 0 && told.push(notices.length)))

      yield* shop.emit("order.paid", { text: "x".repeat(1_000_000) })
      yield* shop.fire()

      assert.isAtMost(Math.max(...told), 9)
      assert.strictEqual(shop.takeNotices().length, 30)
    })

    testIfWhole("reaches a wait even when it alone fills a transaction", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* waiting(shop, 3)
      yield* waiting(shop, many, { match: "event.data.n == 0" })

      // the delivery of the first two events leaves no room for the third in the transaction
      yield* shop.store.write(
        Append.appendEvents([
          { environment, name: "order.paid", version: 1, data: '{"n":2}' },
          { environment, name: "order.paid", version: 1, data: '{"n":1}' },
          { environment, name: "order.paid", version: 1, data: '{"n":0}' }
        ])
      )
      yield* shop.fire()

      assert.deepStrictEqual(yield* received(shop), { '{"n":2}': 3, '{"n":0}': many })
    })
  })

  describe("a run with very many children", () => {
    const children = (shop: Shop) =>
      Effect.gen(function* () {
        yield* shop.register(handles("order"), handles("charge", { on: ["never"] }))
        const parent = yield* shop.start()
        const ops = Array.from({ length: many }, (_, i) =>
          invoke(`charge:${i}`, "charge", { timeoutMs: 1e9 })
        )
        yield* shop.report(parent, ...ops, suspend())
        return parent
      })
    const count = (shop: Shop, status: "cancelled" | "pending" | "completed") =>
      Effect.map(
        listRuns(shop.store, { environment, status, functionId: "charge", limit: 1 }),
        ({ totalCount }) => totalCount
      )

    test("is cancelled with a bounded number of children in one transaction, and the others later", function* (shop) {
      const parent = yield* children(shop)
      const ended: Array<number> = []
      shop.store.onCommit((changes) => void ended.push(changes.ended.length))

      yield* shop.store.write(RunControl.cancelRun(environment, parent.runId, ""))

      assert.strictEqual(yield* shop.status(parent.runId), "cancelled")
      assert.strictEqual(shop.lastChanges?.dueAt, 0)
      yield* shop.fire()
      assert.isAtMost(Math.max(...ended), MAX_ROWS + 1)
      assert.strictEqual(yield* count(shop, "cancelled"), many)
    })

    test("keeps children that complete before they are cancelled", function* (shop) {
      const parent = yield* children(shop)
      const jobs = yield* shop.claim({ room: many })
      const last = jobs.at(-1)!

      yield* shop.store.write(RunControl.cancelRun(environment, parent.runId, ""))
      yield* shop.report(last, complete())
      yield* shop.fire()

      assert.strictEqual(yield* count(shop, "cancelled"), many - 1)
      assert.strictEqual(yield* shop.status(last.runId), "completed")
      assert.deepStrictEqual(yield* shop.steps(parent.runId), [])
    })

    test("may be retried before all of them are cancelled, with new ones", function* (shop) {
      const parent = yield* children(shop)

      yield* shop.store.write(RunControl.cancelRun(environment, parent.runId, ""))
      yield* shop.store.write(RunControl.retryRun(environment, parent.runId))
      const again = yield* shop.claimOne({ functions: ["order"] })
      yield* shop.report(again, invoke("charge:0", "charge", { timeoutMs: 1e9 }), suspend("charge:0"))
      yield* shop.fire()

      assert.strictEqual(yield* count(shop, "cancelled"), many)
      assert.strictEqual(yield* count(shop, "pending"), 1)
      yield* shop.report(yield* shop.claimOne({ functions: ["charge"] }), complete("paid"))
      const { journal } = yield* shop.claimOne({ functions: ["order"] })
      assert.deepStrictEqual(journal[0]?.outcome, { _tag: "Success", value: '"paid"' })
    })
  })
}
