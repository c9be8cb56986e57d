/** Adds to jobs the secrets that their functions ask for. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import type { Job, TurnOp } from "../../Protocol/Worker.ts"
import type { FunctionsService } from "../Functions/Functions.ts"
import type { SecretsService } from "../Secrets/Secrets.ts"
import type { StoreService } from "../Store/Store.ts"
import { RETRY_MS } from "../Store/StoreOutage.ts"
import * as Reports from "../Turns/Reports.ts"

export class JobSecrets {
  readonly #store: StoreService
  readonly #functions: FunctionsService
  readonly #secrets: SecretsService

  constructor(store: StoreService, functions: FunctionsService, secrets: SecretsService) {
    this.#store = store
    this.#functions = functions
    this.#secrets = secrets
  }

  areNeededBy({ environment, functionId }: Job): boolean {
    return this.#namesOf(environment, functionId).length > 0
  }

  /**
   * Returns the job with its secrets, or `undefined` when the worker does not get the job. A run whose secrets cannot be decrypted is
   * then paused. A run that the worker may no longer have (`mayRun` is `false`) is given back, and so is one whose secrets cannot be
   * read for the moment.
   */
  addTo(job: Job, mayRun: boolean): Effect.Effect<Job | undefined, StoreError> {
    if (!mayRun) return this.#end(job, { _tag: "Release" })
    const names = this.#namesOf(job.environment, job.functionId)
    if (names.length === 0) return Effect.succeed(job)
    return Effect.matchEffect(this.#secrets.open(job.environment, names), {
      onSuccess: (secrets) => Effect.succeed({ ...job, secrets }),
      onFailure: (error) =>
        error.retryable
          ? Effect.andThen(
              Effect.logWarning(
                `The secrets of run ${job.runId} cannot be read: ${error.message}. The run waits, and is tried again every second`
              ),
              Effect.andThen(Effect.sleep(RETRY_MS), this.#end(job, { _tag: "Release" }))
            )
          : this.#end(job, { _tag: "Pause", code: error.code, message: error.message })
    })
  }

  #namesOf(environment: string, functionId: string): ReadonlyArray<string> {
    return this.#functions.find(environment, functionId)?.secrets ?? []
  }

  #end({ environment, jobId, runId }: Job, op: TurnOp): Effect.Effect<undefined, StoreError> {
    return Effect.as(Reports.applyReports(this.#store, environment, [{ jobId, runId, ops: [op] }]), undefined)
  }
}
