/**
 * Finds misspelled members of requests, which would silently have no effect. Other programs may send members
 * that only later versions or other servers know. So an unknown member is refused only if it resembles a known one.
 */
import { ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import { isLaterOption, nearest } from "../../OptionKeys.ts"
import { membersOf, type Node, otherCase } from "../../Protocol/Codec.ts"
import { callSpecs as eventSpecs } from "../../Protocol/Events.ts"
import { callSpecs as functionSpecs } from "../../Protocol/Functions.ts"
import { callSpecs as runSpecs } from "../../Protocol/Runs.ts"
import type { CallSpec } from "../../Protocol/CallSpec.ts"
import { show } from "../../Show.ts"

interface Names {
  /** The names as the route defines them. */
  readonly declared: ReadonlyArray<string>
  /** The names in camel case and in snake case, and alternative names. */
  readonly accepted: ReadonlySet<string>
}

const inEitherCase = (names: ReadonlyArray<string>): ReadonlySet<string> =>
  new Set(names.flatMap((name) => [name, otherCase(name) ?? name]))

const namesOf = (codec: Node): Names => {
  const entries = Object.entries(membersOf(codec)).map(([name, field]) => [
    field.wireName ?? name,
    ...(field.legacyNames ?? [])
  ])
  return { declared: entries.map(([name]) => name!), accepted: inEitherCase(entries.flat()) }
}

/** Throws `ValidationError` when the body has a member that the codec does not have. */
export const checkBodyMembers = (codec: Node, body: unknown, what: string): void => {
  if (!isObject(body)) return
  const { declared, accepted } = namesOf(codec)
  const unknownName = Object.keys(body).find((name) => !accepted.has(name))
  if (unknownName === undefined) return
  const suggestion = nearest(unknownName, declared)
  throw new ValidationError(
    `${what} has no member ${show(unknownName)}${suggestion === undefined ? "." : `: did you mean ${show(suggestion)}?`} Use ${declared.join(", ")}`
  )
}

const bodyNames = new WeakMap<CallSpec, Names>()
const queryNames = new WeakMap<CallSpec, Names>()

/**
 * Routes whose bodies are not checked here: lists of events check all members, and workers of any version
 * register what they have.
 */
const exemptRoutes = new Set<CallSpec>([eventSpecs.listEvents, functionSpecs.registerFunction])

/** Throws `ValidationError` when a member of the body is unknown and resembles a known one. */
export const checkBodySpelling = (spec: CallSpec, body: unknown, what: string): void => {
  if (spec.body === undefined || spec.fromWorker === true || exemptRoutes.has(spec) || !isObject(body)) return
  let names = bodyNames.get(spec)
  if (names === undefined) bodyNames.set(spec, (names = namesOf(spec.body)))
  if (names.declared.length > 0) checkSpelling(Object.keys(body), names, `${what} has no member`)
}

/**
 * Throws `ValidationError` when a parameter of the query is unknown and resembles a known one. Lists of runs check all
 * parameters themselves.
 */
export const checkQuerySpelling = (spec: CallSpec, query: URLSearchParams): void => {
  if (spec === runSpecs.restRuns) return
  let names = queryNames.get(spec)
  if (names === undefined) {
    const declared = [...(spec.query ?? []), ...(spec.page === undefined ? [] : ["limit", "cursor"])]
    // `env` and `token` are for WebSockets, for which browsers cannot set headers
    queryNames.set(spec, (names = { declared, accepted: inEitherCase([...declared, "env", "token"]) }))
  }
  if (names.declared.length > 0)
    checkSpelling([...query.keys()], names, `${spec.method} ${spec.path} has no query parameter`)
}

/** `problem` is the message up to the misspelled name. */
const checkSpelling = (
  names: ReadonlyArray<string>,
  { declared, accepted }: Names,
  problem: string
): void => {
  for (const name of names) {
    if (accepted.has(name) || isLaterOption(name)) continue
    const suggestion = nearest(name, declared)
    if (suggestion === undefined) continue
    throw new ValidationError(`${problem} ${show(name)}: did you mean ${show(suggestion)}?`)
  }
}
