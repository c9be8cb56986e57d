/**
 * Members of requests that are not known: whoever sends them thinks that they do something. Other programs send what later or other
 * servers know, so that only what looks like a member that is known is refused, as the clients refuse options.
 */
import { ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import { isOfLater, nearest } from "../../OptionKeys.ts"
import { membersOf, type Node, otherCase } from "../../Protocol/Codec.ts"
import { rows as eventRows } from "../../Protocol/Events.ts"
import { rows as functionRows } from "../../Protocol/Functions.ts"
import { rows as runRows } from "../../Protocol/Runs.ts"
import type { Row } from "../../Protocol/Row.ts"
import { show } from "../../Show.ts"

interface Names {
  /** As they are asked for. */
  readonly all: ReadonlyArray<string>
  /** In either case of letters, and under other names. */
  readonly known: ReadonlySet<string>
}

const inEitherCase = (names: ReadonlyArray<string>): ReadonlySet<string> =>
  new Set(names.flatMap((name) => [name, otherCase(name) ?? name]))

const namesOf = (codec: Node): Names => {
  const entries = Object.entries(membersOf(codec)).map(([name, field]) => [
    field.as ?? name,
    ...(field.also ?? [])
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

const bodies = new WeakMap<Row, Names>()
const queries = new WeakMap<Row, Names>()

/** Lists of events look at all of their members, and workers register what they have, of whatever version they are. */
const taken = new Set<Row>([eventRows.listEvents, functionRows.registerFunction])

/** Throws `ValidationError` for a member of the body that looks like another one. */
export const checkBodySpelling = (row: Row, body: unknown, what: string): void => {
  if (row.body === undefined || row.fromWorker === true || taken.has(row) || !isObject(body)) return
  let names = bodies.get(row)
  if (names === undefined) bodies.set(row, (names = namesOf(row.body)))
  if (names.all.length > 0) checkSpelling(Object.keys(body), names, what)
}

/** The same of the query. Lists of runs look at all of theirs. */
export const checkQuerySpelling = (row: Row, query: URLSearchParams): void => {
  if (row === runRows.restRuns) return
  let names = queries.get(row)
  if (names === undefined) {
    const all = [...(row.query ?? []), ...(row.page === undefined ? [] : ["limit", "cursor"])]
    // of sockets, which browsers cannot give headers
    queries.set(row, (names = { all, known: inEitherCase([...all, "env", "token"]) }))
  }
  if (names.all.length > 0) checkSpelling([...query.keys()], names, `${row.method} ${row.path}`)
}

const checkSpelling = (names: ReadonlyArray<string>, { all, known }: Names, what: string): void => {
  for (const name of names) {
    if (known.has(name) || isOfLater(name)) continue
    const meant = nearest(name, all)
    if (meant === undefined) continue
    throw new ValidationError(`${what} has no member ${show(name)}: did you mean ${show(meant)}?`)
  }
}
