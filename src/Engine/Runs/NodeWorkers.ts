/**
 * Which workers are connected to which engine, where several use the database. Leases of workers in the process of an engine have no
 * end of their own: they hold as long as their engine is there.
 */
import { ValidationError } from "../../Errors.ts"
import { acrossEnvironments, get, type Program, refuse, variant, write } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"

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

const COME = variant(
  "NodeWorkers.come",
  "INSERT INTO node_workers (worker, node) VALUES (?, ?) ON CONFLICT (worker) DO UPDATE SET node = excluded.node"
)

/** A worker is connected to this engine. One that lives in its process may not have the id of one that is connected elsewhere. */
export const workerCame = acrossEnvironments(
  "workerCame",
  function* (tx: Transaction, workerId: string, isInProcess: boolean): Program<void, ValidationError> {
    if (tx.node === undefined) return
    if (isInProcess) {
      const other = yield* get(NODE_OF, workerId, tx.node)
      if (other !== undefined) {
        return yield* refuse(
          new ValidationError(
            `A worker with id "${workerId}" is connected already, to another engine (${other.name}): ids are one worker's own`
          )
        )
      }
    }
    yield* write(COME, workerId, tx.node)
  },
  (workerId) => `connect worker ${workerId}`
)

const LEAVE = variant("NodeWorkers.leave", "DELETE FROM node_workers WHERE worker = ? AND node = ?")

/** A worker is not connected to this engine any more. */
export function* workerLeft(tx: Transaction, workerId: string): Program<void> {
  if (tx.node !== undefined) yield* write(LEAVE, workerId, tx.node)
}
