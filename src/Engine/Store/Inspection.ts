/** Reading runs: their steps, and the situation of one. */
import { all, forEach, get, statement, type Program } from "./Program.ts"
import type { FunctionInfo, RunStep } from "../../Client/Client.ts"
import type { RegisteredFunction } from "../Registry.ts"
import { findRun, problemWithEvent, runError, runOf } from "./RunRows.ts"
import { heldBackBy } from "./Schedules.ts"
import { readKind } from "./StepKinds.ts"
import type { RunSituation, RunSteps } from "./Store.ts"
import { readLease } from "./Stuck.ts"
import { SUSPECT_FROM } from "./Suspects.ts"
import { type Row, RUN_ITSELF, type Transaction, WaitKind } from "./Transaction.ts"
import { parseStored, storedOutput } from "./StoredJson.ts"

/** Bytes of results that are read at once, besides the last one. */
const SLICE_BYTES = 1024 * 1024

const GET_RUN_STEPS = statement(
  "Inspection.getRunSteps",
  "SELECT step_key, octet_length(value) AS bytes FROM steps WHERE run = ? AND kind <> 'parallel' ORDER BY seq"
)

const GET_RUN_STEPS_2 = statement(
  "Inspection.getRunSteps.2",
  `SELECT * FROM waits WHERE run = ? AND step_key <> '${RUN_ITSELF}' ORDER BY created_at`
)

const GET_RUN_STEPS_3 = statement(
  "Inspection.getRunSteps.3",
  "SELECT * FROM steps WHERE run = ? AND step_key = ?"
)

/** Steps of a run from a place on, finished ones first: `limit` of them, -1 for all, or fewer when they are long. */
export function* getRunSteps(
  tx: Transaction,
  environment: string,
  runId: string,
  { from, limit }: { readonly from: number; readonly limit: number }
): Program<RunSteps> {
  const run = yield* findRun(tx, environment, runId)
  const finished = yield* all(GET_RUN_STEPS, run.key!)
  const open = yield* all(GET_RUN_STEPS_2, run.key!)
  const steps: Array<RunStep> = []
  const count = finished.length + open.length
  let bytes = 0
  let at = from
  while (at < count && steps.length !== limit && bytes < SLICE_BYTES) {
    const key = finished[at]
    if (key === undefined) steps.push(openStep(runId, open[at - finished.length]!))
    else {
      bytes += Number(key.bytes)
      steps.push(finishedStep(runId, (yield* get(GET_RUN_STEPS_3, run.key!, key.step_key!))!))
    }
    at++
  }
  return { steps, ...(at < count ? { next: at } : {}) }
}

const finishedStep = (runId: string, row: Row): RunStep => ({
  id: `${runId}:${row.step_key}`,
  name: String(row.name),
  kind: readKind(row.kind).kind,
  status: Number(row.failed) === 0 ? "completed" : "failed",
  attempt: Number(row.attempt),
  ...(Number(row.failed) === 0 && row.value !== null ? storedOutput(String(row.value)) : {}),
  ...(Number(row.failed) === 0 ? {} : { error: runError(row.value) }),
  startedAt: iso(row.started_at),
  endedAt: iso(row.ended_at)
})

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

const kindNames = {
  [WaitKind.sleep]: "sleep",
  [WaitKind.event]: "event",
  [WaitKind.child]: "child",
  [WaitKind.retry]: "retry",
  [WaitKind.runRetry]: "run-retry"
} as const

const GET_SITUATION = statement(
  "Inspection.getSituation",
  "SELECT id FROM runs WHERE function = ? AND concurrency_key = ? AND lease IS NOT NULL LIMIT 20"
)

const GET_SITUATION_2 = statement(
  "Inspection.getSituation.2",
  "SELECT count(*) AS held FROM runs WHERE function = ? AND concurrency_key = ? AND lease IS NOT NULL"
)

