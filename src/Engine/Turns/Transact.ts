/** Makes the writes of a `step.tx`: all of them in the transaction that stores the step, or none. */
import { attempt, forEach, type Program } from "../Store/Program.ts"
import {
  IronflowError,
  serializeError,
  type BucketNotFoundError,
  type LimitExceededError,
  type RevisionConflictError
} from "../../Errors.ts"
import { fromValueInJson } from "../../KvValue.ts"
import { validTrace } from "../../Trace.ts"
import type { Outcome, TurnOp, TxKvWrite, TxWrite, TxWriteResult } from "../../Protocol/Worker.ts"
import { storeEvent, tooManyRunsError } from "../Events/Append.ts"
import { carryOutPlan, type KvPlan, planWrites } from "../Kv/KvWrites.ts"
import { readState, refusalOf, storeAppend, type StreamState } from "../Streams/StreamRows.ts"
import type { Transaction } from "../Store/Transaction.ts"

/**
 * Makes the writes, and returns their results as the outcome of the step. If one write is refused, makes none: the step fails.
 */
export function* transact(
  tx: Transaction,
  environment: number,
  { trace, value, writes }: Pick<Extract<TurnOp, { readonly _tag: "Transact" }>, "trace" | "value" | "writes">
): Program<Outcome> {
  const refused =
    (yield* new Preview(environment).refusalOf(writes)) ??
    tooManyRunsError(tx, tx.environmentName(environment), "The transaction", writes.flatMap(eventsOf))
  if (refused !== undefined) return refusal(refused)
  const keys = yield* attempt(planKeys(tx, environment, writes))
  if (keys instanceof IronflowError) return refusal(keys)
  const revisions = yield* carryOutKeys(tx, keys)
  const results = yield* forEach(writes, (write) =>
    carryOut(tx, environment, write, revisions, validTrace(trace))
  )
  return {
    _tag: "Success",
    value: `{${value === undefined ? "" : `"value":${value},`}"writes":${JSON.stringify(results)}}`
  }
}

const eventsOf = (write: TxWrite): ReadonlyArray<{ readonly name: string }> =>
  write._tag === "append" ? write.events : write._tag === "emit" ? [write] : []

const refusal = (error: IronflowError): Outcome => ({
  _tag: "Failure",
  error: serializeError(error, { stack: false })
})

/** For each bucket: the writes to its keys, and the plan for these writes. */
type PlannedKeys = ReadonlyArray<readonly [writes: ReadonlyArray<TxKvWrite>, plan: KvPlan]>

/** Plans the writes to all buckets before any bucket is written. */
function* planKeys(
  tx: Transaction,
  environment: number,
  writes: ReadonlyArray<TxWrite>
): Program<PlannedKeys | IronflowError, BucketNotFoundError | LimitExceededError | RevisionConflictError> {
  const byBucket = new Map<string, Array<TxKvWrite>>()
  for (const write of writes) {
    if (write._tag !== "kv") continue
    const others = byBucket.get(write.bucket)
    if (others === undefined) byBucket.set(write.bucket, [write])
    else others.push(write)
  }
  const planned: Array<PlannedKeys[number]> = []
  for (const [bucket, changes] of byBucket) {
    const rows = changes.map(({ expected, key, value }) => ({
      key,
      ...(value === undefined ? {} : { value: fromValueInJson(value) }),
      ...(expected === undefined ? {} : { expected })
    }))
    planned.push([changes, yield* planWrites(tx, tx.environmentName(environment), bucket, rows)])
  }
  return planned as PlannedKeys
}

/** Writes the planned keys. Returns the revision of each write. */
function* carryOutKeys(tx: Transaction, planned: PlannedKeys): Program<ReadonlyMap<TxKvWrite, number>> {
  const revisions = new Map<TxKvWrite, number>()
  for (const [writes, plan] of planned) {
    for (const [i, revision] of (yield* carryOutPlan(tx, plan)).entries()) revisions.set(writes[i]!, revision)
  }
  return revisions
}

function* carryOut(
  tx: Transaction,
  environment: number,
  write: TxWrite,
  revisions: ReadonlyMap<TxKvWrite, number>,
  trace: { readonly trace?: string }
): Program<TxWriteResult> {
  const name = tx.environmentName(environment)
  switch (write._tag) {
    case "append": {
      const { _tag, ...append } = write
      const { entityVersion, events, position, warnings } = yield* storeAppend(
        tx,
        name,
        { ...append, ...trace },
        yield* readState(environment, append.entityId)
      )
      for (const warning of warnings) {
        tx.changes.warnings.push(`An event of stream "${append.entityId}": ${warning}`)
      }
      return { _tag, entityId: append.entityId, entityVersion, position, events }
    }
    case "emit": {
      const { data, metadata, version } = write
      const { eventId, position, runIds, warnings } = yield* storeEvent(tx, {
        environment: name,
        name: write.name,
        version,
        data,
        ...(metadata === undefined ? {} : { metadata }),
        ...trace
      })
      for (const warning of warnings) {
        tx.changes.warnings.push(`Event "${write.name}" ${eventId}: ${warning}`)
      }
      return { _tag: write._tag, eventId, position, runIds }
    }
    case "kv":
      // `carryOutKeys` has already written this key, with the other keys of its bucket
      return { _tag: write._tag, bucket: write.bucket, key: write.key, revision: revisions.get(write) ?? 0 }
  }
}

/** Checks writes without making them. Each write is checked against the state that the writes before it would have left. */
class Preview {
  readonly #environment: number
  readonly #streams = new Map<string, StreamState | undefined>()

  constructor(environment: number) {
    this.#environment = environment
  }

  *refusalOf(writes: ReadonlyArray<TxWrite>): Program<IronflowError | undefined> {
    for (const write of writes) {
      const refused = yield* this.#refusalOfOne(write)
      if (refused !== undefined) return refused
    }
    return undefined
  }

  *#refusalOfOne(write: TxWrite): Program<IronflowError | undefined> {
    switch (write._tag) {
      case "append": {
        const { entityId, entityType, events } = write
        const state = this.#streams.has(entityId)
          ? this.#streams.get(entityId)
          : yield* readState(this.#environment, entityId)
        const refused = refusalOf(state, write)
        this.#streams.set(entityId, { entityType, version: (state?.version ?? 0) + events.length })
        return refused
      }
      case "emit":
        // an event can always be appended
        return undefined
      case "kv":
        // `planKeys` checks the keys, bucket by bucket: each key is written once at most
        return undefined
    }
  }
}
