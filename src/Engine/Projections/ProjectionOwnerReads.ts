/** Reads what the owner of a projection gets: the next events of the log, and the states to which they are applied. */
import type { PartitionState } from "../../Protocol/ProjectionOwners.ts"
import { endOfLog } from "../Log/EndOfLog.ts"
import { readLog, toEntry } from "../Log/LogRows.ts"
import { all, forEach, inEnvironment, type Program, statement } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { findOwnedProjection } from "./ProjectionOwnerRows.ts"
import type { ProjectionPage, ProjectionToken } from "../Records/ProjectionRecords.ts"
import { eventsOf } from "./ProjectionRows.ts"
import { findState } from "./ProjectionStateReads.ts"

/** Maximum number of dead letters that are delivered at once for a retry. */
const MAX_RETRIED = 100

const LIST_RETRIED_EVENTS = statement(
  "ProjectionOwnerReads.listRetriedEvents",
  "SELECT e.* FROM dead_letters d JOIN events e ON e.position = d.position AND e.environment = ? WHERE d.projection = ? AND d.retrying = 1 ORDER BY d.position LIMIT ?"
)

/** The next events after the position `after`, or dead letters to retry. Reads about `limit` rows of the log. */
export const readProjectionPage = inEnvironment(
  "readProjectionPage",
  function* (tx: Transaction, token: ProjectionToken, after: number, limit: number): Program<ProjectionPage> {
    const row = yield* findOwnedProjection(tx, token)
    if (row === undefined) return { _tag: "Lost" }
    if (row.paused_at !== null) return { _tag: "Paused" }
    const retries = yield* all(LIST_RETRIED_EVENTS, row.environment!, row.key!, MAX_RETRIED)
    if (retries.length > 0) return { _tag: "Retries", events: retries.map(toEntry) }
    const page = yield* readLog.in(tx, {
      environment: token.environment,
      kind: "event",
      after: Math.max(after, Number(row.position)),
      patterns: eventsOf(row),
      limit
    })
    return {
      _tag: "Events",
      events: page.entries,
      // when no event is left, the position is the end of the log
      position: page.atEnd ? Math.max(page.position, yield* endOfLog()) : page.position,
      saved: Number(row.position),
      isRebuilding: row.rebuild_to !== null,
      atEnd: page.atEnd
    }
  },
  (token) => `read events for projection "${token.name}"`
)

/** The states of these partitions; `undefined` when the claim is gone. */
export const readPartitions = inEnvironment(
  "readPartitions",
  function* (
    tx: Transaction,
    token: ProjectionToken,
    partitions: ReadonlyArray<string>
  ): Program<ReadonlyArray<PartitionState> | undefined> {
    const row = yield* findOwnedProjection(tx, token)
    if (row === undefined) return undefined
    return yield* forEach(partitions, function* (partition) {
      const state = yield* findState(row, partition)
      return state === undefined
        ? { partition, position: 0 }
        : { partition, state: String(state.state), position: Number(state.position) }
    })
  },
  (token) => `read the state of projection "${token.name}"`
)
