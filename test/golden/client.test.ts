/**
 * What the client sends for each of its methods, and how it understands the answers of an engine and of other servers.
 * Recorded in `client.json`.
 */
import { createClient, IronflowError } from "@ironflow/node"
import { afterAll, assert, describe, it } from "vitest"
import { type Answer, RecordingServer, type Request } from "./RecordingServer.ts"
import { areas } from "./ClientCalls.ts"
import { Rig } from "./Rig.ts"
import { type Entry, Names, readable, Transcript } from "./Transcript.ts"
import { otherCase } from "./Variants.ts"

const sections = Object.entries(areas).flatMap(([area, { methods }]) =>
  methods.map((method) => `${area}.${method}`)
)
const transcript = new Transcript("client", sections)
afterAll(() => transcript.finish())

/** The most requests of one call that get the same answer. */
const ENOUGH = 8

const json = (status: number, body: unknown): Answer => ({
  status,
  type: "application/json",
  text: JSON.stringify(body)
})

/** Answers of engines of other versions, of legacy servers, and of proxies in between. */
const odd: Readonly<Record<string, Answer>> = {
  "200 {}": json(200, {}),
  "200 null": json(200, null),
  "200 without a body": { status: 200, text: "" },
  "200 HTML": { status: 200, type: "text/html", text: "<html></html>" },
  "204": { status: 204, text: "" },
  "400 in REST": json(400, { error: "bad", message: "bad input", code: "VALIDATION_ERROR" }),
  "400 in ConnectRPC": json(400, { code: "invalid_argument", message: "bad input" }),
  "401": json(401, { error: "no key" }),
  "402": json(402, { error: "needs a licence", feature: "audit" }),
  "403": json(403, { code: "permission_denied", message: "not you" }),
  "404 in REST": json(404, { error: "not found" }),
  "404 in REST, with a code": json(404, { error: "no such thing", code: "NOT_FOUND" }),
  "404 in ConnectRPC": json(404, { code: "not_found", message: "no such thing" }),
  "404 of no call": { status: 404, type: "text/plain", text: "404 page not found" },
  "404 unimplemented": json(404, { code: "unimplemented", message: "no such method" }),
  "405": { status: 405, text: "" },
  "409": json(409, { error: "conflict" }),
  "412": json(412, { error: "revision mismatch: expected 1, actual 2" }),
  "429": json(429, { error: "too many" }),
  "500 in REST": json(500, { error: "broken" }),
  "500 in ConnectRPC": json(500, { code: "internal", message: "broken" }),
  "501": json(501, { code: "unimplemented", message: "not here" }),
  "502 of a proxy": { status: 502, type: "text/html", text: "<html>Bad gateway</html>" },
  "503": json(503, { code: "unavailable", message: "busy" }),
  "504": json(504, { error: "too late" })
}

const inOtherCase = (answered: Answer = json(200, {})): Answer =>
  answered.text === ""
    ? answered
    : {
        ...answered,
        text: JSON.stringify(otherCase(JSON.parse(answered.text), ["data", "state", "output", "input"]))
      }

const requestEntry = (request: Request, names: Names): Entry => ({
  request: names.in(`${request.method} ${request.path}`),
  headers: JSON.parse(names.in(JSON.stringify(request.headers))),
  ...(request.body.length === 0
    ? {}
    : {
        body: request.body.some((byte) => byte === 0)
          ? `bytes: ${request.body.toString("hex")}`
          : readable(names.in(request.body.toString()))
      })
})

const readableValue = (value: unknown): unknown =>
  value === undefined
    ? "undefined"
    : value instanceof Uint8Array
      ? `bytes: ${Buffer.from(value).toString("hex")}`
      : value

const errorEntry = (error: unknown): Entry => {
  if (!(error instanceof IronflowError)) return { error: String(error) }
  const {
    code,
    details,
    message,
    name,
    retryable,
    stack: _,
    status,
    ...more
  } = error as IronflowError & { stack?: string }
  return {
    error: name,
    class: error.constructor.name === name ? undefined : error.constructor.name,
    code,
    status,
    retryable,
    message,
    details,
    more: Object.keys(more).length === 0 ? undefined : { ...more, cause: undefined }
  }
}

it("every method of the client is called", () => {
  for (const { calls, methods } of Object.values(areas)) assert.sameMembers(Object.keys(calls), [...methods])
})

describe.each(Object.entries(areas))("%s", (area, { calls, noun }) => {
  it.each(Object.entries(calls))("%s sends and understands what is recorded", async (method, call) => {
    await using rig = await Rig.start()
    await using server = await RecordingServer.start()
    const given = (await noun.setUp?.(rig)) ?? {}
    const names = new Names()
    names.in(Object.values(given).join(" "))
    const isKeyed = rig.key !== ""
    await using client = createClient({
      serverUrl: server.url,
      environment: "default",
      ...(isKeyed ? { apiKey: rig.key } : {}),
      retry: { maxAttempts: 2, initialDelayMs: 0, connectionDelayMs: 0 }
    })
    const outcome = async (known: Names): Promise<Entry> => {
      const entry = await call(client, given).then(
        (result): Entry => ({ result: readableValue(result) }),
        (error: unknown) => errorEntry(error)
      )
      return JSON.parse(known.in(JSON.stringify(entry)))
    }

    const requests: Array<Request> = []
    const answers: Array<Answer> = []
    server.answer = async (it) => {
      requests.push(it)
      const { headers, path, method, body } = it
      const { "content-type": type } = headers
      const {
        status,
        text,
        headers: sent
      } = await rig.send({
        method,
        path,
        headers,
        body: body.length === 0 && type === undefined ? undefined : body
      })
      const answer = { status, text, type: sent.find(([name]) => name === "content-type")?.[1] }
      answers.push(answer)
      return answer
    }
    const ordinary = await outcome(names)
    const entries: Array<Entry> = [{ requests: requests.map((it) => requestEntry(it, names)), ...ordinary }]

    const seen = new Map([[JSON.stringify(ordinary), "ordinary"]])
    const understand = async (title: string, answer: (i: number) => Answer) => {
      let requests = 0
      server.answer = () => (requests < ENOUGH ? answer(requests++) : json(500, { error: "enough" }))
      const entry = await outcome(new Names(names))
      const text = JSON.stringify(entry)
      const like = seen.get(text)
      if (like === undefined) seen.set(text, title)
      entries.push({ answer: title, requests, ...(like === undefined ? entry : { like }) })
    }
    await understand("the same in the other case of letters", (i) =>
      inOtherCase(answers[i] ?? answers.at(-1))
    )
    for (const [title, answer] of Object.entries(odd)) await understand(title, () => answer)
    transcript.check(`${area}.${method}`, entries)
  })
})
