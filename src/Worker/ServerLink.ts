/** What all kinds of worker sessions share: data about the connection to a server, and small functions. */
import type * as Clock from "effect/Clock"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Connection } from "../Client/HttpConnection.ts"
import type { Answer } from "../Client/HttpExchange.ts"
import { ConnectionError, type IronflowError } from "../Errors.ts"
import type { WorkerHandlers, WorkerRegistration } from "../Protocol/Worker.ts"
import type { ResolvedPollingOptions } from "./PollingOptions.ts"
import type { Outage } from "./Outage.ts"

/** What all parts of a worker's connection to a server share. */
export interface ServerLink {
  readonly connection: Connection
  readonly options: ResolvedPollingOptions
  readonly registration: WorkerRegistration
  readonly handlers: WorkerHandlers
  readonly outage: Outage
  /** Numbers the registrations of this worker. */
  readonly nextRegistration: () => number
  readonly clock: Clock.Clock
  /** Runs an effect in the background until the session ends. */
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
}

export const isSuccess = ({ status }: Answer): boolean => status >= 200 && status < 300

/** The time of a monotonic clock, in milliseconds. */
export const monotonicMs = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** Turns any error into a `ConnectionError`, for callers that retry after any `ConnectionError`. */
export const toConnectionError = (error: IronflowError): ConnectionError =>
  error instanceof ConnectionError ? error : new ConnectionError(error.message, { cause: error })

/**
 * The environment that was configured for the worker. `undefined` when none was configured: then the worker works for
 * the environment of its API key, or for `default`.
 */
export const requestedEnvironment = ({
  environment,
  namesEnvironment
}: WorkerRegistration): string | undefined => (namesEnvironment === true ? environment : undefined)
