/**
 * Which workers are connected to which engine, where several use the database. Leases of workers in the process of an engine have no
 * end of their own: they hold as long as their engine is there.
 */
import { acrossEnvironments, affected, all, get, type Program, variant, write } from "../Store/Program.ts"
import { LAPSE_MS } from "../Store/Postgres/Nodes.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** Whether the worker that a column names is connected to an engine that is there; never so where there is one engine. */
export const livesElsewhere = (column: string): string =>
  `EXISTS (SELECT 1 FROM node_workers JOIN nodes ON nodes.id = node_workers.node
    WHERE node_workers.worker = ${column} AND nodes.steady_since IS NOT NULL)`

const NODE_OF = variant(
  "NodeWorkers.nodeOf",
  `SELECT nodes.name FROM node_workers JOIN nodes ON nodes.id = node_workers.node
    WHERE node_workers.worker = ? AND nodes.id <> ? AND nodes.steady_since IS NOT NULL`
)

/** Whether a worker is connected to another engine that is there. */
export function* isAtOther(tx: Transaction, workerId: string): Program<boolean> {
  return tx.node !== undefined && (yield* get(NODE_OF, workerId, tx.node)) !== undefined
}

const WHO = variant(
  "NodeWorkers.who",
  `SELECT node_workers.*, nodes.name FROM node_workers JOIN nodes ON nodes.id = node_workers.node
    WHERE node_workers.worker = ? AND nodes.steady_since IS NOT NULL`
)

/** Who a worker is at the engine that it is connected to. */
export interface WorkerHere {
  readonly workerId: string
  readonly environment: string
  /** Of one connection: nobody else has or had it. */
  readonly session: string
  /** The process that it is; absent for one that does not say so. */
  readonly instance?: string
  /** Which registration of the instance it is; absent for workers that do not count them. */
  readonly number?: number
  /** JSON: what engines show of it. */
  readonly info: string
}

/** What becomes of a worker that comes. */
export type Coming =
  /** It may have moved from another engine: `batch` is the number of its last reports, and `acks`, JSON, how they were answered. */
  | { readonly _tag: "Came"; readonly hasMoved: boolean; readonly batch?: number; readonly acks?: string }
  /** One with its id is connected to another engine. */
  | { readonly _tag: "Elsewhere"; readonly engine: string; readonly environment: string }
  /** It has registered since, with another engine. */
  | { readonly _tag: "Stale"; readonly number: number }

const COME = variant(
  "NodeWorkers.come",
  `INSERT INTO node_workers (worker, node, session, instance, environment, registration, info, batch, acks)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (worker) DO UPDATE SET node = excluded.node, session = excluded.session, instance = excluded.instance,
      environment = excluded.environment, registration = excluded.registration, info = excluded.info,
      batch = excluded.batch, acks = excluded.acks`
)

/** Whether a row is about another process than the one that comes, at another engine. */
const isAnother = (tx: Transaction, row: Row, instance: string | undefined): boolean =>
  row.node !== tx.node && (instance === undefined || row.instance !== instance)

/** A worker connects to this engine: one that was connected to another one is not connected to that any more. */
export const workerCame = acrossEnvironments(
  "workerCame",
  function* (
    tx: Transaction,
    { environment, info, instance, number, session, workerId }: WorkerHere
  ): Program<Coming> {
    if (tx.node === undefined) return { _tag: "Came", hasMoved: false }
    const row = yield* get(WHO, workerId)
    if (row !== undefined && isAnother(tx, row, instance)) {
      return { _tag: "Elsewhere", engine: String(row.name), environment: String(row.environment) }
    }
    const isSame = row !== undefined && instance !== undefined && row.instance === instance
    if (isSame && number !== undefined && row.registration !== null && number < Number(row.registration)) {
      return { _tag: "Stale", number: Number(row.registration) }
    }
    const batch = isSame ? row.batch! : null
    const acks = isSame ? row.acks! : null
    yield* write(
      COME,
      workerId,
      tx.node,
      session,
      instance ?? null,
      environment,
      number ?? null,
      info,
      batch,
      acks
    )
    return {
      _tag: "Came",
      hasMoved: isSame && row.node !== tx.node,
      ...(batch === null || acks === null ? {} : { batch: Number(batch), acks: String(acks) })
    }
  },
  ({ workerId }) => `connect worker ${workerId}`
)

/** Where a worker is connected, unless it is this process or this engine: to whoever waits until it may come. */
export const whereElsewhere = acrossEnvironments(
  "whereElsewhere",
  function* (tx: Transaction, workerId: string, instance: string | undefined): Program<string | undefined> {
    const row = tx.node === undefined ? undefined : yield* get(WHO, workerId)
    return row !== undefined && isAnother(tx, row, instance) ? String(row.name) : undefined
  },
  (workerId) => `look where worker ${workerId} is`
)

