/**
 * Checks for misspelled members of requests, which would silently have no effect. Other programs send members of
 * later or other servers, so only members that resemble a known one are refused, as clients refuse options.
 */
import { ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import { isOfLater, nearest } from "../../OptionKeys.ts"
import { membersOf, type Node, otherCase } from "../../Protocol/Codec.ts"
import { endpoints as eventEndpoints } from "../../Protocol/Events.ts"
import { endpoints as functionEndpoints } from "../../Protocol/Functions.ts"
import { endpoints as runEndpoints } from "../../Protocol/Runs.ts"
import type { EndpointSpec } from "../../Protocol/EndpointSpec.ts"
import { show } from "../../Show.ts"

interface Names {
  /** The names as the route defines them. */
  readonly all: ReadonlyArray<string>
  /** In any letter case, and under alternative names. */
  readonly known: ReadonlySet<string>
}

const inEitherCase = (names: ReadonlyArray<string>): ReadonlySet<string> =>
  new Set(names.flatMap((name) => [name, otherCase(name) ?? name]))

const namesOf = (codec: Node): Names => {
  const entries = Object.entries(membersOf(codec)).map(([name, field]) => [
    field.wireName ?? name,
    ...(field.legacyNames ?? [])
  ])
  return { all: entries.map(([name]) => name!), known: inEitherCase(entries.flat()) }
}

/** Throws `ValidationError` for a member of the body that the codec does not have. */
export const checkBodyMembers = (codec: Node, body: unknown, what: string): void => {
  if (!isObject(body)) return
  const { all, known } = namesOf(codec)
  const other = Object.keys(body).find((name) => !known.has(name))
  if (other === undefined) return
  const meant = nearest(other, all)
  throw new ValidationError(
    `${what} has no member ${show(other)}${meant === undefined ? "." : `: did you mean ${show(meant)}?`} Use ${all.join(", ")}`
  )
}

const bodies = new WeakMap<EndpointSpec, Names>()
const queries = new WeakMap<EndpointSpec, Names>()

/** Exceptions: lists of events check all of their members, and workers of any version register what they have. */
const exemptRoutes = new Set<EndpointSpec>([eventEndpoints.listEvents, functionEndpoints.registerFunction])

/** Throws `ValidationError` for a member of the body that resembles a known one. */
export const checkBodySpelling = (endpoint: EndpointSpec, body: unknown, what: string): void => {
  if (
    endpoint.body === undefined ||
    endpoint.fromWorker === true ||
    exemptRoutes.has(endpoint) ||
    !isObject(body)
  )
    return
  let names = bodies.get(endpoint)
  if (names === undefined) bodies.set(endpoint, (names = namesOf(endpoint.body)))
  if (names.all.length > 0) checkSpelling(Object.keys(body), names, what)
}

/** Does the same for the query. Lists of runs check all of their members. */
export const checkQuerySpelling = (endpoint: EndpointSpec, query: URLSearchParams): void => {
  if (endpoint === runEndpoints.restRuns) return
  let names = queries.get(endpoint)
  if (names === undefined) {
    const all = [...(endpoint.query ?? []), ...(endpoint.page === undefined ? [] : ["limit", "cursor"])]
    // for sockets, where browsers cannot set headers
    queries.set(endpoint, (names = { all, known: inEitherCase([...all, "env", "token"]) }))
  }
  if (names.all.length > 0) checkSpelling([...query.keys()], names, `${endpoint.method} ${endpoint.path}`)
}

const checkSpelling = (names: ReadonlyArray<string>, { all, known }: Names, what: string): void => {
  for (const name of names) {
    if (known.has(name) || isOfLater(name)) continue
    const meant = nearest(name, all)
    if (meant === undefined) continue
    throw new ValidationError(`${what} has no member ${show(name)}: did you mean ${show(meant)}?`)
  }
}
