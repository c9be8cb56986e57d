/**
 * Runs one function with stubs for its steps: no engine, no database, no waiting.
 *
 * The handler is executed as a worker executes it. Only the engine's part is simulated, without waiting: sleeps end at
 * once, the test itself sends the events that steps wait for, and stubs answer for invoked functions.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import {
  deserializeError,
  InvokeError,
  messageOf,
  NondeterminismError,
  SchemaValidationError,
  NonRetryableError,
  serializeError,
  StoreError,
  TestSuspendedError,
  ValidationError
} from "../Errors.ts"
import { type DataFor, eventNameOf, type EventRef } from "../Event.ts"
import * as Alarm from "../Execution/Alarm.ts"
import type { Attempt } from "../Execution/Attempt.ts"
import type { StepCode } from "../Execution/StepCall.ts"
import { startTurn, type TurnEnd, type TurnHandle } from "../Execution/Turn.ts"
import type { PauseCode } from "../Execution/TurnPause.ts"
import type { AnyFunction, EffectFunction, IronflowFunction } from "../Function.ts"
import { decodeJson } from "../Json.ts"
import { createNoopLogger } from "../Logger.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { isPattern, matchesPattern } from "../Pattern.ts"
import { checkEntityId, type NewStreamEvent } from "../EntityStream.ts"
import { checkBucketName, checkKey, checkRevision } from "../KvKeys.ts"
import type { FailedRun } from "../OnFailure.ts"
import { TxCollector } from "../Execution/Tx.ts"
import { checkName } from "../Limits.ts"
import type { Job, JournalEntry, OpenStep, Outcome, TurnOp } from "../Protocol/Worker.ts"
import { decodeResult, encodeResult } from "../ResultEncoding.ts"
import { show } from "../Show.ts"
import { eventOf, decodeInput, type HandledData } from "./TestData.ts"
import type { Tx } from "../Step.ts"
import type { StepKind } from "../StepKind.ts"
import { failedRun } from "./FailedRun.ts"
import * as RealTime from "./RealTime.ts"
import { readWrites, type TestWrite, StepTxMemory } from "./StepTxMemory.ts"

/** Options of `createTestClient`. */
export interface TestClientConfig {
  /** The functions that `emit` finds by their triggers, of the Promise API or of the Effect API. */
  readonly functions: ReadonlyArray<IronflowFunction | EffectFunction<unknown, unknown, never>>
}

/** A step that was executed. */
export interface TestStep {
  /** The step's name. For `invoke` it is the id of the invoked function, and for a compensation `compensate:<step>`. */
  readonly name: string
  /** Kind of the step. */
  readonly type: "run" | "tx" | "sleep" | "waitForEvent" | "invoke" | "publish" | "compensate"
  /**
   * The output. For a `tx` it is what `step.tx` resolves to: `{ value, writes }`, where `writes` are the results of
   * the writes.
   */
  readonly output?: unknown
  /** The error, if the step failed. */
  readonly error?: Error
  /** The writes that the body of a successful `tx` asked for. */
  readonly writes?: ReadonlyArray<TestWrite>
}

/** A stream that exists before a run. */
export interface TestStream {
  /** Type of the entity. */
  readonly entityType: string
  /** The version of the last event in the stream. */
  readonly version: number
}

/** How a run in a test ended. */
export interface TestRun {
  /** How the run ended. */
  readonly status: "completed" | "failed"
  /** What the function returned, if it completed. */
  readonly output: unknown
  /** The error, if the run failed. */
  readonly error?: Error
  /** The steps, in the order in which they ended. */
  readonly steps: Array<TestStep>
  /** Names of the steps that were compensated, in the order of the compensations. */
  readonly compensationsRan: Array<string>
  /** The run of the function's `onFailure`, if it has one and the run failed. Its steps need stubs too. */
  readonly onFailure?: TestRun
  /** The output of the first step of this name; `undefined` when there is none. */
  stepOutput(name: string): unknown
}