const GET_SITUATION_3 = statement(
  "Inspection.getSituation.3",
  "SELECT worker FROM actors WHERE function = ? AND actor = ?"
)

const GET_SITUATION_4 = statement(
  "Inspection.getSituation.4",
  "SELECT * FROM waits WHERE run = ? ORDER BY due_at"
)

export function* getSituation(tx: Transaction, environment: string, runId: string): Program<RunSituation> {
  const row = yield* findRun(tx, environment, runId)
  const fn = tx.registry.byKey(Number(row.function))
  const holders =
    row.concurrency_key === null
      ? []
      : (yield* all(GET_SITUATION, row.function!, row.concurrency_key!)).map((holder) => String(holder.id))
  const held =
    row.concurrency_key === null
      ? 0
      : Number((yield* get(GET_SITUATION_2, row.function!, row.concurrency_key!))?.held)
  const bound = row.actor === null ? undefined : yield* get(GET_SITUATION_3, row.function!, row.actor!)
  const damage = tx.damage.why("run", Number(row.key)) ?? problemWithEvent(row)
  const heldBack = yield* heldBackBy(Number(row.function), runId)
  return {
    run: yield* runOf(tx, row),
    environment,
    ...(damage === undefined ? {} : { damage }),
    held,
    holders,
    // what else there is of a damaged run may be what cannot be read
    waits:
      damage !== undefined
        ? []
        : yield* forEach(yield* all(GET_SITUATION_4, row.key!), (wait) => waitOf(runId, wait)),
    ...(row.lease === null
      ? {}
      : {
          lease: readLease(tx, row),
          ...(damage === undefined ? yield* lastStep(row) : {})
        }),
    ...(row.ready_at === null ? {} : { readyAt: Number(row.ready_at) }),
    ...(Number(row.losses) < SUSPECT_FROM ? {} : { losses: Number(row.losses) }),
    ...(row.concurrency_key === null ? {} : { concurrencyKey: String(row.concurrency_key) }),
    ...(row.pause === null ? {} : { pause: parseStored(String(row.pause)) }),
    ...(fn === undefined ? {} : { registration: fn.registration, functionDeleted: fn.deleted === true }),
    ...(bound === undefined ? {} : { actorWorkerId: String(bound.worker) }),
    ...(heldBack === undefined ? {} : { heldBack })
  }
}

const LAST_STEP = statement("Inspection.lastStep", "SELECT max(ended_at) AS at FROM steps WHERE run = ?")

/** When a step of the run was reported last. */
function* lastStep({ key }: Row): Program<{ readonly lastStepAt?: number }> {
  const row = yield* get(LAST_STEP, key!)
  return row?.at == null ? {} : { lastStepAt: Number(row.at) }
}

const WAIT_OF = statement("Inspection.waitOf", "SELECT id FROM runs WHERE key = ?")

function* waitOf(runId: string, row: Row): Program<RunSituation["waits"][number]> {
  // written by this store from `WaitKind`
  const kind = Number(row.kind) as keyof typeof kindNames
  const match = row.match_path ?? row.expression
  const child = row.child === null ? undefined : yield* get(WAIT_OF, row.child!)
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
    ...(child === undefined ? {} : { childRunId: String(child.id) }),
    ...(kind === WaitKind.retry && row.value !== null ? { error: runError(row.value).message } : {})
  }
}

const INFO_OF = statement(
  "Inspection.infoOf",
  "SELECT version, created_at, updated_at FROM functions WHERE key = ?"
)

export function* infoOf({ key, registration }: RegisteredFunction): Program<FunctionInfo> {
  const row = yield* get(INFO_OF, key)
  return {
    id: registration.id,
    name: registration.name,
    triggers: registration.triggers,
    version: Number(row?.version),
    codeHash: registration.codeHash,
    createdAt: iso(row?.created_at),
    updatedAt: iso(row?.updated_at)
  }
}

const iso = (value: unknown): string => new Date(Number(value)).toISOString()
