/** The routes: which request gets which response. */
import type { IncomingMessage } from "node:http"
import type { Readable } from "node:stream"
import * as Effect from "effect/Effect"
import { type IronflowError, ValidationError } from "../../Errors.ts"
import type { Access } from "../../Protocol/Row.ts"
import type { Endpoint } from "../../Protocol/Http/Endpoints.ts"
import type { Caller } from "../../Engine/Access/Access.ts"
import { checked } from "../../Checked.ts"

/** A request whose route was found. */
export interface Call {
  readonly environment: string
  /** The caller; `undefined` for public routes. */
  readonly caller: Caller | undefined
  /** Whether the caller may see the item of this name in a list. */
  readonly shows: (name: string) => boolean
  /** The body as JSON, or as bytes when the route reads bytes; `undefined` for methods without one. */
  readonly body: unknown
  /** Variables of the path, decoded. */
  readonly variables: { readonly [name: string]: string }
  readonly query: URLSearchParams
  readonly request: IncomingMessage
}

/** A response: JSON, another string or bytes with their type, or a streamed body; empty without any of them. */
export interface Reply {
  readonly status: number
  readonly text?: string
  readonly bytes?: Uint8Array
  readonly body?: Readable
  readonly type?: string
  readonly headers?: { readonly [name: string]: string }
  /** Values of `Set-Cookie`. */
  readonly cookies?: ReadonlyArray<string>
  /** The connection that it goes over leads to the wrong engine. */
  readonly isMisled?: boolean
}

export interface Route {
  readonly endpoint: Endpoint
  /** What the caller must be allowed to do. */
  readonly access: Access
  /** Whether workers call it: the body may then be as large as a report, and sealed. */
  readonly fromWorker: boolean
  /** The form of `Call.body`: JSON, the `Buffer` as sent, or the JSON message of a request for a stream. */
  readonly reads: "json" | "bytes" | "message"
  /** Whether equal requests may share an answer; see `SharedAnswers`. */
  readonly isRead?: boolean
  /** Whether it is for browsers: HEAD is answered too. */
  readonly isPage?: true
  readonly answer: (call: Call) => Effect.Effect<Reply, IronflowError>
}

export const json = (body: unknown, status = 200): Reply => ({ status, text: JSON.stringify(body) })
export const noContent: Reply = { status: 204 }

/** The environment of the call's key, if the key is bound to one. */
export const boundTo = (call: Call): string | undefined => call.caller?.key?.environment

/**
 * Throws `UnauthorizedError` when the call concerns an environment in which the caller lacks the permission. The access check
 * has checked a key for all environments against the one that the call names, but workers and runs are identified by
 * ids alone.
 */
export const checkIn = ({ caller, environment }: Call, other: string, worker: string): void => {
  if (other !== environment) caller?.check("worker:run", `worker:${worker}`, other)
}

/**
 * The environment of the reported run, when policies depend on it; for an unknown run the environment of the call.
 * Fails with what {@link checkIn} throws.
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
      checkIn(call, found, worker)
      return found
    })
  )
}

/** A variable of the path, which the router has set. */
export const variable = (call: Call, name: string): string => call.variables[name] ?? ""

/** A number of the query that is not negative. Throws `ValidationError`. */
export const readNumber = (call: Call, name: string, orElse: number): number => {
  const text = call.query.get(name)
  if (text === null) return orElse
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new ValidationError(`\`${name}\` must be a number that is not negative, got "${text.slice(0, 64)}"`)
}

export interface Found {
  readonly route: Route
  readonly variables: { readonly [name: string]: string }
}

interface Pattern {
  readonly route: Route
  readonly segments: ReadonlyArray<string>
}

const noVariables = {}

/**
 * Finds the route of a request. Paths without variables are looked up. Other paths are compared, in order, with the
 * routes of the same method and collection (`runs` of `/api/v1/runs/:id`).
 */
export class Routes {
  readonly #fixed = new Map<string, Found>()
  readonly #patterns = new Map<string, Array<Pattern>>()
  /** Routes that match everything below a first segment, such as `/console/:path*`. */
  readonly #folders: Array<Pattern> = []

  constructor(routes: ReadonlyArray<Route>) {
    for (const route of routes) {
      const { method, path } = route.endpoint
      if (!path.includes(":")) {
        this.#fixed.set(`${method} ${path}`, { route, variables: noVariables })
        continue
      }
      const segments = path.split("/")
      if (segments.length === 3) {
        this.#folders.push({ route, segments })
        continue
      }
      const place = placeOf(method, segments)
      const patterns = this.#patterns.get(place)
      if (patterns === undefined) this.#patterns.set(place, [{ route, segments }])
      else patterns.push({ route, segments })
    }
  }

  /** `undefined` without a route. Throws `ValidationError` when the path is not encoded properly. */
  find(method: string, path: string): Found | undefined {
    const fixed = this.#fixed.get(`${method} ${path}`)
    if (fixed !== undefined) return fixed
    const segments = path.split("/")
    for (const pattern of this.#patterns.get(placeOf(method, segments)) ?? []) {
      const variables = matchPath(pattern.segments, segments)
      if (variables !== undefined) return { route: pattern.route, variables }
    }
    for (const { route, segments: pattern } of this.#folders) {
      if (segments[1] !== pattern[1] || method !== route.endpoint.method) continue
      const variables = matchPath(pattern, segments)
      if (variables !== undefined) return { route, variables }
    }
    // HEAD is allowed for files and pages
    return method === "HEAD" ? this.#page(path) : undefined
  }

  #page(path: string): Found | undefined {
    const found = this.find("GET", path)
    return found?.route.isPage === true ? found : undefined
  }
}

const placeOf = (method: string, segments: ReadonlyArray<string>): string => `${method} ${segments[3]}`

/**
 * The variables of a path that matches the pattern, both split at slashes. A last variable with a star matches all
 * remaining segments. Throws `ValidationError` for bad encoding.
 */
export const matchPath = (
  pattern: ReadonlyArray<string>,
  segments: ReadonlyArray<string>
): { [name: string]: string } | undefined => {
  const last = pattern.length - 1
  if (pattern[last]?.endsWith("*") === true && segments.length > pattern.length) {
    return matchPath(pattern, [...segments.slice(0, last), segments.slice(last).join("/")])
  }
  if (pattern.length !== segments.length) return undefined
  for (let i = 0; i < pattern.length; i++) {
    if (!pattern[i]!.startsWith(":") && pattern[i] !== segments[i]) return undefined
  }
  const variables: { [name: string]: string } = {}
  for (let i = 0; i < pattern.length; i++) {
    if (pattern[i]!.startsWith(":")) variables[pattern[i]!.replace(/^:|\*$/g, "")] = decode(segments[i]!)
  }
  return variables
}

const decode = (segment: string): string => {
  try {
    return decodeURIComponent(segment)
  } catch (cause) {
    throw new ValidationError(`"${segment.slice(0, 64)}" in the path is not properly percent-encoded`, {
      cause
    })
  }
}