/** Runs functions alone, with stubs for their steps. */
export interface TestClient {
  /** Runs `fn` in place of the code of `step.run(name, ...)`, in every branch. The latest stub of a name counts. */
  mockStep(name: string, fn: () => unknown): void
  /**
   * Runs `fn` in place of the body of `step.tx(name, ...)`. Without a stub, the body itself runs: it only collects
   * writes.
   */
  mockTx(name: string, fn: (tx: Tx) => unknown): void
  /** Sets a stream for `step.tx`, with events 1 to `version`. Other streams start with their first append. */
  setStream(entityId: string, stream: TestStream): void
  /**
   * Sets a key for `step.tx`, at `revision`. Other keys do not exist. Buckets need not be created, and have no limits
   * here.
   *
   * ```ts
   * createTestClient({ functions: [processOrder] }).setKey("stock", "sku-1", 17)
   * ```
   */
  setKey(bucket: string, key: string, revision: number): void
  /**
   * Answers `step.invoke` and `step.invokeAsync` of a function with `fn`. Given a function id, `fn` receives the
   * input as it is sent. Given the function itself, `fn` receives the input as the function's handler would; the
   * function's schema must then be synchronous.
   */
  mockInvoke(functionId: string, fn: (input: any) => unknown): void
  mockInvoke<F extends AnyFunction>(target: F, fn: (data: HandledData<F>) => unknown): void
  /**
   * Sends an event. A `step.waitForEvent` receives the oldest of the sent events whose name is the one that it waits
   * for, or matches its pattern, and that no other wait has received. The `match` and `timeout` of the wait are ignored.
   */
  sendEvent<const E extends EventRef>(event: E, data: DataFor<E>): void
  /**
   * Runs the first function that has a trigger with exactly this event name, until the run ends. Rejects when there is
   * no such function, and when the run can neither complete nor fail, for example because it is paused. For a run that
   * fails it resolves, with status `failed`.
   */
  emit<const E extends EventRef>(event: E, data: DataFor<E>): Promise<TestRun>
}

/**
 * Creates a client that executes functions itself, for unit tests. Stubs, events, streams and keys stay from one
 * `emit` to the next.
 */
export const createTestClient = (config: TestClientConfig): TestClient => {
  checkKeys(config, { functions: true } satisfies Keys<TestClientConfig>, "createTestClient()")
  const functions: unknown = config?.functions
  if (!Array.isArray(functions)) {
    throw new ValidationError(
      `createTestClient(): \`functions\` must be an array of what createFunction() returned, got ${show(functions)}`
    )
  }
  const mocks: Mocks = {
    steps: new Map(),
    txs: new Map(),
    invokes: new Map(),
    events: [],
    memory: new StepTxMemory(() => `test-evt-${++mocks.lastId}`),
    lastId: 0
  }
  return {
    mockStep: (name, fn) => void mocks.steps.set(name, checkMock("mockStep", name, fn)),
    mockTx: (name, fn) => void mocks.txs.set(name, checkMock("mockTx", name, fn)),
    setStream: (entityId, stream) =>
      mocks.memory.setStream(checkEntityId(entityId), checkStream(entityId, stream)),
    setKey: (bucket, key, revision) =>
      mocks.memory.setKey(checkBucketName(bucket), checkKey(key), checkRevision(revision)),
    // `createTestClient` is typed by `TestClient`, whose overloads relate the input to the function
    mockInvoke: (target: string | AnyFunction, fn: (input: any) => unknown) => {
      const functionId = typeof target === "string" ? target : target.config.id
      const mock = checkMock("mockInvoke", functionId, fn)
      mocks.invokes.set(
        functionId,
        typeof target === "string" ? mock : (input) => mock(decodeInput(target, input))
      )
    },
    sendEvent: (event, data) => void mocks.events.push(eventOf(event, data)),
    emit: async (given, data) => {
      const eventName = eventNameOf(given)
      const fn = config.functions.find(({ config }) =>
        config.triggers.some(({ event }) => event === eventName)
      )
      if (fn === undefined) {
        throw new ValidationError(
          `No function is registered for event "${eventName}": give createTestClient() one with the trigger { event: "${eventName}" }`
        )
      }
      const execution = new TestExecution(fn, mocks)
      const run = await execution.run(eventOf(given, data))
      const { runFailure } = execution
      if (fn.failureHandler === undefined || runFailure === undefined) return run
      // an `onFailure` handler requires only services that its function requires too
      const handler = fn.failureHandler as TestClientConfig["functions"][number]
      const failureEvent = eventOf(`system.run.${runFailure.runId}.failed`, runFailure)
      return { ...run, onFailure: await new TestExecution(handler, mocks).run(failureEvent) }
    }
  }
}

