/**
 * Which worker is connected to which engine, when several engines share the database. The lease of a worker that runs in the
 * process of an engine does not expire: it lasts as long as that engine lives. A push endpoint counts as a worker of the engine
 * that calls it.
 */
import { acrossEnvironments, affected, all, get, type Program, variant, write } from "../Store/Program.ts"
import { LAPSE_MS } from "../Store/Postgres/Nodes.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** SQL: whether the worker whose id is in a column is connected to a live engine. Always false when there is only one engine. */
export const hasLiveEngine = (column: string): string =>
  `EXISTS (SELECT 1 FROM node_workers JOIN nodes ON nodes.id = node_workers.node
    WHERE node_workers.worker = ${column} AND nodes.steady_since IS NOT NULL)`

const ENDPOINT_PREFIX = "push-"
const HASH_LENGTH = 16

/**
 * The id of a push endpoint as a worker. `hash` is the start of a hash of its environment and URL. When several engines share the
 * database, each of them calls the endpoint as a worker of its own, with its `node` in the id.
 */
export const endpointId = (hash: string, node: number | undefined): string => {
  const id = `${ENDPOINT_PREFIX}${hash.slice(0, HASH_LENGTH)}`
  return node === undefined ? id : `${id}-${node}`
}

const endpointIds = new RegExp(`^${ENDPOINT_PREFIX}[0-9a-f]{${HASH_LENGTH}}(-|$)`)

/** Whether the id of a worker stands for a push endpoint. */
export const isEndpointId = (workerId: string): boolean => endpointIds.test(workerId)

/** SQL: whether the worker whose id is in a column is a push endpoint. Called when an engine starts alone on its database. */
export const isEndpoint = (column: string): string =>
  `${column} GLOB '${ENDPOINT_PREFIX}${"[0-9a-f]".repeat(HASH_LENGTH)}'`

/** SQL: whether the worker whose id is in a column is a push endpoint of an engine that is not live. Only for Postgres. */
export const isEndpointOfGoneEngine = (column: string): string =>
  `(${column} ~ '^${ENDPOINT_PREFIX}[0-9a-f]{${HASH_LENGTH}}(-[0-9]+)?$' AND NOT EXISTS (SELECT 1 FROM nodes
    WHERE nodes.steady_since IS NOT NULL AND ${column} LIKE '${ENDPOINT_PREFIX}%-' || nodes.id))`

const FIND_OTHER_ENGINE_OF_WORKER = variant(
  "EngineWorkers.findOtherEngineOfWorker",
  `SELECT nodes.name FROM node_workers JOIN nodes ON nodes.id = node_workers.node
    WHERE node_workers.worker = ? AND nodes.id <> ? AND nodes.steady_since IS NOT NULL`
)

/** Whether a worker is connected to another live engine. */
export function* isAtOtherEngine(tx: Transaction, workerId: string): Program<boolean> {
  return tx.node !== undefined && (yield* get(FIND_OTHER_ENGINE_OF_WORKER, workerId, tx.node)) !== undefined
}

const FIND_WORKER = variant(
  "EngineWorkers.findWorker",
  `SELECT node_workers.*, nodes.name FROM node_workers JOIN nodes ON nodes.id = node_workers.node
    WHERE node_workers.worker = ? AND nodes.steady_since IS NOT NULL`
)

/** A worker, as the engine to which it is connected knows it. */
export interface WorkerHere {
  readonly workerId: string
  readonly environment: string
  /** Unique for each connection. */
  readonly session: string
  /** The worker process; absent for a worker that does not name it. */
  readonly instance?: string
  /** The number of this registration of the process; absent for workers that do not count their registrations. */
  readonly number?: number
  /** JSON text of what every engine shows about the worker. */
  readonly info: string
}

/** The result of connecting a worker. */
export type ConnectResult =
  /**
   * The worker is connected to this engine. If the same process was connected before, `hasMovedHere` is whether it was connected
   * to another engine, `batch` is the number of its last batch of reports, and `acks` is the JSON text of the answers to that batch.
   */
  | {
      readonly _tag: "Connected"
      readonly hasMovedHere: boolean
      readonly batch?: number
      readonly acks?: string
    }
  /** A worker with this id is connected to another engine. */
  | { readonly _tag: "Elsewhere"; readonly engine: string; readonly environment: string }
  /** The same process has registered again since, with this higher number. */
  | { readonly _tag: "Stale"; readonly number: number }

