/** Reads the steps of a run, and its situation, from which `explain` derives what the run waits for. */
import { yieldToEventLoop } from "../Yielding.ts"
import * as Effect from "effect/Effect"
import { isObject } from "../../Json.ts"
import type { RunNotFoundError } from "../../Errors.ts"
import { all, forEach, get, statement, type Program, inEnvironment } from "../Store/Program.ts"
import type { RunStep } from "../../Client/Client.ts"
import { NO_PIN } from "../Functions/Pins.ts"
import { type RegisteredFunction, registryOf } from "../Functions/Registry.ts"
import { codeVersionOf } from "../../Versioning.ts"
import { newestFanOut } from "../Log/WaitFanOuts.ts"
import { findRun, runError, runOf } from "./RunRows.ts"
import { problemWithEvent } from "./RunEvent.ts"
import { type RunningAt, runningNow } from "./RunningNow.ts"
import type { RunningStep } from "../../Protocol/RunningSteps.ts"
import { formerEndpoint } from "../Functions/FunctionHistory.ts"
import { heldBackBy } from "../Functions/FunctionSchedules.ts"
import { readKind } from "./StepKinds.ts"
import type { StoreService } from "../Store/Store.ts"
import type { RunSituation, RunSteps } from "./RunRecords.ts"
import { engineOf } from "./EngineWorkers.ts"
import { readPause } from "./Pause.ts"
import { readLease } from "./Stuck.ts"
import { SUSPECT_FROM } from "./Suspects.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { RUN_ITSELF, WaitKind } from "./WaitKinds.ts"
import { storedOutput } from "../Store/StoredJson.ts"
import { outcomeIn } from "./Waits.ts"

/** How many bytes of results are read in one transaction. The transaction ends with the result that reaches this size. */
const SLICE_BYTES = 1024 * 1024

const LIST_SIZES_OF_STEPS = statement(
  "RunInspection.listSizesOfSteps",
  `SELECT s.step_key, coalesce(octet_length(s.value), octet_length(e.data)) AS bytes
     FROM steps s LEFT JOIN events e ON e.position = s.event AND s.value IS NULL
     WHERE s.run = ? AND s.kind <> 'parallel' ORDER BY s.seq`
)

const LIST_WAITS = statement(
  "RunInspection.listWaits",
  `SELECT * FROM waits WHERE run = ? AND step_key <> '${RUN_ITSELF}' ORDER BY created_at`
)

const FIND_STEP = statement("RunInspection.findStep", "SELECT * FROM steps WHERE run = ? AND step_key = ?")

/**
 * Lists the children of a run in the order of their keys. When a step ran again and invoked a second run, the last child is the
 * one that is shown.
 */
const LIST_CHILDREN = statement(
  "RunInspection.listChildren",
  "SELECT id, parent_step FROM runs WHERE parent = ? AND parent IS NOT NULL ORDER BY key LIMIT 10000"
)

interface StepsQuery {
  /** The index of the first step of the page. */
  readonly from: number
  /** Maximum number of steps; -1 for no limit. */
  readonly limit: number
  /** The steps that workers report as running. */
  readonly reported?: ReadonlyArray<RunningAt>
}

/**
 * A page of the steps of a run: finished steps first, then the steps that wait or run. The page has fewer than `limit` steps when
 * their results are long.
 */
export const readRunSteps = inEnvironment(
  "readRunSteps",
  function* (
    tx: Transaction,
    environment: string,
    runId: string,
    { from, limit, reported = [] }: StepsQuery
  ): Program<RunSteps, RunNotFoundError> {
    const row = yield* findRun(tx, environment, runId)
    const finished = yield* all(LIST_SIZES_OF_STEPS, row.key!)
    const open = yield* all(LIST_WAITS, row.key!)
    const running = new Map((yield* runningNow(row, reported)).map((step) => [step.stepKey, step]))
    // running steps that failed before are already among the open ones
    const openKeys = new Set(open.map(({ step_key }) => String(step_key)))
    const newlyRunning = [...running.values()].filter(({ stepKey }) => !openKeys.has(stepKey))
    const children = new Map(
      (yield* all(LIST_CHILDREN, row.key!)).map(({ id, parent_step }) => [String(parent_step), String(id)])
    )
    const steps: Array<RunStep> = []
    const count = finished.length + open.length + newlyRunning.length
    let bytes = 0
    let at = from
    while (at < count && steps.length !== limit && bytes < SLICE_BYTES) {
      const entry = finished[at]
      if (entry === undefined) {
        const wait = open[at - finished.length]
        const step =
          wait === undefined
            ? newlyRunning[at - finished.length - open.length]!
            : running.get(String(wait.step_key))
        steps.push(
          step === undefined
            ? { ...openStep(runId, wait!), ...childOf(children.get(String(wait!.step_key))) }
            : runningStep(runId, row, step, tx.now())
        )
      } else {
        bytes += Number(entry.bytes)
        const step = yield* finishedStep(tx, runId, (yield* get(FIND_STEP, row.key!, entry.step_key!))!)
        const child = children.get(String(entry.step_key)) ?? startedChild(step)
        steps.push({ ...step, ...childOf(child) })
      }
      at++
    }
    return { steps, ...(at < count ? { next: at } : {}) }
  },
  (_, runId) => `read the steps of run ${runId}`
)

