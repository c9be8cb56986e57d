/**
 * Limits the errors of a call to those that its type declares.
 *
 * The implementation of a service ({@link Raw}) may fail with any error of this package, since the server
 * decides what it sends. The services that users get pass on the errors that a method declares, and convert all
 * others to `ServerError`.
 */
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import { type IronflowError, ServerError } from "../Errors.ts"
import type { ClientError } from "./ApiKinds.ts"

/** An implementation of a service: each call may fail with any `E`. */
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

/** The tags of a union of errors. */
export type Tags<E> = { readonly [T in TagOf<E>]: true }

type TagOf<E> = E extends { readonly _tag: infer T extends string } ? T : never

/** The names of the methods, and the tags of each method's own errors. */
export type Failures<Api> = {
  readonly [M in keyof Api]: Api[M] extends (...args: never) => infer R
    ? Tags<Exclude<ErrorOf<R>, ClientError>>
    : never
}

/** The tags of the errors of any call. */
export const clientErrorTags: Tags<ClientError> = {
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

/**
 * Makes the function that lets an error pass if its tag is in the table. Any other error becomes a
 * `ServerError` with the same message, and with the original error as its cause.
 */
export const narrowErrors =
  <E extends IronflowError>(declaredTags: Tags<E>) =>
  (error: IronflowError): E | ServerError => {
    // the tag tells the class of the error, and `E` has all classes whose tags are in the table
    if (Object.hasOwn(declaredTags, error._tag ?? "")) return error as E
    const { code, details, message, retryable, status } = error
    return new ServerError(message, {
      code,
      retryable,
      details,
      cause: error,
      ...(status === undefined ? {} : { status })
    })
  }