const PUT_WORKER = variant(
  "EngineWorkers.putWorker",
  `INSERT INTO node_workers (worker, node, session, instance, environment, registration, info, batch, acks)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (worker) DO UPDATE SET node = excluded.node, session = excluded.session, instance = excluded.instance,
      environment = excluded.environment, registration = excluded.registration, info = excluded.info,
      batch = excluded.batch, acks = excluded.acks`
)

/** Whether the worker in a row is connected to another engine, and is another process than the worker that connects. */
const isOfOtherProcess = (tx: Transaction, row: Row, instance: string | undefined): boolean =>
  row.node !== tx.node && (instance === undefined || row.instance !== instance)

/** Connects a worker to this engine, and disconnects it from any other. */
export const connectWorker = acrossEnvironments(
  "connectWorker",
  function* (
    tx: Transaction,
    { environment, info, instance, number, session, workerId }: WorkerHere
  ): Program<ConnectResult> {
    if (tx.node === undefined) return { _tag: "Connected", hasMovedHere: false }
    const row = yield* get(FIND_WORKER, workerId)
    if (row !== undefined && isOfOtherProcess(tx, row, instance)) {
      return { _tag: "Elsewhere", engine: String(row.name), environment: String(row.environment) }
    }
    const isSameProcess = row !== undefined && instance !== undefined && row.instance === instance
    if (
      isSameProcess &&
      number !== undefined &&
      row.registration !== null &&
      number < Number(row.registration)
    ) {
      return { _tag: "Stale", number: Number(row.registration) }
    }
    const batch = isSameProcess ? row.batch! : null
    const acks = isSameProcess ? row.acks! : null
    yield* write(
      PUT_WORKER,
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
      _tag: "Connected",
      hasMovedHere: isSameProcess && row.node !== tx.node,
      ...(batch === null || acks === null ? {} : { batch: Number(batch), acks: String(acks) })
    }
  },
  ({ workerId }) => `connect worker ${workerId}`
)

/**
 * The name of another engine to which another process with this worker id is connected; `undefined` if there is none. For a
 * worker that waits until it can connect.
 */
export const findOtherEngine = acrossEnvironments(
  "findOtherEngine",
  function* (tx: Transaction, workerId: string, instance: string | undefined): Program<string | undefined> {
    const row = tx.node === undefined ? undefined : yield* get(FIND_WORKER, workerId)
    return row !== undefined && isOfOtherProcess(tx, row, instance) ? String(row.name) : undefined
  },
  (workerId) => `find the engine of worker ${workerId}`
)

const FIND_ENGINE_OF_WORKER = variant(
  "EngineWorkers.findEngineOfWorker",
  `SELECT nodes.name, nodes.last_seen FROM node_workers JOIN nodes ON nodes.id = node_workers.node
    WHERE node_workers.worker = ? AND nodes.id <> ?`
)

/** Another engine on the database, as far as is known. */
export interface OtherEngine {
  readonly name: string
  /** When the engine last showed that it lives, in epoch milliseconds. */
  readonly seenAt: number
  /** When other engines declare it dead unless it shows that it lives, in epoch milliseconds. */
  readonly goneAt: number
}

/** The other engine to which a worker is connected; `undefined` when it is connected to this engine, or to none. */
export function* engineOf(tx: Transaction, workerId: string): Program<OtherEngine | undefined> {
  const row = tx.node === undefined ? undefined : yield* get(FIND_ENGINE_OF_WORKER, workerId, tx.node)
  if (row === undefined) return undefined
  const seenAt = Number(row.last_seen)
  return { name: String(row.name), seenAt, goneAt: seenAt + LAPSE_MS }
}

const DELETE_WORKER = variant(
  "EngineWorkers.deleteWorker",
  "DELETE FROM node_workers WHERE worker = ? AND node = ? AND session = ?"
)

