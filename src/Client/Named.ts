/**
 * Which errors a call may fail with, so that its type is true.
 *
 * Whoever answers the calls of a service ({@link Raw}) fails with any error of ours: what a server sends is known when it comes. The
 * services that users get let those through that the method names, and make a `ServerError` of any other.
 */
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import { type IronflowError, ServerError } from "../Errors.ts"
import type { ClientError } from "./Kinds.ts"

/** A service as those make it who answer its calls: each of them may fail with any `E`. */
export type Raw<S, E = IronflowError> = {
  readonly [M in keyof S]: S[M] extends (...args: infer P) => infer R ? (...args: P) => RawResult<R, E> : S[M]
}

type RawResult<R, E> =
  R extends Effect.Effect<infer A, infer _E, infer Q>
    ? Effect.Effect<A, E, Q>
    : R extends Stream.Stream<infer A, infer _E, infer Q>
      ? Stream.Stream<A, E, Q>
      : Raw<R, E>

type ErrorOf<R> =
  R extends Effect.Effect<infer _A, infer E, infer _R>
    ? E
    : R extends Stream.Stream<infer _A, infer E, infer _R>
      ? E
      : never

/** What may be known of an error by its tag. */
export type Tags<E> = { readonly [T in TagOf<E>]: true }

type TagOf<E> = E extends { readonly _tag: infer T extends string } ? T : never

/** By method: what it fails with besides what any call may fail with. */
export type Failures<Api> = {
  readonly [M in keyof Api]: Api[M] extends (...args: never) => infer R
    ? Tags<Exclude<ErrorOf<R>, ClientError>>
    : never
}

/** What any call of a client may fail with. */
export const ofClient: Tags<ClientError> = {
  ValidationError: true,
  UnauthenticatedError: true,
  UnauthorizedError: true,
  EnterpriseRequiredError: true,
  ConnectionError: true,
  TimeoutError: true,
  UnavailableError: true,
  StoreError: true,
  UnsupportedError: true,
  InvalidResponseError: true,
  ServerError: true
}

/** The error, if it is one of these; else what it says as a `ServerError`, with the error as its cause. */
export const naming =
  <E extends IronflowError>(named: Tags<E>) =>
  (error: IronflowError): E | ServerError => {
    // the tag is that of the class
    if (Object.hasOwn(named, error._tag ?? "")) return error as E
    const { code, details, message, retryable, status } = error
    return new ServerError(message, {
      code,
      retryable,
      details,
      cause: error,
      ...(status === undefined ? {} : { status })
    })
  }
