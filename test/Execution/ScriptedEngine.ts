/**
 * An engine that is played by a test. It keeps the journal of one run in memory, commits when told to (or at the next turn
 * of the event loop), fires timers when the test clock reaches them, and can lose a worker.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { serializeError } from "../../src/Errors.ts"
import type { AnyFunction } from "../../src/Function.ts"
import * as Alarm from "../../src/Execution/Alarm.ts"
import { startTurn, type TurnEnd, type TurnHandle, type TurnHost } from "../../src/Execution/Turn.ts"
import {
  endsTurn,
  type Job,
  type JournalEntry,
  type OpenStep,
  type Outcome,
  type TurnOp
} from "../../src/Protocol/Worker.ts"
import type { StepKind } from "../../src/StepKind.ts"

export interface Line {
  readonly level: string
  readonly message: string
}

interface Waiting extends OpenStep {
  readonly dueAt: number | undefined
  readonly outcome: Outcome | undefined
  readonly op: TurnOp
}

interface Queued {
  readonly op: TurnOp
  readonly onAck: ((outcome: Outcome | undefined) => void) | undefined
}

interface Live {
  readonly jobId: string
  readonly handle: TurnHandle
  readonly end: { value: TurnEnd | undefined }
}

export const success = (value: unknown): Outcome => ({
  _tag: "Success",
  value: value === undefined ? undefined : JSON.stringify(value)
})

export const failure = (name: string, message: string, more: object = {}): Outcome => ({
  _tag: "Failure",
  error: { name, message, ...more }
})

/** Waits turn by turn of the event loop until the condition is met. */
export const until = async (condition: () => boolean, what: string): Promise<void> => {
  for (let i = 0; i < 2000; i++) {
    if (condition()) return
    await loopTurn()
  }
  throw new Error(`this never happened: ${what}`)
}

const loopTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Waits until everything has happened that happens without the test. */
export const settle = async (): Promise<void> => {
  for (let i = 0; i < 12; i++) await loopTurn()
}

export class ScriptedEngine {
  readonly journal: Array<JournalEntry> = []
  readonly open = new Map<string, Waiting>()
  /** The committed ops, turn by turn. */
  readonly turns: Array<Array<TurnOp>> = []
  readonly lines: Array<Line> = []
  readonly late: Array<string> = []
  status: "running" | "completed" | "failed" | "paused" | "retrying" = "running"
  output: unknown = undefined
  error: { readonly name: string; readonly message: string } | undefined = undefined
  /** When true, commits only on `commit()`. */
  manual = false
  event: unknown = {}
  /** The stored data and metadata of the event, where they are not the JSON of `event`. */
  stored: { readonly data?: string; readonly metadata?: string } = {}
  lingerMs = 0
  generation = 0
  attempt = 1
  compensating: Job["compensating"] = undefined
  eventDefinitions: TurnHost["eventDefinitions"] = undefined
  transactions = true
  /** The errors with which the next transactions are refused, one for each. */
  readonly refusals: Array<Error> = []
  defers: TurnHost["defers"] = undefined
  mayBegin: TurnHost["mayBegin"] = undefined
  pace: TurnHost["pace"] = undefined
  #queued: Array<Queued> = []
  #live: Live | undefined = undefined
  #scheduled = false
  readonly #alarm: Alarm.Alarm
  readonly #clock: Clock.Clock
  readonly #context: Context.Context<never>

  constructor(alarm: Alarm.Alarm, clock: Clock.Clock, context: Context.Context<never>) {
    this.#alarm = alarm
    this.#clock = clock
    this.#context = context
  }

  static readonly make: Effect.Effect<ScriptedEngine, never, Scope.Scope> = Effect.gen(function* () {
    return new ScriptedEngine(yield* Alarm.make, yield* Clock.Clock, yield* Effect.context<never>())
  })

  get now(): number {
    return this.#clock.currentTimeMillisUnsafe()
  }

  /** Ops that were reported and not committed. */
  get uncommitted(): ReadonlyArray<TurnOp> {
    return this.#queued.map(({ op }) => op)
  }

