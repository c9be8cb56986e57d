/** Finds the route of a request by its method and path. */
import { ValidationError } from "../../Errors.ts"
import type { Route } from "./Route.ts"

export interface RouteMatch {
  readonly route: Route
  readonly variables: { readonly [name: string]: string }
}

interface Pattern {
  readonly route: Route
  readonly segments: ReadonlyArray<string>
}

const noVariables = {}

/** How many segments `/console/:path*` has: an empty one, the folder, and the rest. */
const FOLDER_SEGMENTS = 3

/**
 * Finds the route of a request. A path without variables is looked up. Any other path is compared, in order,
 * with the routes of the same method and collection (`runs` of `/api/v1/runs/:id`).
 */
export class Routes {
  readonly #byPath = new Map<string, RouteMatch>()
  readonly #byCollection = new Map<string, Array<Pattern>>()
  /** Routes that match everything below a first segment, such as `/console/:path*`. */
  readonly #folders: Array<Pattern> = []

  constructor(routes: ReadonlyArray<Route>) {
    for (const route of routes) {
      const { method, path } = route.address
      if (!path.includes(":")) {
        this.#byPath.set(`${method} ${path}`, { route, variables: noVariables })
        continue
      }
      const segments = path.split("/")
      if (segments.length === FOLDER_SEGMENTS) {
        this.#folders.push({ route, segments })
        continue
      }
      const key = collectionKeyOf(method, segments)
      const patterns = this.#byCollection.get(key)
      if (patterns === undefined) this.#byCollection.set(key, [{ route, segments }])
      else patterns.push({ route, segments })
    }
  }

  /**
   * Returns the route of a request, or `undefined`. Throws `ValidationError` when the path is not encoded
   * properly.
   */
  find(method: string, path: string): RouteMatch | undefined {
    const match = this.#byPath.get(`${method} ${path}`)
    if (match !== undefined) return match
    const segments = path.split("/")
    for (const pattern of this.#byCollection.get(collectionKeyOf(method, segments)) ?? []) {
      const variables = matchPath(pattern.segments, segments)
      if (variables !== undefined) return { route: pattern.route, variables }
    }
    for (const { route, segments: pattern } of this.#folders) {
      if (segments[1] !== pattern[1] || method !== route.address.method) continue
      const variables = matchPath(pattern, segments)
      if (variables !== undefined) return { route, variables }
    }
    // files and pages also answer HEAD
    return method === "HEAD" ? this.#findPage(path) : undefined
  }

  #findPage(path: string): RouteMatch | undefined {
    const match = this.find("GET", path)
    return match?.route.isPage === true ? match : undefined
  }
}

/**
 * The key of the routes with the same method and collection. The collection is the fourth segment, as in
 * `/api/v1/runs`, since the first segment is empty.
 */
const collectionKeyOf = (method: string, segments: ReadonlyArray<string>): string =>
  `${method} ${segments[3]}`

/**
 * The variables of a path that matches the pattern; both are split at slashes. `undefined` when it does not
 * match. A last variable with a star matches all remaining segments. Throws `ValidationError` when a segment
 * is not encoded properly.
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
    const name = pattern[i]!
    if (name.startsWith(":")) {
      variables[name.endsWith("*") ? name.slice(1, -1) : name.slice(1)] = decode(segments[i]!)
    }
  }
  return variables
}

const decode = (segment: string): string => {
  if (!segment.includes("%")) return segment
  try {
    return decodeURIComponent(segment)
  } catch (cause) {
    throw new ValidationError(`"${segment.slice(0, 64)}" in the path is not properly percent-encoded`, {
      cause
    })
  }
}