/**
 * Ends a session of a worker with this engine. Returns `true` when the session was still current, that is, when the worker has
 * not connected again since, here or to another engine.
 */
export function* endSession(tx: Transaction, workerId: string, session: string): Program<boolean> {
  return tx.node === undefined || (yield* affected(DELETE_WORKER, workerId, tx.node, session)) > 0
}

/** Ends the session of a worker without ending its leases. Returns whether the session was still current. */
export const disconnectWorker = acrossEnvironments(
  "disconnectWorker",
  endSession,
  (workerId) => `disconnect worker ${workerId}`
)

const DELETE_WORKERS_OF_ENGINE = variant(
  "EngineWorkers.deleteWorkersOfEngine",
  "DELETE FROM node_workers WHERE node = ?"
)

/** Ends the sessions of all workers that are connected to this engine. */
export const disconnectAllWorkers = acrossEnvironments(
  "disconnectAllWorkers",
  function* (tx: Transaction): Program<void> {
    if (tx.node !== undefined) yield* write(DELETE_WORKERS_OF_ENGINE, tx.node)
  },
  () => "disconnect all workers"
)

const UPDATE_INFO = variant(
  "EngineWorkers.updateInfo",
  "UPDATE node_workers SET info = ? WHERE worker = ? AND node = ? AND session = ?"
)

/** Stores the new {@link WorkerHere.info} of a worker. */
export const updateWorkerInfo = acrossEnvironments(
  "updateWorkerInfo",
  function* (tx: Transaction, workerId: string, session: string, info: string): Program<void> {
    if (tx.node !== undefined) yield* write(UPDATE_INFO, info, workerId, tx.node, session)
  },
  (workerId) => `store the changes of worker ${workerId}`
)

const UPDATE_BATCH = variant(
  "EngineWorkers.updateBatch",
  "UPDATE node_workers SET batch = ?, acks = ? WHERE worker = ? AND node = ? AND session = ?"
)

/**
 * Maximum length of the answers that are stored for another engine, in characters. Longer answers are computed again by the other
 * engine.
 */
const MAX_ACKS_CHARS = 64 * 1024

/** Identifies a batch of reports. `number` counts the batches of the session. */
export interface Batch {
  readonly workerId: string
  readonly session: string
  readonly number: number
}

/** Stores the answers to a batch. If the batch arrives again at another engine, that engine can repeat the answers. */
export function* noteBatch(
  tx: Transaction,
  { number, session, workerId }: Batch,
  answer: ReadonlyArray<unknown>
): Program<void> {
  if (tx.node === undefined) return
  const acks = JSON.stringify(answer)
  yield* write(UPDATE_BATCH, number, acks.length > MAX_ACKS_CHARS ? null : acks, workerId, tx.node, session)
}

const LIST_WORKERS = variant(
  "EngineWorkers.listWorkers",
  `SELECT node_workers.worker, node_workers.node, node_workers.session, node_workers.environment, node_workers.info,
      (SELECT count(*) FROM runs WHERE runs.worker = node_workers.worker AND runs.lease IS NOT NULL) AS jobs
    FROM node_workers JOIN nodes ON nodes.id = node_workers.node
    WHERE nodes.steady_since IS NOT NULL AND node_workers.info IS NOT NULL ORDER BY node_workers.worker`
)

/** A worker, and the engine that it is connected to. */
export interface WorkerOfEngine {
  readonly workerId: string
  readonly environment: string
  readonly session: string
  readonly isHere: boolean
  /** See {@link WorkerHere.info}. */
  readonly info: string
  /** How many runs the worker holds. */
  readonly jobs: number
}

/** The workers of all live engines. */
export const readWorkers = acrossEnvironments(
  "readWorkers",
  function* (tx: Transaction): Program<ReadonlyArray<WorkerOfEngine>> {
    if (tx.node === undefined) return []
    return (yield* all(LIST_WORKERS)).map((row) => ({
      workerId: String(row.worker),
      environment: String(row.environment),
      session: String(row.session),
      isHere: row.node === tx.node,
      info: String(row.info),
      jobs: Number(row.jobs)
    }))
  },
  () => "read the connected workers"
)
