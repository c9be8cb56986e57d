/** Forks a run: creates a new run from its recorded steps. Also moves a run to another version of its function. */
import type { Run } from "../../Client/Client.ts"
import {
  FunctionNotFoundError,
  InvalidStateError,
  type RunNotFoundError,
  StepNotFoundError,
  ValidationError
} from "../../Errors.ts"
import { decodeJson, type JsonText } from "../../Json.ts"
import { codeVersionOf } from "../../Versioning.ts"
import { knownCodeVersions } from "../Functions/FunctionHistory.ts"
import { NO_PIN } from "../Functions/Pins.ts"
import { markReady } from "../Functions/ReadyFunctions.ts"
import { registryOf } from "../Functions/Registry.ts"
import {
  affected,
  all,
  forEach,
  inEnvironment,
  type Program,
  refuse,
  statement,
  write
} from "../Store/Program.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { erasedAt, invocationView, triggerView, refusalOfErased } from "./RunEvent.ts"
import { createRun, findRun, getRun } from "./RunRows.ts"
import { statusIn } from "./StatusRows.ts"
import { findStep } from "./RunControl.ts"
import { patchedKind } from "./StepKinds.ts"
import { undoneSteps } from "./SupersededSteps.ts"
import { RUN_ITSELF } from "./WaitKinds.ts"

interface Fork {
  /** Name or step id of the first step that is not copied. */
  readonly from?: string
  /** Results that replace the recorded results of steps. Each step is given by name or step id. */
  readonly steps?: ReadonlyArray<readonly [step: string, value: JsonText]>
  /** Replaces the input. */
  readonly data?: JsonText
}

/**
 * SQL that copies steps. The steps of a rollback, each of which runs a compensation, are not copied: the handler of the fork
 * registers the compensations of copied steps again.
 */
const COPY_STEPS = statement(
  "Forking.copySteps",
  `INSERT INTO steps (run, step_key, seq, name, kind, failed, value, attempt, started_at, ended_at, event, wait)
     SELECT CAST(? AS INTEGER), step_key, seq, name, kind, failed, value, attempt, started_at, ended_at, event, wait FROM steps
     WHERE run = ? AND seq < ? AND kind <> 'compensate' AND step_key NOT IN (SELECT value FROM json_each(?))`,
  {
    postgres: `INSERT INTO steps (run, step_key, seq, name, kind, failed, value, attempt, started_at, ended_at, event, wait)
     SELECT CAST(? AS BIGINT), step_key, seq, name, kind, failed, value, attempt, started_at, ended_at, event, wait FROM steps
     WHERE run = ? AND seq < ? AND kind <> 'compensate' AND step_key NOT IN (SELECT value FROM json_each(?))`
  }
)
const UPDATE_STEP = statement(
  "Forking.updateStep",
  "UPDATE steps SET kind = ?, failed = 0, value = ? WHERE run = ? AND step_key = ?"
)
const INSERT_STEP = statement(
  "Forking.insertStep",
  `INSERT INTO steps (run, step_key, seq, name, kind, failed, value, attempt, started_at, ended_at)
     VALUES (?, ?, ?, ?, ?, 0, ?, 1, ?, ?)`
)

/**
 * Creates a run with the steps that the run `runId` recorded before the step `from`; without `from`, with no steps. Steps that a
 * rollback has undone are not copied, so they run again.
 */
export const forkRun = inEnvironment(
  "forkRun",
  function* (
    tx: Transaction,
    environment: string,
    runId: string,
    { data, from, steps = [] }: Fork
  ): Program<
    Run,
    FunctionNotFoundError | InvalidStateError | RunNotFoundError | StepNotFoundError | ValidationError
  > {
    const row = yield* findRun(tx, environment, runId)
    const erased = erasedAt(row)
    if (erased !== undefined) return yield* refuse(refusalOfErased(runId, erased, "forked"))
    const fn = registryOf(tx).byKey(Number(row.function))
    if (fn === undefined) return yield* refuse(refusalOfDamagedFunction(runId, "forked"))
    if (fn.deleted === true) return yield* refuse(new FunctionNotFoundError(fn.registration.id))
    const fromSeq = from === undefined ? 0 : yield* findStep(row, from)
    const undone = yield* undoneSteps(row)
    const replaced = yield* forEach(steps, function* ([step, value]): Program<
      ReplacedStep,
      StepNotFoundError | ValidationError
    > {
      return { ...(yield* findReplaced(row, step)), value }
    })
    const duplicate = replaced.find(({ stepKey }, i) =>
      replaced.slice(0, i).some((other) => other.stepKey === stepKey)
    )
    if (duplicate !== undefined) {
      return yield* refuse(
        new ValidationError(
          `forkRun: \`steps\` has two results for step "${runId}:${duplicate.stepKey}": give one result for each step`
        )
      )
    }

    const now = tx.now()
    const { id, key } = yield* createRun(tx, {
      environment: Number(row.environment),
      fn,
      event: Number(row.event),
      ...(yield* inputOfRepeat(tx, row, data)),
      forkedFrom: { runId, ...(from === undefined ? {} : { step: from }) }
    })
    if (fromSeq > 0) yield* write(COPY_STEPS, key, row.key!, fromSeq, JSON.stringify(undone))
    for (const { kind, name, stepKey, value } of replaced.sort((a, b) => a.seq - b.seq)) {
      const newKind = patchedKind(kind)
      if ((yield* affected(UPDATE_STEP, newKind, value, key, stepKey)) === 0)
        yield* write(INSERT_STEP, key, stepKey, tx.nextSeq(), name, newKind, value, now, now)
    }
    return yield* getRun.in(tx, environment, id)
  },
  (_, runId) => `fork run ${runId}`
)