const ENGINE_OF = variant(
  "NodeWorkers.engineOf",
  `SELECT nodes.name, nodes.last_seen FROM node_workers JOIN nodes ON nodes.id = node_workers.node
    WHERE node_workers.worker = ? AND nodes.id <> ?`
)

/** Another engine on the database, as far as it is known. */
export interface OtherEngine {
  readonly name: string
  /** When others have seen it last, epoch milliseconds. */
  readonly seenAt: number
  /** When others take it for dead if it is not seen again, epoch milliseconds. */
  readonly goneAt: number
}

/** The other engine that a worker is connected to. */
export function* engineOf(tx: Transaction, workerId: string): Program<OtherEngine | undefined> {
  const row = tx.node === undefined ? undefined : yield* get(ENGINE_OF, workerId, tx.node)
  if (row === undefined) return undefined
  const seenAt = Number(row.last_seen)
  return { name: String(row.name), seenAt, goneAt: seenAt + LAPSE_MS }
}

const LEAVE = variant(
  "NodeWorkers.leave",
  "DELETE FROM node_workers WHERE worker = ? AND node = ? AND session = ?"
)

/** A session of a worker with this engine is over: says whether it was still its own, and it has not come to another engine. */
export function* sessionOver(tx: Transaction, workerId: string, session: string): Program<boolean> {
  return tx.node === undefined || (yield* affected(LEAVE, workerId, tx.node, session)) > 0
}

/** The same, of one that leaves its leases as they are. */
export const workerLeft = acrossEnvironments(
  "workerLeft",
  function* (tx: Transaction, workerId: string, session: string): Program<void> {
    yield* sessionOver(tx, workerId, session)
  },
  (workerId) => `disconnect worker ${workerId}`
)

const CHANGE = variant(
  "NodeWorkers.change",
  "UPDATE node_workers SET info = ? WHERE worker = ? AND node = ? AND session = ?"
)

/** Something else is to be shown of a worker: JSON, as {@link WorkerHere} says it. */
export const workerChanged = acrossEnvironments(
  "workerChanged",
  function* (tx: Transaction, workerId: string, session: string, info: string): Program<void> {
    if (tx.node !== undefined) yield* write(CHANGE, info, workerId, tx.node, session)
  },
  (workerId) => `tell what is new of worker ${workerId}`
)

const NOTE_BATCH = variant(
  "NodeWorkers.noteBatch",
  "UPDATE node_workers SET batch = ?, acks = ? WHERE worker = ? AND node = ? AND session = ?"
)

/** Characters of answers that are kept for another engine: one that is larger is found out there. */
const MOST_ACKS = 64 * 1024

/** Reports that a session has numbered. */
export interface Batch {
  readonly workerId: string
  readonly session: string
  readonly number: number
}

/** The reports of a batch are stored, and answered like this: if they come again, to another engine, it knows. */
export function* noteBatch(
  tx: Transaction,
  { number, session, workerId }: Batch,
  answer: ReadonlyArray<unknown>
): Program<void> {
  if (tx.node === undefined) return
  const acks = JSON.stringify(answer)
  yield* write(NOTE_BATCH, number, acks.length > MOST_ACKS ? null : acks, workerId, tx.node, session)
}

const ALL = variant(
  "NodeWorkers.all",
  `SELECT node_workers.worker, node_workers.node, node_workers.session, node_workers.environment, node_workers.info,
      (SELECT count(*) FROM runs WHERE runs.worker = node_workers.worker AND runs.lease IS NOT NULL) AS jobs
    FROM node_workers JOIN nodes ON nodes.id = node_workers.node
    WHERE nodes.steady_since IS NOT NULL AND node_workers.info IS NOT NULL ORDER BY node_workers.worker`
)

/** A worker, and the engine that it is connected to. */
export interface NodeWorker {
  readonly workerId: string
  readonly environment: string
  readonly session: string
  readonly isHere: boolean
  /** JSON, as {@link WorkerHere} says it. */
  readonly info: string
  /** Runs that it holds. */
  readonly jobs: number
}

/** Those of all engines that are there. */
export const readWorkers = acrossEnvironments(
  "readWorkers",
  function* (tx: Transaction): Program<ReadonlyArray<NodeWorker>> {
    if (tx.node === undefined) return []
    return (yield* all(ALL)).map((row) => ({
      workerId: String(row.worker),
      environment: String(row.environment),
      session: String(row.session),
      isHere: row.node === tx.node,
      info: String(row.info),
      jobs: Number(row.jobs)
    }))
  },
  () => "read which workers there are"
)
