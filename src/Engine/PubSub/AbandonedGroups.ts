/**
 * Deletes abandoned consumer groups. A group is abandoned when it has had no members for a long time, and is neither configured
 * (created or updated by a client) nor paused.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import {
  acrossEnvironments,
  all,
  forEach,
  inEnvironment,
  type Program,
  statement,
  write
} from "../Store/Program.ts"
import type { StoreService } from "../Store/Store.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { removeGroup } from "./GroupRows.ts"

const UPDATE_USE = statement(
  "AbandonedGroups.updateUse",
  "UPDATE consumer_groups SET used_at = ? WHERE key = ? AND environment = ?"
)

/** Marks groups of an environment as in use now. */
export const touchGroups = inEnvironment(
  "touchGroups",
  function* (tx: Transaction, environment: string, groups: ReadonlyArray<number>): Program<void> {
    const environmentKey = tx.findEnvironment(environment)
    if (environmentKey === undefined) return
    for (const key of groups) yield* write(UPDATE_USE, tx.now(), key, environmentKey)
  },
  () => "note which consumer groups are in use"
)

const LIST_ABANDONED_GROUPS = statement(
  "AbandonedGroups.listAbandonedGroups",
  "SELECT key, environment FROM consumer_groups WHERE used_at < ? AND configured = 0 AND paused_at IS NULL ORDER BY used_at LIMIT ?"
)

/**
 * The groups of all environments that were abandoned `unusedMs` milliseconds ago or earlier. Returns at most `limit` groups,
 * beginning with the one that was unused for longest.
 */
function* listAbandonedGroups(tx: Transaction, unusedMs: number, limit: number): Program<ReadonlyArray<Row>> {
  return yield* all(LIST_ABANDONED_GROUPS, tx.settledNow() - unusedMs, limit)
}

/**
 * The environments with abandoned groups. This reads across environments, because the caller does not know where such groups are.
 * The caller then deletes the groups of each of these environments.
 */
const listEnvironmentsOfAbandonedGroups = acrossEnvironments(
  "listEnvironmentsOfAbandonedGroups",
  function* (tx: Transaction, unusedMs: number, limit: number): Program<ReadonlyArray<string>> {
    const rows = yield* listAbandonedGroups(tx, unusedMs, limit)
    return [...new Set(rows.map(({ environment }) => tx.environmentName(Number(environment))))]
  },
  () => "delete abandoned groups"
)

/** Deletes those abandoned groups of one environment that are among the first `limit` of all environments. Returns how many. */
const deleteAbandonedGroupsOfEnvironment = inEnvironment(
  "deleteAbandonedGroupsOfEnvironment",
  function* (tx: Transaction, environment: string, unusedMs: number, limit: number): Program<number> {
    const environmentKey = tx.findEnvironment(environment)
    const rows = (yield* listAbandonedGroups(tx, unusedMs, limit)).filter(
      (row) => row.environment === environmentKey
    )
    yield* forEach(rows, ({ key }) => removeGroup(tx, Number(key)))
    return rows.length
  },
  () => "delete abandoned groups"
)

/**
 * Deletes about `limit` of the groups that were not used for `unusedMs` milliseconds. Returns how many. Configured and paused
 * groups are kept.
 */
export const deleteAbandonedGroups = (
  store: StoreService,
  unusedMs: number,
  limit: number
): Effect.Effect<number, StoreError> =>
  Effect.flatMap(store.read(listEnvironmentsOfAbandonedGroups(unusedMs, limit)), (environments) =>
    Effect.map(
      Effect.forEach(
        environments,
        (environment) => store.write(deleteAbandonedGroupsOfEnvironment(environment, unusedMs, limit)),
        {
          concurrency: "unbounded"
        }
      ),
      (counts) => counts.reduce((sum, count) => sum + count, 0)
    )
  )
