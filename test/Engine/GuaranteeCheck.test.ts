import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as TestClock from "effect/testing/TestClock"
import { ChecksGuarantees, GuaranteeCheck, layer } from "../../src/Engine/Guarantees/GuaranteeCheck.ts"
import { appendEvent } from "../../src/Engine/Events/Append.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"
import { acrossEnvironments, type Program, statement, write } from "../../src/Engine/Store/Program.ts"
import { Store } from "../../src/Engine/Store/Store.ts"
import type { Transaction } from "../../src/Engine/Store/Transaction.ts"
import { untilQuiet } from "./Quiet.ts"

const LOSE = statement("test.lose", "DELETE FROM events WHERE idempotency_key = 'order-1'", {
  scans: "in a test"
})
const lose = acrossEnvironments(
  "loseEvent",
  function* (): Program<void> {
    yield* write(LOSE)
  },
  () => "lose an event"
)
const MOVE = statement(
  "test.moveToMissingStream",
  "UPDATE events SET entity_id = 'o-1', entity_version = 1 WHERE idempotency_key = 'order-1'",
  { scans: "in a test" }
)
const moveToMissingStream = acrossEnvironments(
  "moveToMissingStream",
  function* (): Program<void> {
    yield* write(MOVE)
  },
  () => "move an event to a stream that does not exist"
)
const INSERT_RUN = statement(
  "test.insertRun",
  `INSERT INTO runs (id, environment, function, status, event, created_at, updated_at, ended_at)
     SELECT ?, environment, 1, 5, position, ?, ?, ? FROM events WHERE idempotency_key = 'order-1'`
)
const insertRun = acrossEnvironments(
  "insertRun",
  function* (_tx: Transaction, id: string, createdAt: number, endedAt: number): Program<void> {
    yield* write(INSERT_RUN, id, createdAt, endedAt, endedAt)
  },
  (_id: string, _createdAt: number, _endedAt: number) => "insert a run"
)
const place = (idempotencyKey: string) =>
  appendEvent({ environment: "default", name: "order.placed", version: 1, data: "{}", idempotencyKey })

const withCheck = (
  isOn: boolean,
  body: (it: {
    readonly reads: () => number
    readonly lines: ReadonlyArray<string>
  }) => Effect.Effect<void, unknown, GuaranteeCheck | Store>
) => {
  let reads = 0
  const lines: Array<string> = []
  const store = Layer.effect(
    Store,
    Effect.map(SqliteStore.make({ filename: ":memory:" }), (store) => ({
      ...store,
      read: (...args: Parameters<typeof store.read>) => (reads++, store.read(...args))
    })) as Effect.Effect<typeof Store.Service, never>
  )
  const logged = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
  return body({ reads: () => reads, lines }).pipe(
    Effect.provide(
      layer.pipe(Layer.provideMerge(store), Layer.provide(Layer.succeed(ChecksGuarantees, isOn)))
    ),
    Effect.provide(logged)
  )
}

/** Long enough for the check to read everything, slice by slice. */
const auditAll = Effect.forEach(
  Array.from({ length: 30 }),
  () => Effect.andThen(TestClock.adjust("10 seconds"), Effect.promise(untilQuiet)),
  { discard: true }
)

describe("the check of the guarantees", () => {
  it.effect(
    "accepts a second run of an event when it began after the first had ended, and otherwise reports it",
    () =>
      withCheck(true, ({ lines }) =>
        Effect.gen(function* () {
          const store = yield* Store
          const check = yield* GuaranteeCheck
          yield* store.write(place("order-1"))
          yield* store.write(insertRun("run_first", 1000, 3000))
          yield* store.write(insertRun("run_again", 3000, 4000))
          // the check starts when there is an event
          yield* store.write(place("order-2"))
          yield* auditAll
          assert.strictEqual(check.violations(), 0, lines.join("\n"))

          yield* store.write(insertRun("run_twice", 3500, 5000))
          yield* store.write(place("order-3"))
          yield* auditAll
          assert.lengthOf(
            lines.filter((line) =>
              line.includes("run run_twice: run run_again is of the same function and event")
            ),
            1,
            lines.join("\n")
          )
        })
      )
  )

  it.effect("counts violations, reports each once, and runs no queries while nothing happens", () =>
    withCheck(true, ({ lines, reads }) =>
      Effect.gen(function* () {
        const store = yield* Store
        const check = yield* GuaranteeCheck
        yield* store.write(place("order-1"))
        yield* auditAll
        assert.strictEqual(check.violations(), 0)
        assert.isAbove(reads(), 0)

        yield* store.write(lose())
        yield* store.write(place("order-2"))
        yield* auditAll
        yield* store.write(place("order-3"))
        yield* auditAll
        assert.strictEqual(check.violations(), 1)
        const reported = lines.filter((line) => line.includes("violates a guarantee"))
        assert.lengthOf(reported, 1)
        assert.match(reported[0]!, / \(G1\): idempotency key order-1: its event evt_\w+ is not in the log/)

        const before = reads()
        yield* auditAll
        assert.strictEqual(reads(), before)
      })
    )
  )

  it.effect("reports once that the stream of an event does not exist", () =>
    withCheck(true, ({ lines }) =>
      Effect.gen(function* () {
        const store = yield* Store
        yield* store.write(place("order-1"))
        yield* store.write(moveToMissingStream())
        yield* store.write(place("order-2"))
        yield* auditAll
        const reported = lines.filter((line) => line.includes("(G9)"))
        assert.lengthOf(reported, 1, lines.join("\n"))
        assert.match(
          reported[0]!,
          / \(G9\): event evt_\w+: it is version 1 of stream o-1, which does not exist\./
        )
      })
    )
  )

  it.effect("reads nothing when it is turned off", () =>
    withCheck(false, ({ reads }) =>
      Effect.gen(function* () {
        yield* (yield* Store).write(place("order-1"))
        yield* auditAll
        assert.strictEqual(reads(), 0)
        assert.strictEqual((yield* GuaranteeCheck).violations(), 0)
      })
    )
  )
})