  /** The tags of the committed ops of all turns. */
  get tags(): ReadonlyArray<string> {
    return this.turns.flat().map(({ _tag }) => _tag)
  }

  get keys(): ReadonlyArray<string> {
    return this.journal.map(({ stepKey }) => stepKey)
  }

  ops<Tag extends TurnOp["_tag"]>(tag: Tag): ReadonlyArray<Extract<TurnOp, { readonly _tag: Tag }>> {
    return this.turns.flat().filter((op): op is Extract<TurnOp, { readonly _tag: Tag }> => op._tag === tag)
  }

  outcome(key: string): Outcome | undefined {
    return this.journal.find((entry) => entry.stepKey === key)?.outcome
  }

  warnings(level = "warn"): ReadonlyArray<string> {
    return this.lines.filter((line) => line.level === level).map(({ message }) => message)
  }

  /** Fails when a report is not durable. Call it at the start of a step's code, which may depend on earlier results. */
  assertDurable(): void {
    const lost = this.#queued.filter(({ op }) => !endsTurn(op))
    if (lost.length > 0) {
      throw new Error(`code began before ${lost.map(({ op }) => op._tag).join(", ")} was durable`)
    }
  }

  /** Starts a turn from the recorded steps. */
  start(fn: AnyFunction): Live {
    const turn: Array<TurnOp> = []
    this.turns.push(turn)
    const jobId = `job-${this.turns.length}`
    const end: Live["end"] = { value: undefined }
    const line = (level: string) => (message: string) => void this.lines.push({ level, message })
    const host: TurnHost = {
      report: (op, onAck) => {
        if (this.#live?.jobId !== jobId && this.#live !== undefined) return
        turn.push(op)
        this.#queued.push({ op, onAck })
        if (!this.manual) this.#commitSoon()
      },
      clock: this.#clock,
      alarm: this.#alarm,
      logger: { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") },
      context: this.#context,
      noteHandlerWentOn: (stepName) => void this.late.push(stepName),
      ...(this.defers === undefined ? {} : { defers: this.defers }),
      mayBegin: () => this.mayBegin?.() ?? true,
      ...(this.pace === undefined ? {} : { pace: this.pace }),
      ...(this.eventDefinitions === undefined ? {} : { eventDefinitions: this.eventDefinitions })
    }
    const job: Job = {
      jobId,
      runId: "run_1",
      functionId: fn.config.id,
      environment: "default",
      attempt: this.attempt,
      generation: this.generation,
      event: {
        id: "evt_1",
        name: "order.placed",
        version: 1,
        data: JSON.stringify(this.event),
        timestamp: 0,
        ...this.stored
      },
      journal: [...this.journal],
      open: [...this.open.values()].map(({ failures, kind, name, pending, stepKey }) => ({
        stepKey,
        name,
        kind,
        failures,
        pending
      })),
      ...(this.compensating === undefined ? {} : { compensating: this.compensating }),
      lingerMs: this.lingerMs,
      createdAt: 0,
      ...(this.transactions ? { transactions: true } : {})
    }
    // the turn may report before `startTurn` returns
    const live = { jobId, end, handle: undefined as unknown as TurnHandle }
    this.#live = live
    live.handle = startTurn(fn, job, host, (value) => {
      end.value = value
      if (this.#live === live) this.#live = undefined
    })
    return live
  }

  /** Starts a turn and waits for its end. */
  async turn(fn: AnyFunction): Promise<TurnEnd> {
    const { end } = this.start(fn)
    await until(() => end.value !== undefined, "the end of the turn")
    if (end.value === undefined) throw new Error("unreachable")
    this.#collectFired()
    return end.value
  }

  /** Runs turns, and moves the clock to the next due time, until the run has ended or waits for the test. */
  async run(fn: AnyFunction): Promise<void> {
    for (let i = 0; i < 50; i++) {
      const { end } = this.start(fn)
      for (let round = 0; end.value === undefined; round++) {
        await settle()
        if (end.value !== undefined) break
        // the turn is still open and waits for something besides running code: let time pass
        if (!(await this.advanceToDue()) && round > 50)
          throw new Error("the turn neither ends nor waits for a time")
      }
      this.#collectFired()
      if (end.value._tag === "Suspended") {
        if (!(await this.advanceToDue())) return
      } else if (end.value._tag === "Retrying") {
        this.attempt++
        this.status = "running"
      } else {
        return
      }
    }
    throw new Error("more than 50 turns")
  }

  /** Moves the clock to the next due time, if there is one, and fires what is due then. */
  async advanceToDue(): Promise<boolean> {
    const times = [...this.open.values()].flatMap(({ dueAt, outcome }) =>
      dueAt === undefined || outcome !== undefined ? [] : [dueAt]
    )
    if (times.length === 0) return false
    await this.advance(Math.max(0, Math.min(...times) - this.now))
    return true
  }

  /** Moves the clock, and fires what has become due. */
  async advance(ms: number): Promise<void> {
    await Effect.runPromiseWith(this.#context)(TestClock.adjust(ms))
    const due = [...this.open.values()]
      .filter(({ dueAt, outcome }) => dueAt !== undefined && dueAt <= this.now && outcome === undefined)
      .toSorted((a, b) => (a.dueAt ?? 0) - (b.dueAt ?? 0))
    for (const waiting of due) this.fire(waiting.stepKey)
    await loopTurn()
  }

  /** Ends a wait with this outcome, or else with the one that its kind has at its due time. */
  fire(key: string, given?: Outcome): void {
    const waiting = this.open.get(key)
    if (waiting === undefined) throw new Error(`"${key}" is not open`)
    if (isRetry(waiting)) {
      this.open.set(key, { ...waiting, pending: false, dueAt: undefined })
      this.#notify(key, undefined, waiting.failures)
      return
    }
    const outcome = given ?? timeoutOf(waiting)
    this.open.set(key, { ...waiting, outcome, dueAt: undefined })
    this.#notify(key, outcome)
    if (this.#live === undefined) this.#collectFired()
  }

  #notify(key: string, outcome: Outcome | undefined, failures?: number): void {
    this.#live?.handle.notice({
      _tag: "Fired",
      jobId: this.#live.jobId,
      stepKey: key,
      ...(outcome === undefined ? {} : { outcome }),
      ...(failures === undefined ? {} : { failures })
    })
  }

  /** Repeats, too late, the notice that a step may be tried again after so many failures. */
  repeat(key: string, failures: number): void {
    this.#notify(key, undefined, failures)
  }

  /** Loses the worker, and all reports that were not committed. */
  crash(): void {
    const live = this.#live
    this.#live = {
      jobId: "nobody",
      end: { value: undefined },
      handle: { notice: () => {}, wrapUp: () => {}, running: () => [], abort: () => {} }
    }
    this.#queued = []
    live?.handle.abort(new Error("the worker is gone"))
    this.#live = undefined
    this.#collectFired()
  }

  /** Tells the turn that the run is to be paused, or no longer. */
  pause(paused: boolean): void {
    if (this.#live === undefined) throw new Error("no turn is alive")
    this.#live.handle.notice({ _tag: paused ? "Paused" : "Resumed", jobId: this.#live.jobId })
  }

  wrapUp(): void {
    this.#live?.handle.wrapUp()
  }

  abort(reason: Error): void {
    this.#live?.handle.abort(reason)
  }

  /** Makes all reports so far durable, and acknowledges them. */
  commit(): void {
    const batch = this.#queued
    this.#queued = []
    const outcomes = batch.map(({ op }) => this.#apply(op))
    for (const [i, { onAck }] of batch.entries()) onAck?.(outcomes[i])
  }

  #commitSoon(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.commit()
    })
  }