/** The error for a run whose function is unknown, which happens only when the row of the function is damaged. */
const refusalOfDamagedFunction = (runId: string, participle: string): InvalidStateError =>
  new InvalidStateError(
    `Run ${runId} cannot be ${participle}, because the row of its function is damaged: start a worker that has the function, which repairs the row.`
  )

/** The input of a new run that repeats the run in `row`: `data`, or by default the input of that run. */
export function* inputOfRepeat(
  tx: Transaction,
  row: Row,
  data?: JsonText
): Program<Pick<Parameters<typeof createRun>[1], "data" | "forkData" | "id" | "systemEvent" | "view">> {
  if (row.input !== null) {
    const id = tx.ids.run()
    const input = data ?? String(row.input)
    return {
      id,
      view: invocationView(id, input, tx.now(), row.system_event),
      data: input,
      ...(row.system_event == null ? {} : { systemEvent: String(row.system_event) })
    }
  }
  const original = yield* triggerView(Number(row.key))
  const forkData = data ?? textOrNone(row.fork_data)
  return {
    view: data === undefined ? original : { ...original, data: decodeJson(data) },
    ...(forkData === undefined ? {} : { forkData })
  }
}

const textOrNone = (value: unknown): string | undefined => (value == null ? undefined : String(value))

/** A step of the run that is forked. */
interface FoundStep {
  readonly stepKey: string
  readonly name: string
  readonly kind: string
  readonly seq: number
}
/** A step, and the result that replaces its recorded result in the fork. */
interface ReplacedStep extends FoundStep {
  readonly value: JsonText
}

const IS_WANTED = "(step_key = ? OR name = ? OR ? = CAST(? AS TEXT) || ':' || step_key)"
const LIST_STEPS = statement(
  "Forking.listSteps",
  `SELECT step_key, name, kind, seq FROM steps WHERE run = ? AND ${IS_WANTED} AND kind <> 'compensate' AND kind <> 'parallel' ORDER BY seq`
)
const LIST_OPEN_STEPS = statement(
  "Forking.listOpenSteps",
  `SELECT step_key, name, step_kind AS kind FROM waits WHERE run = ? AND ${IS_WANTED} AND step_key <> '${RUN_ITSELF}'`
)

function* findReplaced(run: Row, wanted: string): Program<FoundStep, StepNotFoundError | ValidationError> {
  const values = [run.key!, wanted, wanted, wanted, run.id!] as const
  const found = [...(yield* all(LIST_STEPS, ...values)), ...(yield* all(LIST_OPEN_STEPS, ...values))]
  const [row, ...others] = found
  if (row === undefined) return yield* refuse(new StepNotFoundError(String(run.id), wanted))
  if (others.length > 0) {
    return yield* refuse(
      new ValidationError(
        `forkRun: \`steps\` names "${wanted}", but run ${run.id} has ${found.length} steps of this name: name one of them by its id, ` +
          found
            .slice(0, 5)
            .map(({ step_key }) => `"${run.id}:${step_key}"`)
            .join(", ")
      )
    )
  }
  return {
    stepKey: String(row.step_key),
    name: String(row.name),
    kind: String(row.kind),
    seq: row.seq === undefined ? Number.MAX_SAFE_INTEGER : Number(row.seq)
  }
}

const UPDATE_PIN = statement("Forking.updatePin", "UPDATE runs SET pin = ? WHERE key = ?")

/**
 * Moves an unfinished pinned run to the given version of its function, by default to the latest. Returns the run, and its
 * versions before and after.
 */
export const moveRun = inEnvironment(
  "moveRun",
  function* (
    tx: Transaction,
    environment: string,
    runId: string,
    version: string | undefined
  ): Program<
    { readonly run: Run; readonly before: string; readonly after: string },
    FunctionNotFoundError | RunNotFoundError | InvalidStateError | ValidationError
  > {
    const row = yield* findRun(tx, environment, runId)
    if (row.ended_at !== null) {
      return yield* refuse(
        new InvalidStateError(
          `Run ${runId} is ${statusIn(row)} and cannot be moved to another version. To start a new run from it with the latest code, use forkRun`
        )
      )
    }
    const fn = registryOf(tx).byKey(Number(row.function))
    if (fn === undefined) return yield* refuse(refusalOfDamagedFunction(runId, "moved to another version"))
    if (row.pin === null || row.pin === NO_PIN) {
      return yield* refuse(
        new InvalidStateError(
          `Run ${runId} cannot be moved to another version, because it is not pinned to one: any worker that has the function can continue it`
        )
      )
    }
    const newVersion = version ?? codeVersionOf(fn.registration)
    if (version !== undefined) {
      const known = yield* knownCodeVersions(fn.key)
      if (!known.includes(version)) {
        return yield* refuse(
          new ValidationError(
            `Function "${fn.registration.id}" has no version "${version}": it has ${known
              .slice(0, 10)
              .map((one) => `"${one}"`)
              .join(", ")}`
          )
        )
      }
    }
    yield* write(UPDATE_PIN, newVersion, row.key!)
    markReady(tx, fn.key)
    return { run: yield* getRun.in(tx, environment, runId), before: String(row.pin), after: newVersion }
  },
  (_, runId, _version?: string) => `move run ${runId} to another version`
)