function* finishedStep(tx: Transaction, runId: string, row: Row): Program<RunStep> {
  const outcome = yield* outcomeIn(tx, row, row.event)
  const { value } = outcome._tag === "Success" ? outcome : {}
  return {
    id: `${runId}:${row.step_key}`,
    name: String(row.name),
    kind: readKind(row.kind).kind,
    status: outcome._tag === "Success" ? "completed" : "failed",
    attempt: Number(row.attempt),
    ...(value === undefined ? {} : storedOutput(value)),
    ...(outcome._tag === "Success" ? {} : { error: runError(row.value) }),
    startedAt: iso(row.started_at),
    endedAt: iso(row.ended_at)
  }
}

const childOf = (id: string | undefined): Pick<RunStep, "childRunId"> =>
  id === undefined ? {} : { childRunId: id }

/**
 * The id of the run that a step started without waiting for it. The row of such a run names no parent, but the output of the step
 * has its id.
 */
const startedChild = ({ kind, output }: RunStep): string | undefined =>
  kind === "invokeAsync" && isObject(output) && typeof output.runId === "string" ? output.runId : undefined

const openStep = (runId: string, row: Row): RunStep => ({
  id: `${runId}:${row.step_key}`,
  name: String(row.name),
  kind: String(row.step_kind),
  status: "waiting",
  attempt: Number(row.failures) + 1,
  ...(Number(row.kind) === WaitKind.retry && row.value !== null ? { error: runError(row.value) } : {}),
  startedAt: iso(row.created_at),
  ...(row.due_at === null ? {} : { dueAt: iso(row.due_at) })
})

const runningStep = (
  runId: string,
  row: Row,
  { attempt, forMs, kind, name, progress, stepKey }: RunningStep,
  now: number
): RunStep => ({
  id: `${runId}:${stepKey}`,
  name,
  kind,
  status: "running",
  attempt,
  startedAt: iso(now - forMs),
  workerId: String(row.worker),
  ...(progress === undefined ? {} : { progress })
})

const kindNames = {
  [WaitKind.sleep]: "sleep",
  [WaitKind.event]: "event",
  [WaitKind.child]: "child",
  [WaitKind.retry]: "retry",
  [WaitKind.runRetry]: "run-retry"
} as const

const LIST_LEASED_RUNS_OF_KEY = statement(
  "RunInspection.listLeasedRunsOfKey",
  "SELECT id FROM runs WHERE function = ? AND concurrency_key = ? AND lease IS NOT NULL LIMIT 20"
)

const COUNT_LEASED_RUNS_OF_KEY = statement(
  "RunInspection.countLeasedRunsOfKey",
  "SELECT count(*) AS held FROM runs WHERE function = ? AND concurrency_key = ? AND lease IS NOT NULL"
)

const FIND_WORKER_OF_ACTOR = statement(
  "RunInspection.findWorkerOfActor",
  "SELECT worker FROM actors WHERE function = ? AND actor = ?"
)

const LIST_WAITS_BY_DUE_TIME = statement(
  "RunInspection.listWaitsByDueTime",
  "SELECT * FROM waits WHERE run = ? ORDER BY due_at"
)