interface Mocks {
  readonly steps: Map<string, () => unknown>
  readonly txs: Map<string, (tx: Tx) => unknown>
  readonly invokes: Map<string, (input: unknown) => unknown>
  readonly events: Array<NewStreamEvent>
  readonly memory: StepTxMemory
  lastId: number
}

const checkStream = (entityId: string, stream: TestStream): TestStream => {
  // for a value that is not an object, both fields are `undefined`, which the checks below refuse
  const { entityType, version }: Partial<TestStream> = stream ?? {}
  if (version === undefined || !Number.isSafeInteger(version) || version < 1) {
    throw new ValidationError(
      `The version of stream "${entityId}" must be an integer, at least 1, got ${show(version)}`
    )
  }
  return { entityType: checkName(`entity type of "${entityId}"`, entityType), version }
}

const checkMock = <F>(method: string, name: string, fn: F): F => {
  if (typeof fn === "function") return fn
  throw new ValidationError(
    `${method}("${name}", fn) needs a function as its second argument, got ${show(fn)}`
  )
}

const missingStubError = (message: string): NonRetryableError =>
  new NonRetryableError(message, { code: "TEST_MOCK_MISSING" })

const successOutcome = (value: unknown, what: string): Outcome => ({
  _tag: "Success",
  value: encodeResult(value, what)
})

const failureOutcome = (error: unknown): Outcome => ({ _tag: "Failure", error: serializeError(error) })

/** Ends the attempt with the result of the stub. */
const endWithStub = (attempt: Attempt, mock: () => unknown): void =>
  void Promise.resolve()
    .then(mock)
    .then(
      (value) => attempt.succeed(value),
      (error: unknown) => attempt.fail(error)
    )

type OnAck = ((outcome: Outcome | undefined) => void) | undefined

/** One run, with all of its turns. */
class TestExecution {
  readonly #fn: TestClientConfig["functions"][number]
  readonly #mocks: Mocks
  readonly #journal: Array<JournalEntry> = []
  readonly #openSteps = new Map<string, OpenStep & { readonly outcome: Outcome | undefined }>()
  readonly #steps: Array<TestStep> = []
  readonly #compensationsRan: Array<string> = []
  #compensating: Job["compensating"]
  /** The failure that `onFailure` receives; set once the run has failed. */
  runFailure: FailedRun | undefined
  #now = (): number => 0

  constructor(fn: TestClientConfig["functions"][number], mocks: Mocks) {
    this.#fn = fn
    this.#mocks = mocks
  }