  /** Moves fired waits into the journal, as at the end of a lease. */
  #collectFired(): void {
    for (const { kind, name, op, outcome, stepKey } of this.open.values()) {
      if (outcome === undefined) continue
      this.open.delete(stepKey)
      this.journal.push({ stepKey, name, kind, outcome, attempt: 1 })
      void op
    }
  }

  #apply(op: TurnOp): Outcome | undefined {
    switch (op._tag) {
      case "StepDone":
        this.#enter(op.stepKey, op.name, op.kind, op.outcome, op.attempt)
        return undefined
      case "Transact": {
        const refused = this.refusals.shift()
        if (refused !== undefined) return { _tag: "Failure", error: serializeError(refused) }
        const value = op.value === undefined ? {} : { value: JSON.parse(op.value) }
        const writes = op.writes.map(({ _tag }) => ({ _tag, eventId: `evt-${op.stepKey}`, position: 1 }))
        const outcome = success({ ...value, writes })
        this.#enter(op.stepKey, op.name, "tx", outcome, op.attempt)
        return outcome
      }
      case "StepRetry":
        this.open.set(op.stepKey, {
          ...op,
          pending: true,
          dueAt: "at" in op.due ? op.due.at : this.now + op.due.afterMs,
          outcome: undefined,
          op
        })
        return undefined
      case "Sleep":
        return this.#wait(op, "sleep", "at" in op.due ? op.due.at : this.now + op.due.afterMs)
      case "WaitForEvent":
        return this.#wait(op, "waitForEvent", this.now + op.timeoutMs)
      case "Invoke":
        return this.#wait(op, "invoke", this.now + op.timeoutMs)
      case "InvokeAsync": {
        const outcome = success({ runId: `child-of-${op.stepKey}` })
        this.#enter(op.stepKey, op.name, "invokeAsync", outcome, 1)
        return outcome
      }
      case "Publish": {
        const outcome = success({ eventId: `msg-${op.stepKey}`, sequence: this.journal.length + 1 })
        this.#enter(op.stepKey, op.name, "publish", outcome, 1)
        return outcome
      }
      case "Settle": {
        const waiting = this.open.get(op.stepKey)
        if (waiting?.outcome === undefined) throw new Error(`"${op.stepKey}" settled and has not fired`)
        this.#enter(op.stepKey, waiting.name, waiting.kind, waiting.outcome, 1)
        return undefined
      }
      case "Withdraw":
        this.open.delete(op.stepKey)
        return undefined
      case "Complete":
        this.status = "completed"
        this.output = op.output === undefined ? undefined : JSON.parse(op.output)
        return undefined
      case "Compensate":
        this.compensating = { error: op.error, compensations: op.compensations }
        return undefined
      case "Fail":
        this.status = "failed"
        this.error = op.error
        return undefined
      case "RetryRun":
        this.status = "retrying"
        this.error = op.error
        return undefined
      case "Pause":
        this.status = "paused"
        return undefined
      case "Suspend":
      case "Release":
        return undefined
    }
  }

  #wait(
    op: Extract<TurnOp, { readonly stepKey: string; readonly name: string }>,
    kind: StepKind,
    dueAt: number
  ): undefined {
    // a repeated report does not change the due time
    if (this.open.has(op.stepKey)) return undefined
    const { name, stepKey } = op
    this.open.set(stepKey, { stepKey, name, kind, failures: 0, pending: true, dueAt, outcome: undefined, op })
    return undefined
  }

  #enter(stepKey: string, name: string, kind: StepKind, outcome: Outcome, attempt: number): void {
    if (this.keys.includes(stepKey)) throw new Error(`"${stepKey}" entered the journal twice`)
    this.open.delete(stepKey)
    this.journal.push({ stepKey, name, kind, outcome, attempt })
  }
}

const isRetry = ({ op }: Waiting): boolean => op._tag === "StepRetry"

const timeoutOf = ({ op }: Waiting): Outcome => {
  switch (op._tag) {
    case "WaitForEvent":
      return failure("WaitTimeoutError", `no event "${op.event}"`, {
        code: "WAIT_TIMEOUT",
        retryable: false,
        data: { stepName: op.name, event: op.event, timeoutMs: op.timeoutMs }
      })
    case "Invoke":
      return failure("InvokeTimeoutError", `"${op.functionId}" timed out`, {
        code: "INVOKE_FAILED",
        retryable: false,
        data: { functionId: op.functionId, timeoutMs: op.timeoutMs }
      })
    default:
      return success(undefined)
  }
}