export const getSituation = inEnvironment(
  "getSituation",
  function* (
    tx: Transaction,
    environment: string,
    runId: string,
    reported: ReadonlyArray<RunningAt> = []
  ): Program<RunSituation, RunNotFoundError> {
    const row = yield* findRun(tx, environment, runId)
    const fn = registryOf(tx).byKey(Number(row.function))
    const holders =
      row.concurrency_key === null
        ? []
        : (yield* all(LIST_LEASED_RUNS_OF_KEY, row.function!, row.concurrency_key!)).map((holder) =>
            String(holder.id)
          )
    const held =
      row.concurrency_key === null
        ? 0
        : Number((yield* get(COUNT_LEASED_RUNS_OF_KEY, row.function!, row.concurrency_key!))?.held)
    const bound = row.actor === null ? undefined : yield* get(FIND_WORKER_OF_ACTOR, row.function!, row.actor!)
    const damage = tx.damage.reasonOf("run", Number(row.key)) ?? problemWithEvent(row)
    const heldBack = yield* heldBackBy(Number(row.function), runId)
    const formerUrl =
      fn === undefined || row.ready_at === null || fn.registration.endpointUrl !== undefined
        ? undefined
        : yield* formerEndpoint(fn.key)
    const engine = row.lease === null ? undefined : yield* engineOf(tx, String(row.worker))
    return {
      run: yield* runOf(tx, row),
      environment,
      ...(damage === undefined ? {} : { damage }),
      held,
      holders,
      // the waits of a damaged run are not read, because they may be what is damaged
      waits:
        damage !== undefined
          ? []
          : yield* forEach(yield* all(LIST_WAITS_BY_DUE_TIME, row.key!), (wait) => waitOf(runId, wait)),
      ...(row.lease === null
        ? {}
        : {
            lease: readLease(tx, row),
            ...(engine === undefined ? {} : { engine }),
            running: yield* runningNow(row, reported),
            ...(damage === undefined ? yield* lastStep(row) : {})
          }),
      ...(row.ready_at === null ? {} : { readyAt: Number(row.ready_at) }),
      ...(Number(row.losses) < SUSPECT_FROM ? {} : { losses: Number(row.losses) }),
      ...(row.concurrency_key === null ? {} : { concurrencyKey: String(row.concurrency_key) }),
      ...(row.pause === null ? {} : { pause: readPause(row) }),
      ...(fn === undefined ? {} : { registration: fn.registration, functionDeleted: fn.deleted === true }),
      ...(formerUrl === undefined ? {} : { formerEndpoint: formerUrl }),
      ...pinOf(row, fn),
      ...(fn?.paused === undefined ? {} : { functionPaused: fn.paused }),
      ...(bound === undefined ? {} : { actorWorkerId: String(bound.worker) }),
      ...(heldBack === undefined ? {} : { heldBack })
    }
  },
  (_, runId, _reported?: ReadonlyArray<RunningAt>) => `read run ${runId}`
)

const pinOf = (row: Row, fn: RegisteredFunction | undefined): Pick<RunSituation, "pin"> => {
  if (row.pin === null || fn === undefined) return {}
  const hasBegun = row.pin !== NO_PIN
  return {
    pin: { version: hasBegun ? String(row.pin) : codeVersionOf(fn.registration), hasBegun }
  }
}

const FIND_LAST_STEP_END = statement(
  "RunInspection.findLastStepEnd",
  "SELECT max(ended_at) AS at FROM steps WHERE run = ?"
)

/** When the last step of the run ended, by the clock of its worker. */
function* lastStep({ key }: Row): Program<{ readonly lastStepAt?: number }> {
  const row = yield* get(FIND_LAST_STEP_END, key!)
  return row?.at == null ? {} : { lastStepAt: Number(row.at) }
}

const FIND_RUN_ID = statement("RunInspection.findRunId", "SELECT id FROM runs WHERE key = ?")

function* waitOf(runId: string, row: Row): Program<RunSituation["waits"][number]> {
  // only this engine writes the column, and only with values of `WaitKind`
  const kind = Number(row.kind) as keyof typeof kindNames
  const match = row.match_path ?? row.expression
  const child = row.child === null ? undefined : yield* get(FIND_RUN_ID, row.child!)
  const newestInFanOut =
    kind === WaitKind.event && row.fired === null
      ? yield* newestFanOut(Number(row.environment), String(row.event))
      : undefined
  return {
    stepId: `${runId}:${row.step_key}`,
    name: String(row.name),
    kind: kindNames[kind],
    fired: row.fired !== null,
    failures: Number(row.failures),
    ...(row.due_at === null ? {} : { dueAt: Number(row.due_at) }),
    ...(row.event === null ? {} : { event: String(row.pattern ?? row.event) }),
    ...(match == null ? {} : { match: String(match) }),
    ...(row.match_value === null ? {} : { matchValue: String(row.match_value) }),
    ...(newestInFanOut === undefined || newestInFanOut <= Number(row.looked_back_to)
      ? {}
      : { isBeingDelivered: true }),
    ...(child === undefined ? {} : { childRunId: String(child.id) }),
    ...(kind === WaitKind.retry && row.value !== null ? { error: runError(row.value).message } : {})
  }
}

const iso = (value: unknown): string => new Date(Number(value)).toISOString()

/** All steps of a run, in their order. */
export const getRunSteps = (
  store: StoreService,
  environment: string,
  runId: string,
  reported: ReadonlyArray<RunningAt> = []
) =>
  Effect.gen(function* () {
    const steps: Array<RunStep> = []
    let firstIndex: number | undefined = 0
    while (firstIndex !== undefined) {
      if (firstIndex > 0) yield* yieldToEventLoop
      const part: RunSteps = yield* store.read(
        readRunSteps(environment, runId, { from: firstIndex, limit: -1, reported })
      )
      for (const step of part.steps) steps.push(step)
      firstIndex = part.next
    }
    return steps
  })
