/** An API is written once and read twice, as Effects and as Promises: what both readings have in common. */
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

/** The Effect reading of an API: failures are in the type. */
export interface EffectKind extends HKT.TypeLambda {
  /** The reading of a call that gives `Target` and fails with `Out1`. */
  readonly type: Effect.Effect<this["Target"], this["Out1"]>
}

/** The Promise reading of an API: failures reject with the same error instances. */
export interface PromiseKind extends HKT.TypeLambda {
  /** The reading of a call that gives `Target`. */
  readonly type: Promise<this["Target"]>
}

/** A result of type `A` that may fail with `E`, in the reading `F`. */
export type Kind<F extends HKT.TypeLambda, A, E> = HKT.Kind<F, never, never, E, A>

/** The server does not do this for this key: it wants another one, or none that it knows, or a licence. */
export type CallRefusedError = UnauthenticatedError | UnauthorizedError | EnterpriseRequiredError

/** The server cannot be asked now, or takes too long. What has this error may be asked again, and may have been done. */
export type UnreachableError = ConnectionError | TimeoutError | UnavailableError

/**
 * What the server answers is about itself: its database cannot be read or written (`StoreError`), it cannot do what was asked
 * (`UnsupportedError`), it is no Ironflow server (`InvalidResponseError`), or it has failed or says something that this version does
 * not know (`ServerError`).
 */
export type AnswerError = StoreError | UnsupportedError | InvalidResponseError | ServerError

/**
 * What may go wrong in any call, besides what the call itself names. `ValidationError` is what the call was given: an argument, or an
 * option that there is not.
 */
export type ClientError = ValidationError | CallRefusedError | UnreachableError | AnswerError

/** Options of every call on the Promise face. An Effect has none: interrupting it ends the call. */
export interface CallOptions {
  /** Aborts the call; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal
}

/** The last arguments of a call without options of its own. */
export type CallArgs<F extends HKT.TypeLambda> = F extends PromiseKind ? [options?: CallOptions] : []

/** Options of a call: its own, and on the Promise face those of every call. */
export type Options<F extends HKT.TypeLambda, Own> = F extends PromiseKind ? Own & CallOptions : Own
