/**
 * A shop that sells, charges and ships: the tests of stores are written in its words.
 *
 * It plays the part of the engine: it hands out runs, reports the ops of turns, and fires due work.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { serializeError, type StoreError } from "../../../../src/Errors.ts"
import type {
  Due,
  FunctionRegistration,
  Job,
  Notice,
  Outcome,
  TurnOp
} from "../../../../src/Protocol/Worker.ts"
import { Store, type StoreService } from "../../../../src/Engine/Store/Store.ts"
import type { Changes } from "../../../../src/Engine/Store/Changes.ts"
import type { Demand } from "../../../../src/Engine/Turns/TurnRecords.ts"
import type { NewEvent } from "../../../../src/Engine/Log/LogRecords.ts"
import type { StepKind } from "../../../../src/StepKind.ts"
import * as FunctionRows from "../../../../src/Engine/Functions/FunctionRows.ts"
import * as Append from "../../../../src/Engine/Events/Append.ts"
import * as Claims from "../../../../src/Engine/Turns/Claims.ts"
import * as RunInspection from "../../../../src/Engine/Runs/RunInspection.ts"
import * as Reports from "../../../../src/Engine/Turns/Reports.ts"
import * as DuePrograms from "../../../../src/Engine/Schedules/FireDue.ts"
import * as RunRows from "../../../../src/Engine/Runs/RunRows.ts"
import * as Stuck from "../../../../src/Engine/Runs/Stuck.ts"

export const environment = "default"

/** A function that handles `order.placed`, unless `on` or `triggers` names others. */
export const handles = (
  id: string,
  overrides: Partial<FunctionRegistration> & { readonly on?: ReadonlyArray<string> } = {}
): FunctionRegistration => {
  const { on = ["order.placed"], ...rest } = overrides
  return {
    id,
    name: id,
    triggers: on.map((event) => ({ event })),
    retry: { maxAttempts: 3, initialDelayMs: 1000, backoffFactor: 2, maxDelayMs: 60_000 },
    timeoutMs: 60_000,
    mode: "pull",
    secrets: [],
    codeHash: "c0de",
    ...rest
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Ops
// ---------------------------------------------------------------------------------------------------------------------

/** The name in a step key: `charge` of `charge:0`. */
const nameOf = (stepKey: string): string => stepKey.slice(0, stepKey.lastIndexOf(":"))

export const success = (value?: unknown): Outcome => ({
  _tag: "Success",
  value: value === undefined ? undefined : JSON.stringify(value)
})
export const failure = (message: string, data: { readonly [key: string]: unknown } = {}): Outcome => ({
  _tag: "Failure",
  error: { name: "Error", message, data }
})

export const done = (
  stepKey: string,
  outcome: Outcome = success("ok"),
  options: {
    readonly attempt?: number
    readonly kind?: StepKind
    readonly startedAt?: number
    readonly endedAt?: number
  } = {}
): TurnOp => ({
  _tag: "StepDone",
  stepKey,
  name: nameOf(stepKey),
  kind: options.kind ?? "run",
  outcome,
  attempt: options.attempt ?? 1,
  startedAt: options.startedAt ?? 0,
  endedAt: options.endedAt ?? 0
})
export const retryStep = (stepKey: string, failures: number, afterMs: number): TurnOp => ({
  _tag: "StepRetry",
  stepKey,
  name: nameOf(stepKey),
  kind: "run",
  failures,
  error: { name: "Error", message: `declined ${failures} times` },
  due: { afterMs }
})
export const sleep = (stepKey: string, due: number | Due): TurnOp => ({
  _tag: "Sleep",
  stepKey,
  name: nameOf(stepKey),
  due: typeof due === "number" ? { afterMs: due } : due
})
export const waitFor = (
  stepKey: string,
  event: string,
  options: { readonly match?: string; readonly scope?: string; readonly timeoutMs?: number } = {}
): TurnOp => {
  const { timeoutMs = 60_000, scope = "", match } = options
  return {
    _tag: "WaitForEvent",
    stepKey,
    name: nameOf(stepKey),
    scope,
    event,
    timeout: { afterMs: timeoutMs },
    timeoutMs,
    ...(match === undefined ? {} : { match })
  }
}
export const invoke = (
  stepKey: string,
  functionId: string,
  options: { readonly input?: unknown; readonly timeoutMs?: number } = {}
): TurnOp => ({
  _tag: "Invoke",
  stepKey,
  name: nameOf(stepKey),
  functionId,
  input: options.input === undefined ? undefined : JSON.stringify(options.input),
  timeoutMs: options.timeoutMs ?? 60_000
})
export const invokeAsync = (stepKey: string, functionId: string, input?: unknown): TurnOp => ({
  _tag: "InvokeAsync",
  stepKey,
  name: nameOf(stepKey),
  functionId,
  input: input === undefined ? undefined : JSON.stringify(input)
})
export const publish = (stepKey: string, topic: string, data: unknown): TurnOp => ({
  _tag: "Publish",
  stepKey,
  name: nameOf(stepKey),
  topic,
  data: JSON.stringify(data)
})
export const settle = (stepKey: string): TurnOp => ({ _tag: "Settle", stepKey })
export const withdraw = (stepKey: string): TurnOp => ({ _tag: "Withdraw", stepKey })
export const complete = (output?: unknown): TurnOp => ({
  _tag: "Complete",
  output: output === undefined ? undefined : JSON.stringify(output)
})
export const fail = (message: string, data: { readonly [key: string]: unknown } = {}): TurnOp => ({
  _tag: "Fail",
  error: { name: "Error", message, data }
})
export const retryRun = (afterMs: number): TurnOp => ({
  _tag: "RetryRun",
  error: serializeError(new Error("out of paper")),
  due: { afterMs }
})
export const compensate = (...compensations: ReadonlyArray<string>): TurnOp => ({
  _tag: "Compensate",
  error: { name: "Error", message: "no stock" },
  compensations
})
export const suspend = (...open: ReadonlyArray<string>): TurnOp => ({ _tag: "Suspend", open })
export const pause: TurnOp = { _tag: "Pause", code: "NONDETERMINISM", message: "The code has changed." }
export const release: TurnOp = { _tag: "Release" }

// ---------------------------------------------------------------------------------------------------------------------
// The shop
// ---------------------------------------------------------------------------------------------------------------------

export interface ClaimOptions {
  readonly worker?: string
  readonly room?: number
  readonly labels?: { readonly [key: string]: string }
  readonly leaseMs?: number
  /** Ids of the functions that the worker has. By default all registered functions. */
  readonly functions?: ReadonlyArray<string>
  readonly codeHash?: string
  readonly environment?: string
}

export class Shop {
  readonly store: StoreService
  readonly notices: Array<{ readonly workerId: string; readonly notice: Notice }> = []
  readonly ended: Array<string> = []
  readonly #functions = new Map<string, FunctionRegistration>()
  lastChanges: Changes | undefined

  constructor(store: StoreService) {
    this.store = store
    store.onCommit((changes) => {
      this.lastChanges = changes
      this.notices.push(...changes.notices)
      this.ended.push(...changes.ended)
    })
  }

  register(...functions: ReadonlyArray<FunctionRegistration>) {
    for (const fn of functions) this.#functions.set(fn.id, fn)
    return this.store.write(FunctionRows.registerFunctions(environment, functions))
  }

  emit(name: string, data: unknown = {}, options: Partial<Omit<NewEvent, "name" | "data">> = {}) {
    return this.store.write(
      Append.appendEvent({ environment, version: 1, ...options, name, data: JSON.stringify(data) })
    )
  }

  demand(options: ClaimOptions = {}): Demand {
    const ids = options.functions ?? [...this.#functions.keys()]
    return {
      workerId: options.worker ?? "worker-1",
      environment: options.environment ?? environment,
      functions: new Map(
        ids.map((id) => [id, options.codeHash ?? this.#functions.get(id)?.codeHash ?? "c0de"])
      ),
      labels: options.labels ?? {},
      room: options.room ?? 1,
      ...(options.leaseMs === undefined ? {} : { leaseMs: options.leaseMs })
    }
  }

  /** Claims runs for one worker. */
  claim(options: ClaimOptions = {}) {
    return Effect.map(
      this.store.write(Claims.claimRuns(options.environment ?? environment, [this.demand(options)])),
      (claims) => claims.map(({ job }) => job)
    )
  }

  /** Claims the only ready run. */
  claimOne(options: ClaimOptions = {}) {
    return Effect.map(this.claim({ room: 10, ...options }), (jobs) => {
      assert.strictEqual(jobs.length, 1, "exactly one run is ready")
      return jobs[0]!
    })
  }

  /** Emits an event that starts one run, and claims the run. */
  start(name = "order.placed", data: unknown = {}, options: ClaimOptions = {}) {
    return Effect.andThen(this.emit(name, data), this.claimOne(options))
  }

  /** Reports ops that must be accepted. Returns their outcomes. */
  report(job: Job, ...ops: ReadonlyArray<TurnOp>) {
    return Effect.map(
      Reports.applyReports(this.store, "default", [{ jobId: job.jobId, runId: job.runId, ops }]),
      ([ack]) => {
        if (ack?._tag !== "Accepted") return assert.fail(`refused: ${JSON.stringify(ack)}`)
        return ack.outcomes
      }
    )
  }

  /** Reports ops that must be refused. Returns the reason. */
  refused(job: Job, ...ops: ReadonlyArray<TurnOp>) {
    return Effect.map(
      Reports.applyReports(this.store, "default", [{ jobId: job.jobId, runId: job.runId, ops }]),
      ([ack]) => {
        if (ack?._tag !== "Refused") return assert.fail(`not refused: ${JSON.stringify(ack)}`)
        return ack.reason
      }
    )
  }

  /** Lets time pass, and fires all work that is due then. */
  pass(ms: number) {
    return Effect.andThen(TestClock.adjust(ms), this.fire())
  }

  /** Fires all due work. Returns how much it was. */
  fire(): Effect.Effect<number, StoreError> {
    return Effect.flatMap(DuePrograms.fireDue(this.store), ({ count }) =>
      count === 0 ? Effect.succeed(0) : Effect.map(this.fire(), (more) => count + more)
    )
  }

  run(runId: string) {
    return this.store.read(RunRows.getRun(environment, runId))
  }

  status(runId: string) {
    return Effect.map(this.run(runId), ({ status }) => status)
  }

  /** The steps of a run as `key status`, in the order of the journal, with open steps last. */
  steps(runId: string) {
    return Effect.map(RunInspection.getRunSteps(this.store, environment, runId), (steps) =>
      steps.map(({ id, status }) => `${id.slice(runId.length + 1)} ${status}`)
    )
  }

  situation(runId: string) {
    return this.store.read(RunInspection.getSituation(environment, runId))
  }

  /** Takes the notices to live turns since the last call, as `tag stepKey`. */
  takeNotices(): ReadonlyArray<string> {
    return this.notices
      .splice(0)
      .map(({ notice }) => (notice._tag === "Fired" ? `Fired ${notice.stepKey}` : notice._tag))
  }
}

/** A test with a shop. At its end, no run may be stuck. */
export type ShopTest = (
  title: string,
  body: (shop: Shop) => Generator<Effect.Effect<unknown, unknown>, void, never>
) => void

export const shopTest =
  (layer: Layer.Layer<Store, StoreError>): ShopTest =>
  (title, body) =>
    it.effect(title, () =>
      Effect.gen(function* () {
        const shop = new Shop(yield* Store)
        yield* Effect.gen(() => body(shop))
        assert.strictEqual(yield* Stuck.countStuckRuns(shop.store), 0, "no run is stuck")
      }).pipe(Effect.provide(layer))
    )
