/**
 * What the clients of a single area share. Such a client, `KVClient` for example, can be created on its own.
 */
import * as ManagedRuntime from "effect/ManagedRuntime"
import type { ServerOptions } from "../Client/HttpOptions.ts"
import type { ClientServices } from "../Client/Services.ts"
import { isIronflowError, toError, type ValidationError } from "../Errors.ts"
import { overHttp } from "./OverHttp.ts"
import { makeRuntimeHandle, type RuntimeHandle } from "./Promisify.ts"

/**
 * Where an error happened: the path of the call such as `kv.bucket.get`, the path of the request, and the
 * status if there was a response.
 */
export interface ErrorContext {
  readonly method: string
  readonly endpoint: string
  readonly statusCode?: number
}

export type OnError = (error: Error, context: ErrorContext) => void | PromiseLike<void>

/** Opens the runtime of a client. Throws `ValidationError` when the configuration is invalid. */
export const openRuntime = (
  config: ServerOptions,
  caller: string,
  what: string
): RuntimeHandle<ClientServices, ValidationError> =>
  makeRuntimeHandle(ManagedRuntime.make(overHttp(config, caller)), what)

/** Wraps the methods, so that they call `onError` with an error before they reject with it. */
export const reporting = <Api extends object>(
  api: Api,
  methods: ReadonlyArray<keyof Api & string>,
  onError: OnError | undefined,
  contextOf: (method: string, args: ReadonlyArray<unknown>) => ErrorContext
): Api => {
  if (onError === undefined) return api
  const told: Record<string, unknown> = {}
  for (const name of methods) {
    told[name] = async (...args: Array<unknown>): Promise<unknown> => {
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
          // as documented, an error in `onError` is ignored: the original one must reach the caller
        }
        throw error
      }
    }
  }
  // these are the members of `api`, with the same arguments and results
  return told as Api
}
