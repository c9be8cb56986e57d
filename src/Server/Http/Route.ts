/** The type of a route: the address of a call, who may make it, and how it is answered. */
import type { IncomingMessage } from "node:http"
import type { Readable } from "node:stream"
import * as Effect from "effect/Effect"
import { type IronflowError, ValidationError } from "../../Errors.ts"
import type { Access } from "../../Protocol/CallSpec.ts"
import type { CallAddress } from "../../Protocol/Http/CallAddress.ts"
import type { Caller } from "../../Engine/Access/Access.ts"
import { checked } from "../../CheckAsEffect.ts"

/** A request whose route was found. */
export interface Call {
  readonly environment: string
  /** The caller; `undefined` on public routes. */
  readonly caller: Caller | undefined
  /** Whether the caller may see the item of this name in a list. */
  readonly shows: (name: string) => boolean
  /** The body as JSON, or as bytes when the route reads bytes; `undefined` on public routes, and for GET and DELETE. */
  readonly body: unknown
  /** Variables of the path, decoded. */
  readonly variables: { readonly [name: string]: string }
  readonly query: URLSearchParams
  readonly request: IncomingMessage
}

/**
 * A response. Its body is JSON, another text or bytes with their type, or a stream. Without any of them it is
 * empty.
 */
export interface Reply {
  readonly status: number
  readonly text?: string
  readonly bytes?: Uint8Array
  readonly body?: Readable
  readonly type?: string
  readonly headers?: { readonly [name: string]: string }
  /** Values of `Set-Cookie`. */
  readonly cookies?: ReadonlyArray<string>
  /** Whether to close the connection, since it leads to an engine that does not have the worker. */
  readonly closesConnection?: boolean
}

export interface Route {
  readonly address: CallAddress
  /** What the caller must be allowed to do. */
  readonly access: Access
  /** Whether workers call the route. The body may then be as large as a report, and may be sealed. */
  readonly fromWorker: boolean
  /** The form of `Call.body`: JSON, the `Buffer` as sent, or the JSON message of a request for a stream. */
  readonly bodyForm: "json" | "bytes" | "message"
  /** Whether equal requests may share an answer: see `ResponseCache`. */
  readonly isCacheable?: boolean
  /** Whether the route is for browsers. Then it also answers HEAD. */
  readonly isPage?: true
  readonly answer: (call: Call) => Effect.Effect<Reply, IronflowError>
}

export const json = (body: unknown, status = 200): Reply => ({ status, text: JSON.stringify(body) })
export const noContent: Reply = { status: 204 }

/** The environment of the call's key, if the key is bound to one. */
export const keyEnvironment = (call: Call): string | undefined => call.caller?.key?.environment

/**
 * Throws `UnauthorizedError` when the caller lacks the permission in `actualEnvironment`, the environment of the worker or run. A
 * key for all environments was checked for the environment that the request names; but the worker or run is found by
 * its id, and may be in another environment.
 */
export const checkWorkerEnvironment = (
  { caller, environment }: Call,
  actualEnvironment: string,
  worker: string
): void => {
  if (actualEnvironment !== environment) caller?.check("worker:run", `worker:${worker}`, actualEnvironment)
}

/**
 * The environment of the reported run, if the caller's key is for all environments and the run is known. Otherwise
 * the environment of the call. Fails with the errors of {@link checkWorkerEnvironment}.
 */
export const environmentOfRun = (
  runs: {
    readonly environmentOfRun: (runId: string) => Effect.Effect<string | undefined, IronflowError>
  },
  call: Call,
  runId: string,
  worker: string
): Effect.Effect<string, IronflowError> => {
  const { caller, environment } = call
  if (caller?.key === undefined || caller.key.environment !== undefined) return Effect.succeed(environment)
  return Effect.flatMap(runs.environmentOfRun(runId), (found = environment) =>
    checked(() => {
      checkWorkerEnvironment(call, found, worker)
      return found
    })
  )
}

/** A variable of the path. The router has set all variables of the route. */
export const variable = (call: Call, name: string): string => call.variables[name] ?? ""

/** An integer in the query, at least 0; `defaultValue` when it is missing. Throws `ValidationError` for any other value. */
export const readNumber = (call: Call, name: string, defaultValue: number): number => {
  const text = call.query.get(name)
  if (text === null) return defaultValue
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new ValidationError(`\`${name}\` must be an integer, at least 0, got "${text.slice(0, 64)}"`)
}
