/** Removes entries from the journal of a run, so that their steps run again, and keeps copies of the entries. */
import type { SerializedError } from "../../Errors.ts"
import { compensationKey } from "../../StepId.ts"
import { all, forEach, get, type Program, statement, variant, write } from "../Store/Program.ts"
import { parseStored } from "../Store/StoredJson.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { cancelAwaitedChildren } from "./CancelRun.ts"
import { RUN_ITSELF } from "./WaitKinds.ts"

/** Removes journal entries and keeps copies of them. `condition` is SQL with one parameter, whose value is `value`. */
function* supersede(
  tx: Transaction,
  run: number,
  condition: string,
  value: string | number,
  reason: string
): Program<void> {
  yield* keepSuperseded(tx, run, condition, value, reason)
  yield* write(
    variant("SupersededSteps.supersede", `DELETE FROM steps WHERE run = ? AND ${condition}`),
    run,
    value
  )
}

/** Keeps copies of journal entries that are about to change. `condition` and `value`: see {@link supersede}. */
export function* keepSuperseded(
  tx: Transaction,
  run: number,
  condition: string,
  value: string | number,
  reason: string
): Program<void> {
  yield* write(
    variant(
      "SupersededSteps.keepSuperseded",
      `INSERT INTO superseded_steps (run, step_key, superseded_at, reason, entry)
     SELECT run, step_key, ?, ?, CAST(json_object('name', name, 'kind', kind, 'seq', seq, 'failed', failed, 'value', value, 'event', event,
       'attempt', attempt, 'started_at', started_at, 'ended_at', ended_at) AS TEXT)
     FROM steps WHERE run = ? AND ${condition}`
    ),
    tx.now(),
    reason,
    run,
    value
  )
}

const DELETE_WAITS_OF_STEPS = statement(
  "SupersededSteps.deleteWaitsOfSteps",
  `DELETE FROM waits WHERE run = ? AND step_key <> '${RUN_ITSELF}'`
)

/**
 * Removes the journal from `seq` on. Open steps count as coming after all entries, so they start again too: sleeps and retry
 * delays with their full time, invocations with a new child.
 */
export function* supersedeFrom(tx: Transaction, row: Row, seq: number, reason: string): Program<void> {
  const run = Number(row.key)
  yield* supersede(tx, run, "seq >= ?", seq, reason)
  yield* cancelAwaitedChildren(tx, Number(row.environment), run, `Parent run ${row.id} was ${reason}`)
  yield* write(DELETE_WAITS_OF_STEPS, run)
}

const FIND_COMPENSATION = statement(
  "SupersededSteps.findCompensation",
  "SELECT 1 FROM steps WHERE run = ? AND step_key = ? AND failed = 0"
)

const LIST_STEPS_BY_NAME = statement(
  "SupersededSteps.listStepsByName",
  "SELECT step_key FROM steps WHERE run = ? AND name = ? AND failed = 0 AND kind <> 'compensate' ORDER BY seq"
)

/** The keys of the steps that a rollback has undone. */
export function* undoneSteps(row: Row): Program<ReadonlyArray<string>> {
  if (row.compensations === null) return []
  // the report of the rollback has written this: the names of steps in the order in which their compensations were registered
  const registered = parseStored(String(row.compensations)) as ReadonlyArray<string>
  return (yield* forEach([...new Set(registered)], function* (name) {
    const hasRun = yield* forEach(
      registered.filter((other) => other === name),
      function* (_, n) {
        const compensation = yield* get(FIND_COMPENSATION, row.key!, compensationKey(name, n))
        return compensation !== undefined
      }
    )
    if (!hasRun.includes(true)) return []
    const steps = (yield* all(LIST_STEPS_BY_NAME, row.key!, name)).map((step) => String(step.step_key))
    // a compensation is registered when its step has ended: if there are as many steps of this name as compensations, the nth
    // compensation belongs to the nth step; otherwise all steps of this name count as undone
    return steps.length === hasRun.length ? steps.filter((_, n) => hasRun[n]) : steps
  })).flat()
}

/**
 * For a retry after a rollback: removes the undone steps and all compensations from the journal, so that both can run again.
 */
export function* supersedeRollback(
  tx: Transaction,
  run: number,
  undone: ReadonlyArray<string>
): Program<void> {
  yield* supersede(tx, run, "kind = ?", "compensate", "rolled back")
  for (const stepKey of undone) yield* supersede(tx, run, "step_key = ?", stepKey, "rolled back")
}

const LIST_FAILED_STEPS = statement(
  "SupersededSteps.listFailedSteps",
  "SELECT step_key, value FROM steps WHERE run = ? AND failed = 1"
)

/**
 * Removes from the journal the failed steps that the run's error comes from, so that they run again. The other failed steps stay:
 * the handler caught their errors.
 */
export function* supersedeFailure(tx: Transaction, row: Row): Program<void> {
  if (row.error === null) return
  const run = Number(row.key)
  const origins = originsOf(row.error)
  for (const step of yield* all(LIST_FAILED_STEPS, run)) {
    const id = `${row.id}:${step.step_key}`
    if (origins.some((origin) => comesFromStep(origin, id, originsOf(step.value)))) {
      yield* supersede(tx, run, "step_key = ?", String(step.step_key), "retried")
    }
  }
}

/** The parts of an error that tell where it comes from. */
type ErrorOrigin = Pick<SerializedError, "name" | "message"> & { readonly stepId?: string }

/** A stored error and its causes, up to the first one that names a step: the causes of that one are internal to the step. */
const originsOf = (json: unknown): ReadonlyArray<ErrorOrigin> => {
  const origins: Array<ErrorOrigin> = []
  // only this engine writes the column, with serialized errors
  let error = parseStored(String(json)) as SerializedError | undefined
  while (error !== undefined) {
    const { cause, data, message, name }: SerializedError = error
    const stepId = data?.stepId
    if (typeof stepId === "string") return [...origins, { name, message, stepId }]
    origins.push({ name, message })
    error = cause
  }
  return origins
}

/**
 * Whether an error comes from the failed step `stepId`: the error names the step, or names no step and has the name and message
 * of the step's error. If the failed step is a parallel call, the error also comes from it when both errors name the same step of a
 * branch. `stepOrigins` are the origins of the step's error.
 */
const comesFromStep = (
  origin: ErrorOrigin,
  stepId: string,
  stepOrigins: ReadonlyArray<ErrorOrigin>
): boolean =>
  origin.stepId === undefined
    ? stepOrigins[0]?.name === origin.name && stepOrigins[0].message === origin.message
    : origin.stepId === stepId || stepOrigins.some((other) => other.stepId === origin.stepId)
