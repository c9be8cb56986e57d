/**
 * The thread in which {@link ../Thread.ts} has its databases. It receives the name and the arguments of each program.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { parentPort } from "node:worker_threads"
import * as SqliteStore from "../../../../src/Engine/SqliteStore.ts"
import { findProgram } from "../../../../src/Engine/Store/Program.ts"
import type { ListenOptions, StoreService } from "../../../../src/Engine/Store/Store.ts"
import { isIronflowError } from "../../../../src/Errors.ts"
// this import registers every program
import "../../../../src/engine.ts"
import { changeDetector, errorToPlain, fromPlain, toPlain } from "../Plain.ts"
import type { Answer, FromThread, Moment, ToThread } from "../Thread.ts"

interface Database {
  readonly store: StoreService
  readonly scope: Scope.Closeable
  /** What the store has handed out, and whether it has changed since. */
  readonly given: Array<{ readonly what: string; readonly isChanged: () => boolean }>
  /** Removes the listener that makes commits carry what the caller's listeners want to know. */
  stopListening?: () => void
}

const databases = new Map<number, Database>()

const post = (message: FromThread): void => parentPort!.postMessage(message)

/** The clocks show the time of the test, which every message brings. */
const clocks = new Map<number, Moment>()

const clockOf = (database: number): Clock.Clock => {
  const now = (): Moment => clocks.get(database)!
  const currentTimeMillisUnsafe = () => now().ms
  const currentTimeNanosUnsafe = () => BigInt(Math.round(now().ms * 1e6))
  const monotonicTimeNanosUnsafe = () => now().monotonicNs
  return {
    currentTimeMillisUnsafe,
    currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
    currentTimeNanosUnsafe,
    currentTimeNanos: Effect.sync(currentTimeNanosUnsafe),
    monotonicTimeNanosUnsafe,
    monotonicTimeNanos: Effect.sync(monotonicTimeNanosUnsafe),
    sleep: (duration) =>
      Effect.die(new Error(`A store slept ${Duration.format(duration)}: nothing would wake it`))
  }
}

const handOut = ({ given }: Database, what: string, value: unknown): unknown => {
  given.push({ what, isChanged: changeDetector(what, value) })
  return toPlain(what, value)
}

const open = (id: number, filename: string, seed: number): Effect.Effect<unknown, unknown> =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const store = yield* SqliteStore.make({ filename }).pipe(
      Scope.provide(scope),
      Effect.provideService(Clock.Clock, clockOf(id)),
      Random.withSeed(seed)
    )
    const database: Database = { store, scope, given: [] }
    databases.set(id, database)
    store.onCommit((changes) =>
      post({ _tag: "Committed", database: id, changes: handOut(database, "Changes", { ...changes }) })
    )
  })

/** Closes a database, and says which of the values that it handed out have changed. */
const close = (id: number): Effect.Effect<unknown> =>
  Effect.gen(function* () {
    const { given, scope } = databases.get(id)!
    databases.delete(id)
    yield* Scope.close(scope, Exit.void)
    clocks.delete(id)
    return given.filter(({ isChanged }) => isChanged()).map(({ what }) => what)
  })

const listen = (id: number, options: ListenOptions): void => {
  const database = databases.get(id)!
  database.stopListening?.()
  database.stopListening = database.store.onCommit(() => undefined, options)
}

const perform = (message: ToThread): Effect.Effect<unknown, unknown> => {
  switch (message._tag) {
    case "Open":
      return open(message.database, message.filename, message.seed)
    case "Close":
      return close(message.database)
    case "Listen":
      return Effect.sync(() => listen(message.database, message.options))
    case "Run": {
      const database = databases.get(message.database)!
      const program = findProgram(message.name)
      if (program === undefined) return Effect.die(new Error(`There is no program named "${message.name}"`))
      // optional arguments that the caller left out are not in the array
      const call = program(...message.args.map((arg) => fromPlain(arg)))
      return Effect.map(database.store[message.how](call), (value) =>
        handOut(database, `The result of "${message.name}"`, value)
      )
    }
  }
}

const toAnswer = (exit: Exit.Exit<unknown, unknown>): Answer => {
  if (Exit.isSuccess(exit)) return { _tag: "Value", value: exit.value }
  const reason = exit.cause.reasons[0]
  if (reason?._tag === "Fail" && isIronflowError(reason.error)) {
    return { _tag: "Refusal", error: errorToPlain(reason.error) }
  }
  const fault = reason?._tag === "Fail" ? reason.error : reason?._tag === "Die" ? reason.defect : exit.cause
  return { _tag: "Fault", message: fault instanceof Error ? (fault.stack ?? fault.message) : String(fault) }
}

const carryOut = (message: ToThread): void => {
  clocks.set(message.database, message.now)
  Effect.runCallback(perform(message), {
    onExit: (exit) => {
      let answer: Answer
      try {
        answer = toAnswer(exit)
      } catch (error) {
        answer = { _tag: "Fault", message: String(error) }
      }
      post({ _tag: "Answered", id: message.id, answer })
    }
  })
}

parentPort!.on("message", (messages: ReadonlyArray<ToThread>) => {
  for (const message of messages) carryOut(message)
})