  run({ data, name, version }: NewStreamEvent): Promise<TestRun> {
    return Effect.runPromise(
      Effect.scoped(
        Effect.gen({ self: this }, function* () {
          yield* RealTime.ensureReal("emit() of createTestClient()")
          const clock = yield* Clock.Clock
          const alarm = yield* Alarm.make
          const context = yield* Effect.context<never>()
          this.#now = () => clock.currentTimeMillisUnsafe()
          const now = this.#now()
          const id = ++this.#mocks.lastId
          const event = {
            id: `test-evt-${id}`,
            name,
            version,
            data,
            timestamp: now
          }
          for (let attempt = 1; ; attempt++) {
            const job: Job = {
              jobId: `test-job-${id}-${attempt}`,
              runId: `test-run-${id}`,
              functionId: this.#fn.config.id,
              environment: "default",
              attempt,
              generation: 0,
              event,
              journal: [...this.#journal],
              open: [...this.#openSteps.values()],
              lingerMs: 0,
              transactions: true,
              createdAt: now,
              ...(this.#compensating === undefined ? {} : { compensating: this.#compensating })
            }
            const end = yield* Effect.promise(() => this.#turn(job, { clock, alarm, context }))
            if (end._tag === "Retrying") continue
            if (end._tag === "Failed") {
              this.runFailure = failedRun(job, end.error, this.#journal, this.#now())
            }
            return this.#result(end)
          }
        })
      ),
      { scheduler: RealTime.scheduler }
    )
  }

  #turn(
    job: Job,
    host: Pick<Parameters<typeof startTurn>[2], "clock" | "alarm" | "context">
  ): Promise<TurnEnd> {
    return new Promise((resolve) => {
      // ops are answered one after the other, even when a stub is slow: an engine also commits them in this order
      let lastReport = Promise.resolve()
      const report = (op: TurnOp, onAck: OnAck): void => {
        lastReport = lastReport
          .then(() => this.#answer(op))
          // `#answer` throws when a write of a `step.tx` is refused, for example
          .catch((error: unknown) => failureOutcome(error))
          .then((outcome) => {
            onAck?.(outcome)
            // no time passes between attempts here
            if (op._tag === "StepRetry")
              handle.notice({ _tag: "Fired", jobId: job.jobId, stepKey: op.stepKey })
          })
      }
      const handle: TurnHandle = startTurn(
        this.#fn,
        job,
        {
          ...host,
          report,
          logger: createNoopLogger(),
          noteHandlerWentOn: () => undefined,
          probe: { begin: this.#beginStep }
        },
        resolve
      )
    })
  }

  /**
   * Runs the stub of a step in place of the step's code. Compensations run their own code, and so does a `step.tx`
   * without a stub: its body only collects writes.
   */
  readonly #beginStep = (attempt: Attempt, code: StepCode): void => {
    const { kind, name } = attempt.call
    const { steps, txs } = this.#mocks
    const mock = steps.get(name)
    if (kind === "tx") {
      const mockTx = txs.get(name)
      if (mockTx !== undefined) {
        const tx = (attempt.tx = new TxCollector(name))
        return endWithStub(attempt, () => mockTx(tx))
      }
      if (mock === undefined) return code.begin(attempt)
      return attempt.fail(
        missingStubError(
          `Step "${name}" is a step.tx, which mockStep() cannot replace. Remove mockStep(${JSON.stringify(name)}, ...) to run the real body, ` +
            `or replace it: t.mockTx(${JSON.stringify(name)}, (tx) => result)`
        )
      )
    }
    if (kind !== "run") return code.begin(attempt)
    if (mock === undefined) {
      return attempt.fail(
        missingStubError(
          `Step "${name}" was called but has no mock. Add before emit(): t.mockStep(${JSON.stringify(name)}, () => result)`
        )
      )
    }
    endWithStub(attempt, mock)
  }

  /** Does what an engine does with an op. Returns the outcome of the step if the engine would answer with one. */
  async #answer(op: TurnOp): Promise<Outcome | undefined> {
    switch (op._tag) {
      case "StepDone":
        this.#record(op.stepKey, op.name, op.kind, op.outcome, op.attempt)
        return undefined
      case "Transact": {
        // when a write is refused, this throws and nothing enters the journal: the attempt has failed
        const writes = this.#mocks.memory.transact(op.writes)
        const outcome = successOutcome(
          { value: decodeResult(op.value), writes },
          `result of step "${op.name}"`
        )
        this.#record(op.stepKey, op.name, "tx", outcome, op.attempt, readWrites(op.writes))
        return outcome
      }
      case "StepRetry":
        this.#openSteps.set(op.stepKey, { ...op, pending: false, outcome: undefined })
        return undefined
      case "Sleep":
        return this.#endWait(op, "sleep", { _tag: "Success", value: undefined })
      case "WaitForEvent":
        return this.#endWait(op, "waitForEvent", this.#receiveEvent(op))
      case "Invoke":
        return this.#endWait(op, "invoke", await this.#invoke("invoke", op))
      case "InvokeAsync": {
        const invocation = await this.#invoke("invokeAsync", op)
        const outcome =
          invocation._tag === "Failure"
            ? invocation
            : successOutcome({ runId: `test-run-${++this.#mocks.lastId}` }, "a run id")
        this.#record(op.stepKey, op.name, "invokeAsync", outcome, 1)
        return outcome
      }
      case "Publish": {
        const outcome = successOutcome(
          { eventId: `test-msg-${this.#journal.length + 1}`, sequence: 0 },
          "a message"
        )
        this.#record(op.stepKey, op.name, "publish", outcome, 1)
        return outcome
      }
      case "Settle": {
        const openStep = this.#openSteps.get(op.stepKey)
        if (openStep?.outcome !== undefined)
          this.#record(op.stepKey, openStep.name, openStep.kind, openStep.outcome, 1)
        return undefined
      }
      case "Withdraw":
        this.#openSteps.delete(op.stepKey)
        return undefined
      case "Compensate":
        this.#compensating = { error: op.error, compensations: op.compensations }
        return undefined
      default:
        return undefined
    }
  }

  #endWait(
    op: { readonly stepKey: string; readonly name: string },
    kind: StepKind,
    outcome: Outcome
  ): Outcome {
    const { name, stepKey } = op
    this.#openSteps.set(stepKey, { stepKey, name, kind, failures: 0, pending: false, outcome })
    return outcome
  }

  #receiveEvent(op: Extract<TurnOp, { readonly _tag: "WaitForEvent" }>): Outcome {
    const { events } = this.#mocks
    const index = events.findIndex(({ name }) => matchesPattern(op.event, name))
    const [event] = index < 0 ? [] : events.splice(index, 1)
    if (event === undefined) {
      return failureOutcome(
        missingStubError(
          `Step "${op.name}" waits for event "${op.event}", and the test has sent no such event. ` +
            (isPattern(op.event)
              ? `Add before emit(): t.sendEvent(name, data), with a name that "${op.event}" matches`
              : `Add before emit(): t.sendEvent(${JSON.stringify(op.event)}, data)`)
        )
      )
    }
    const { data, name, version } = event
    const timestamp = new Date(this.#now()).toISOString()
    return successOutcome(
      { id: `test-evt-${++this.#mocks.lastId}`, name, version, data: decodeJson(data), timestamp },
      `event "${name}"`
    )
  }

  async #invoke(
    primitive: string,
    op: Extract<TurnOp, { readonly _tag: "Invoke" | "InvokeAsync" }>
  ): Promise<Outcome> {
    const { functionId } = op
    const mock = this.#mocks.invokes.get(functionId)
    if (mock === undefined) {
      return failureOutcome(
        missingStubError(
          `step.${primitive}("${functionId}") was called but has no mock. ` +
            `Add before emit(): t.mockInvoke(${JSON.stringify(functionId)}, (input) => result)`
        )
      )
    }
    try {
      return successOutcome(await mock(decodeJson(op.input)), `output of invoked function "${functionId}"`)
    } catch (error) {
      return failureOutcome(
        error instanceof InvokeError
          ? error
          : new InvokeError(functionId, undefined, messageOf(serializeError(error)), { cause: error })
      )
    }
  }

  #record(
    stepKey: string,
    name: string,
    kind: StepKind,
    outcome: Outcome,
    attempt: number,
    writes?: ReadonlyArray<TestWrite>
  ): void {
    this.#openSteps.delete(stepKey)
    this.#journal.push({ stepKey, name, kind, outcome, attempt })
    if (kind === "parallel") return
    this.#steps.push({
      name: kind === "publish" ? name.slice("publish:".length) : name,
      type: kind === "invokeAsync" ? "invoke" : kind,
      ...(outcome._tag === "Success"
        ? { output: decodeResult(outcome.value) }
        : { error: deserializeError(outcome.error) }),
      ...(writes === undefined ? {} : { writes })
    })
    if (kind === "compensate") this.#compensationsRan.push(name.slice("compensate:".length))
  }

  #result(end: Exclude<TurnEnd, { readonly _tag: "Retrying" }>): TestRun {
    const steps = this.#steps
    const common = {
      steps,
      compensationsRan: this.#compensationsRan,
      stepOutput: (name: string) => steps.find((step) => step.name === name)?.output
    }
    switch (end._tag) {
      case "Completed":
        return { status: "completed", output: decodeResult(end.output), ...common }
      case "Failed":
        return { status: "failed", output: undefined, error: deserializeError(end.error), ...common }
      case "Aborted":
        throw end.reason
      case "Paused":
        throw pauseError(end.code, end.message)
      case "Suspended":
        throw new TestSuspendedError(
          `The run of function "${this.#fn.config.id}" was suspended on ${end.open.join(", ")}, which nothing in this test answers`
        )
    }
  }
}

const pauseError = (code: PauseCode, message: string): Error => {
  switch (code) {
    case "NONDETERMINISM":
      return new NondeterminismError(message)
    case "STORE_CORRUPT":
      return new StoreError(message, { code })
    case "EVENT_TOO_NEW":
      return new SchemaValidationError(message, { code, retryable: true })
  }
}
