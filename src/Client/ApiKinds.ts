/**
 * Each API of the client is declared once, for two kinds: its methods return Effects or Promises. Here are the
 * types that such declarations use.
 */
import type * as Effect from "effect/Effect"
import type * as HKT from "effect/HKT"
import type {
  ConnectionError,
  EnterpriseRequiredError,
  InvalidResponseError,
  ServerError,
  StoreError,
  TimeoutError,
  UnauthenticatedError,
  UnauthorizedError,
  UnavailableError,
  UnsupportedError,
  ValidationError
} from "../Errors.ts"

/** The Effect kind of an API: methods return Effects with typed errors. */
export interface EffectKind extends HKT.TypeLambda {
  /** The result of a call: an Effect that succeeds with `Target` and fails with `Out1`. */
  readonly type: Effect.Effect<this["Target"], this["Out1"]>
}

/** The Promise kind of an API: methods return promises that reject with the same error instances. */
export interface PromiseKind extends HKT.TypeLambda {
  /** The result of a call: a promise that resolves to `Target`. */
  readonly type: Promise<this["Target"]>
}

/** The result of a call in an API of kind `F`: a value of type `A`, or the error `E`. */
export type Kind<F extends HKT.TypeLambda, A, E> = HKT.Kind<F, never, never, E, A>

/** The server refuses the call: the key is missing, unknown or not allowed to do this, or a licence is required. */
export type CallRefusedError = UnauthenticatedError | UnauthorizedError | EnterpriseRequiredError

/**
 * The server cannot be reached, or takes too long. The same call may succeed later, but may also have taken
 * effect already.
 */
export type UnreachableError = ConnectionError | TimeoutError | UnavailableError

/**
 * Errors of the server itself: its database cannot be read or written (`StoreError`), it lacks the feature (`UnsupportedError`),
 * it is not an Ironflow server (`InvalidResponseError`), or it failed or returned an unknown error (`ServerError`).
 */
export type AnswerError = StoreError | UnsupportedError | InvalidResponseError | ServerError

/**
 * Errors of any call, in addition to those of the method. `ValidationError` is about the arguments: an invalid value, or an
 * unknown option.
 */
export type ClientError = ValidationError | CallRefusedError | UnreachableError | AnswerError

/** Options of every call of the Promise API. The Effect API has none: interrupting an Effect cancels the call. */
export interface CallOptions {
  /** Aborts the call; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal
}

/** The last parameters of a call that has no other options. */
export type CallArgs<F extends HKT.TypeLambda> = F extends PromiseKind ? [options?: CallOptions] : []

/** Options of a call: those of its method (`Own`), and in the Promise API also `CallOptions`. */
export type Options<F extends HKT.TypeLambda, Own> = F extends PromiseKind ? Own & CallOptions : Own
