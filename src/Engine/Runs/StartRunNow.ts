/** Starts a run on request, without an event. */
import type { Run } from "../../Client/Client.ts"
import { FunctionNotFoundError, RunNotFoundError } from "../../Errors.ts"
import type { JsonText } from "../../Json.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { registryOf } from "../Functions/Registry.ts"
import { endOfLog } from "../Log/EndOfLog.ts"
import { fingerprint, recall, remember } from "../Log/Idempotency.ts"
import { attempt, inEnvironment, type Program, refuse } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { invocationView } from "./RunEvent.ts"
import { createRun, getRun } from "./RunRows.ts"

interface StartOptions {
  readonly data?: JsonText
  readonly idempotencyKey?: string
}

/**
 * Starts a run of the function. If the idempotency key has started a run before, returns that run, with `isNew: false`.
 */
export const startRunNow = inEnvironment(
  "startRunNow",
  function* (
    tx: Transaction,
    environmentName: string,
    functionId: string,
    { data, idempotencyKey }: StartOptions
  ): Program<{ readonly run: Run; readonly isNew: boolean }, FunctionNotFoundError | RunNotFoundError> {
    const fn = registryOf(tx).get(environmentName, functionId)
    if (fn === undefined || fn.deleted === true) return yield* refuse(new FunctionNotFoundError(functionId))
    const environment = tx.environment(environmentName)
    const scope = `run ${functionId}`
    const digest = fingerprint([], [{ name: functionId, data: data ?? "null" }])
    if (idempotencyKey !== undefined) {
      const earlier = yield* recall<{ readonly runId: string }>(
        tx,
        environment,
        scope,
        idempotencyKey,
        digest
      )
      // if the earlier run was deleted since, a new run is started
      const run =
        earlier === undefined
          ? undefined
          : yield* attempt(getRun.in(tx, environmentName, earlier.result.runId))
      if (earlier !== undefined && run !== undefined && !(run instanceof RunNotFoundError)) {
        if (earlier.conflicting) {
          tx.changes.warnings.push(
            `Idempotency key "${idempotencyKey}" was used before to run function "${functionId}" with other data: no run was started, and the run of the first use, ${run.id}, is returned`
          )
        }
        return { run, isNew: false }
      }
    }
    const id = tx.ids.run()
    const input = data ?? defaultData(fn.registration, tx.now())
    yield* createRun(tx, {
      environment,
      fn,
      event: yield* endOfLog(),
      view: invocationView(id, input, tx.now()),
      id,
      data: input
    })
    if (idempotencyKey !== undefined)
      yield* remember(tx, environment, scope, idempotencyKey, digest, { runId: id })
    return { run: yield* getRun.in(tx, environmentName, id), isNew: true }
  },
  (_, functionId) => `start a run of function "${functionId}"`
)

/**
 * The data for a run that is started without data: the data of a fire of the function's first schedule, or `null` for a function
 * without a schedule.
 */
const defaultData = ({ triggers }: FunctionRegistration, now: number): JsonText => {
  const schedule = triggers.find(({ cron }) => cron !== undefined)
  return schedule === undefined
    ? "null"
    : JSON.stringify({
        cron: schedule.cron,
        timezone: schedule.timezone ?? "UTC",
        scheduledAt: new Date(now).toISOString()
      })
}
