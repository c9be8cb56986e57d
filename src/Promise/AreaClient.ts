/**
 * What the clients of a single area share: `KVClient`, `KVBucketHandle` and `ConfigClient`. A program can create
 * them without an `IronflowClient`.
 */
import * as ManagedRuntime from "effect/ManagedRuntime"
import type { ServerOptions } from "../Client/HttpOptions.ts"
import type { ClientServices } from "../Client/Services.ts"
import { isIronflowError, toError, type ValidationError } from "../Errors.ts"
import { remoteServices } from "./RemoteServices.ts"
import { makeRuntimeHandle, type RuntimeHandle } from "./Promisify.ts"

/** Where an error happened. */
export interface ErrorContext {
  /** The name of the method, such as `kv.bucket.get`. */
  readonly method: string
  /** The path of the request. */
  readonly endpoint: string
  /** The HTTP status; absent when there was no response. */
  readonly statusCode?: number
}

export type OnError = (error: Error, context: ErrorContext) => void | PromiseLike<void>

/** Opens the runtime of a client. Throws `ValidationError` when the configuration is invalid. */
export const openRuntime = (
  config: ServerOptions,
  caller: string,
  apiName: string
): RuntimeHandle<ClientServices, ValidationError> =>
  makeRuntimeHandle(ManagedRuntime.make(remoteServices(config, caller)), apiName)

/** Wraps the methods: when a method fails, it calls `onError` with the error, and then rejects with the error. */
export const withErrorCallback = <Api extends object>(
  api: Api,
  methods: ReadonlyArray<keyof Api & string>,
  onError: OnError | undefined,
  contextOf: (method: string, args: ReadonlyArray<unknown>) => ErrorContext
): Api => {
  if (onError === undefined) return api
  const wrapped: Record<string, unknown> = {}
  for (const name of methods) {
    wrapped[name] = async (...args: Array<unknown>): Promise<unknown> => {
      try {
        // every name in `methods` is a method that returns a promise
        return await (api[name] as (...args: Array<unknown>) => Promise<unknown>)(...args)
      } catch (error) {
        const status = isIronflowError(error) ? error.status : undefined
        try {
          await onError(
            toError(error),
            status === undefined ? contextOf(name, args) : { ...contextOf(name, args), statusCode: status }
          )
        } catch {
          // as documented, an error in `onError` is ignored: the original error must reach the caller
        }
        throw error
      }
    }
  }
  // these are the members of `api`, with the same arguments and results
  return wrapped as Api
}
