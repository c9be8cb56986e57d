/** Sends the requests of one call to its own engine, and keeps the exchanges. */
import { pathOf } from "../../src/Protocol/Http/CallAddress.ts"
import { type CallName, callSpecs } from "../../src/Protocol/AllCalls.ts"
import { type Got, Rig, type Sent } from "./Rig.ts"
import { type Entry, Names, readable } from "./Transcript.ts"
import { type Call, type Variation, variantsOf } from "./Variants.ts"

/** Ids and names of existing data. */
export type Given = Readonly<Record<string, string>>

export interface Spec extends Variation {
  /** Makes new data for each request. */
  readonly fresh?: (rig: Rig, given: Given, n: number) => Promise<Given>
  /** A valid request that uses every field. */
  readonly call: (given: Given) => Call
  readonly more?: Readonly<Record<string, (given: Given) => Call>>
  /** Where limit and cursor go; set when the call has pages. */
  readonly pages?: "query" | "body"
}

export interface Noun {
  /** Makes the data that exists before the first request. */
  readonly setUp?: (rig: Rig) => Promise<Given>
  readonly calls: { readonly [Name in CallName]?: Spec }
}

/** Sends a request; fails when it is refused. */
export const ok = async (
  rig: Rig,
  method: string,
  path: string,
  body?: unknown,
  headers?: Record<string, string>
) => {
  const { status, text } = await rig.send({ method, path, body, headers })
  if (status >= 300) throw new Error(`${method} ${path} was answered with ${status} ${text}`)
  // oxlint-disable-next-line typescript/no-explicit-any -- the tests check what the engine answers
  return (text === "" ? undefined : JSON.parse(text)) as any
}

export const rpc = (rig: Rig, method: string, body: object = {}, service = "IronflowService") =>
  ok(rig, "POST", `/ironflow.v1.${service}/${method}`, body)

export const sentOf = (name: CallName, { body, headers, query, variables, waitsMs }: Call): Sent => ({
  method: callSpecs[name].method,
  path: pathOf(callSpecs[name], variables) + (query === undefined ? "" : `?${query}`),
  headers,
  body,
  waitsMs
})

/** The recorded part of an answer. */
export const answerOf = ({ headers, status, text }: Got, names: Names): Entry => {
  const type = headers.find(([name]) => name === "content-type")?.[1]
  const others = headers.filter(([name]) => name !== "content-type" && name !== "x-ironflow-channel")
  return {
    status,
    ...(type === undefined ? {} : { type }),
    // recorded only where it is missing: every answer except those over HTTP/2 has this header
    ...(headers.some(([name]) => name === "x-ironflow-channel") ? {} : { channel: "not offered" }),
    ...(others.length === 0
      ? {}
      : { headers: Object.fromEntries(others.map(([name, value]) => [name, names.in(value)])) }),
    ...(text === "" ? {} : { body: readable(names.in(text)) })
  }
}

const shownBody = (body: unknown, names: Names): unknown =>
  typeof body === "string" ? readable(names.in(body)) : JSON.parse(names.in(JSON.stringify(body)))

export const requestOf = ({ body, headers, method, path }: Sent, names: Names): Entry => ({
  request: names.in(`${method} ${path}`),
  ...(headers === undefined ? {} : { headers: JSON.parse(names.in(JSON.stringify(headers))) }),
  ...(body === undefined ? {} : { body: shownBody(body, names) })
})

/** All exchanges of a call. An answer that equals an earlier one only refers to it. */
export const exchangesOf = async (name: CallName, noun: Noun): Promise<ReadonlyArray<Entry>> => {
  const spec = noun.calls[name]!
  await using rig = await Rig.start()
  const given = (await noun.setUp?.(rig)) ?? {}
  const known = new Names()
  known.in(Object.values(given).join(" "))
  await rig.pass(250)

  const entries: Array<Entry> = []
  const answers = new Map<string, string>()
  let n = 0
  const ask = async (title: string, make: (given: Given) => Call, isShown: boolean) => {
    const now = { ...given, ...(await spec.fresh?.(rig, given, ++n)) }
    const names = new Names(known)
    names.in(Object.values(now).join(" "))
    const sent = sentOf(name, make(now))
    const request = requestOf(sent, names)
    const got = await rig.send(sent).catch((cause: unknown) => {
      throw new Error(`${title}: ${String(cause)}`, { cause })
    })
    const answer = answerOf(got, names)
    const text = JSON.stringify(answer)
    const like = answers.get(text)
    if (like === undefined) answers.set(text, title)
    entries.push({
      case: title,
      ...(isShown ? request : {}),
      ...(like === undefined ? { answer } : { answeredLike: like })
    })
    return got
  }

  await ask("ordinary", spec.call, true)
  for (const { change, title } of variantsOf(
    spec.call({ ...given, ...(await spec.fresh?.(rig, given, ++n)) }),
    spec
  )) {
    await ask(title, (given) => change(spec.call(given)), false)
  }
  for (const [title, make] of Object.entries(spec.more ?? {})) await ask(title, make, true)
  if (spec.pages !== undefined) {
    const page = (values: Readonly<Record<string, string | number>>) => (given: Given) => {
      const call = spec.call(given)
      if (spec.pages === "body") return { ...call, body: { ...(call.body as object), ...values } }
      const query = new URLSearchParams(call.query)
      for (const [name, value] of Object.entries(values)) query.set(name, String(value))
      return { ...call, query: String(query) }
    }
    const { text } = await ask("a page", page({ limit: 1 }), true)
    const cursor: unknown = JSON.parse(text).nextCursor
    if (typeof cursor === "string") await ask("the next page", page({ limit: 1, cursor }), true)
    for (const [title, values] of Object.entries(badPages)) await ask(title, page(values), true)
  }
  return entries
}

const badPages: Readonly<Record<string, Readonly<Record<string, string | number>>>> = {
  "a limit of 0": { limit: 0 },
  "a negative limit": { limit: -1 },
  "a limit that is no number": { limit: "many" },
  "a large limit": { limit: 100_000 },
  "a limit of no length": { limit: "" },
  "an invalid cursor": { limit: 1, cursor: "no-cursor!" },
  "a cursor without a limit": { cursor: "b" },
  "a cursor that is long": { limit: 1, cursor: "c".repeat(1025) }
}
