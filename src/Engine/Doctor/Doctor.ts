/**
 * Checks an engine, its database and its runs for problems. The checks change nothing. They cost an engine little, because their
 * work is limited: see `Limits.ts`.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Explanation } from "../../Client/Client.ts"
import type { StoreError } from "../../Errors.ts"
import type { DoctorCheck } from "../../Protocol/Server.ts"
import { Access } from "../Access/Access.ts"
import { yieldToEventLoop } from "../Yielding.ts"
import { explain, type LiveWorker } from "../Runs/Explain.ts"
import { LiveWorkers } from "../Runs/LiveWorkers.ts"
import { getSituation } from "../Runs/RunInspection.ts"
import { countStuckRuns } from "../Runs/Stuck.ts"
import { Secrets } from "../Secrets/Secrets.ts"
import { Store, type StoreService, timeOf } from "../Store/Store.ts"
import { type NamedRun, readCondition } from "./Condition.ts"
import { checkDisk, checkLeftovers, checkPermissions } from "./FileChecks.ts"
import {
  checkClockSkew,
  checkBackups,
  checkDeadLetters,
  checkApiKeys,
  checkNodeVersion,
  checkOperations,
  checkRuns,
  checkSecrets,
  checkStoredTime,
  fail,
  ok
} from "./Checks.ts"

/** A store that the checks can read: that of a running engine, or a database that was opened for reading only. */
export type Readable = Pick<StoreService, "clock" | "readApart">

/**
 * Explains for each run why it waits or does not go on. A run that no longer exists is left out. For a run that cannot be read, the
 * explanation has the code `DAMAGED`.
 */
export const explainRuns = (
  store: Readable,
  runs: ReadonlyArray<NamedRun>,
  workersOf: (environment: string) => ReadonlyArray<LiveWorker>
): Effect.Effect<ReadonlyArray<Explanation>> =>
  Effect.gen(function* () {
    const explained: Array<Explanation> = []
    for (const { environment, runId } of runs) {
      const now = yield* timeOf(store)
      const explanation = yield* Effect.match(store.readApart(getSituation(environment, runId)), {
        onSuccess: (situation) => explain(situation, workersOf(environment), now),
        onFailure: (error): Explanation | undefined =>
          error.code === "RUN_NOT_FOUND"
            ? undefined
            : {
                runId,
                status: "running",
                code: "DAMAGED",
                message: `It cannot be read: ${error.message}`,
                details: {}
              }
      })
      if (explanation !== undefined) explained.push(explanation)
      yield* yieldToEventLoop
    }
    return explained
  })

/** The checks of a running engine. Fails when the database cannot be read. */
export const make: Effect.Effect<
  Effect.Effect<ReadonlyArray<DoctorCheck>, StoreError>,
  never,
  Store | Access | Secrets | LiveWorkers
> = Effect.gen(function* () {
  const store = yield* Store
  const access = yield* Access
  const secrets = yield* Secrets
  const workers = yield* LiveWorkers
  const { filename } = store
  return Effect.gen(function* () {
    const health = store.health()
    const condition = yield* store.readApart(readCondition())
    const explained = yield* explainRuns(store, condition.runsToExplain, (environment) =>
      workers.workers(environment)
    )
    const stuck = yield* countStuckRuns(store, (id) => workers.findHolder(id))
    const now = yield* Clock.currentTimeMillis
    return [
      checkNodeVersion(),
      health.status === "ok"
        ? ok("database", "It can be read and written, and nothing in it was found damaged since the start.")
        : fail(
            "database",
            `${health.message}.`,
            "Look at the log of the engine; if something is damaged, restore a backup."
          ),
      ...(filename === undefined
        ? []
        : [checkPermissions(filename), checkDisk(filename), checkLeftovers(filename)]),
      condition.databaseNow === undefined
        ? checkStoredTime(now, condition.storedAt)
        : checkClockSkew(now, condition.databaseNow, "Postgres"),
      checkApiKeys(access.needsKey ? Math.max(1, condition.apiKeys) : 0),
      checkSecrets(condition, secrets.hasMasterKey, "engine"),
      checkRuns(condition, explained, { hasEngine: true, stuck }),
      checkDeadLetters(condition),
      checkOperations(condition, condition.databaseNow ?? now, true),
      ...(store.backup === undefined || filename === undefined ? [] : [checkBackups(condition, now)])
    ]
  })
})
