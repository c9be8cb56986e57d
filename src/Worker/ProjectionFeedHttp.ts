/**
 * The projections of a worker on an engine of this package, over HTTP: long polls for events, and saves
 * beside them.
 */
import * as Effect from "effect/Effect"
import type { Connection } from "../Client/HttpConnection.ts"
import type { Answer } from "../Client/HttpExchange.ts"
import {
  failureOf,
  invalidResponseError,
  isFromEngine,
  isCallMissing,
  notAnIronflowServerError,
  unsupportedError
} from "../Client/HttpFailures.ts"
import {
  type AccessError,
  type ConnectionError,
  InvalidStateError,
  type IronflowError,
  ValidationError
} from "../Errors.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import type { Logger } from "../Logger.ts"
import { type CallAddress, pathOf } from "../Protocol/Http/CallAddress.ts"
import type {
  PartitionState,
  ProjectionBatch,
  ProjectionClaim,
  ProjectionFeed,
  ProjectionLease,
  ProjectionSaved
} from "../Protocol/ProjectionOwners.ts"
import * as operations from "../Protocol/ProjectionOwners.ts"
import { isAccessError } from "./AccessErrors.ts"
import { toConnectionError, isSuccess } from "./ServerLink.ts"

/** The timeout of a request, in milliseconds. The engine answers even a long poll sooner than that. */
const TIMEOUT_MS = 25_000

/** How long a stopping worker tries to release a projection, in milliseconds. */
const RELEASE_TIMEOUT_MS = 2000

export const makeFeed = (connection: Connection, workerId: string, logger: Logger): ProjectionFeed => {
  const { url } = connection.server

  const ask = (
    address: CallAddress,
    name: string,
    body: { readonly [field: string]: unknown },
    timeoutMs = TIMEOUT_MS
  ): Effect.Effect<
    { readonly [field: string]: unknown },
    ConnectionError | ValidationError | AccessError
  > => {
    const what = `A request for projection "${name}"`
    return connection
      .send({
        method: "POST",
        path: pathOf(address, { name }),
        body: JSON.stringify(body),
        what,
        timeoutMs
      })
      .pipe(
        Effect.mapError(toConnectionError),
        Effect.flatMap((answer) => {
          if (!isSuccess(answer)) return Effect.fail(errorOf(answer, what, url))
          const read = answer.text === "" ? {} : safeJsonParse(answer.text)
          return isObject(read)
            ? Effect.succeed(read)
            : Effect.fail(
                toConnectionError(invalidResponseError(url, what, "it is not an object", answer.text))
              )
        })
      )
  }

  /** Does what `ask` does, for requests that are always valid: any error but a refused API key is transient. */
  const askValid = (
    address: CallAddress,
    lease: ProjectionLease,
    body: { readonly [field: string]: unknown } = {}
  ) =>
    Effect.mapError(
      ask(address, lease.name, { token: lease.token, generation: lease.generation, ...body }),
      (error) => (isAccessError(error) ? error : toConnectionError(error))
    )

  // the engine answers as `Protocol/ProjectionOwners.ts` says, so the answers have the types of the casts
  // below
  return {
    claim: (registration, waitMs) =>
      Effect.map(
        ask(operations.claimProjection, registration.name, { workerId, registration, waitMs }),
        (claim) => claim as unknown as ProjectionClaim
      ),
    read: (lease, limit) =>
      Effect.map(
        askValid(operations.readProjection, lease, { limit }),
        ({ batch }) => batch as ProjectionBatch | undefined
      ),
    states: (lease, partitions) =>
      Effect.map(
        askValid(operations.projectionStates, lease, { partitions }),
        ({ states }) => states as ReadonlyArray<PartitionState> | undefined
      ),
    save: (lease, save) =>
      Effect.map(
        ask(operations.saveProjection, lease.name, {
          token: lease.token,
          generation: lease.generation,
          save
        }),
        (saved) => saved as unknown as ProjectionSaved
      ),
    renew: (lease) => Effect.map(askValid(operations.renewProjection, lease), ({ held }) => held === true),
    release: (lease) =>
      Effect.catch(
        ask(
          operations.releaseProjection,
          lease.name,
          { token: lease.token, generation: lease.generation },
          RELEASE_TIMEOUT_MS
        ),
        (error) =>
          Effect.sync(() =>
            logger.debug(`${error.message}. The engine finds out by itself that the projection is free`)
          )
      ).pipe(Effect.asVoid)
  }
}

const errorOf = (
  answer: Answer,
  what: string,
  url: string
): ConnectionError | ValidationError | AccessError => {
  if (!isFromEngine(answer)) return notAnIronflowServerError(answer, what)
  if (isCallMissing(answer)) {
    return new ValidationError(unsupportedError(url, what, "Upgrade the engine", answer.status).message)
  }
  const error: IronflowError = failureOf(answer, what)
  if (isAccessError(error) || error instanceof ValidationError) return error
  if (
    error instanceof InvalidStateError ||
    (answer.status < 500 && answer.status !== 408 && answer.status !== 429)
  ) {
    return new ValidationError(error.message, { cause: error })
  }
  return toConnectionError(error)
}
