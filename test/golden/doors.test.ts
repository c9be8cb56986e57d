/**
 * The answers to keys without the right, recorded in `keys.json`, and to wrong paths and methods, recorded in `doors.json`.
 */
import doors from "./doors.json" with { type: "json" }
import { afterAll, describe, it } from "vitest"
import { actions } from "../../src/Policy.ts"
import { type CallName, callSpecs, sockets } from "../../src/Protocol/AllCalls.ts"
import { descriptions } from "../../src/Protocol/Server.ts"
import { callsFor } from "../security/Calls.ts"
import { answerOf, ok, requestOf, sentOf } from "./Noun.ts"
import { Rig, type Sent } from "./Rig.ts"
import { type Entry, Names, Transcript } from "./Transcript.ts"

const BOOTSTRAP = "bootstrap-key-of-the-operator-0123456789"
const id = (kind: string) => `${kind}_${"0".repeat(25)}`
const calls = callsFor({
  run: id("run"),
  event: id("evt"),
  key: id("key"),
  org: id("org"),
  role: id("role"),
  policy: id("policy")
})
/** The recorded answers. The tests keep their order, because an answer may refer to an earlier one. */
const recorded: ReadonlyArray<{ readonly case: string }> = doors["another method"]
const placeOf = (name: string): number => {
  const place = recorded.findIndex((entry) => entry.case === name)
  return place === -1 ? recorded.length : place
}
const names = (Object.keys(callSpecs) as Array<CallName>).sort((one, other) => placeOf(one) - placeOf(other))

const exchange = async (rig: Rig, title: string, sent: Sent, known = new Names()): Promise<Entry> => ({
  case: title,
  ...requestOf(sent, known),
  answer: answerOf(await rig.send(sent), known)
})

describe("the calls", () => {
  const transcript = new Transcript("keys", [
    "without a key",
    "a wrong key",
    "a key that may do everything else",
    "a key that is denied this",
    "invalid keys"
  ])
  afterAll(() => transcript.finish())

  const keyThat = async (rig: Rig, ...policies: ReadonlyArray<object>): Promise<string> => {
    const { id: role } = await ok(rig, "POST", "/api/v1/roles", { name: "role" })
    for (const policy of policies) {
      const body = { name: "policy", effect: "allow", resources: "*", ...policy }
      const { id } = await ok(rig, "POST", "/api/v1/policies", body)
      await ok(rig, "POST", `/api/v1/roles/${role}/policies`, { policy_id: id })
    }
    return (await ok(rig, "POST", "/api/v1/apikeys", { name: "test", role_ids: [role] })).key
  }
  const bearer = (key: string): Record<string, string> => ({ authorization: `Bearer ${key}` })

  const everyCall = async (
    rig: Rig,
    headersFor: (action: string, resource: string) => Promise<Record<string, string>>
  ): Promise<ReadonlyArray<Entry>> => {
    const entries: Array<Entry> = []
    const seen = new Map<string, string>()
    for (const name of names) {
      const { may, ...call } = calls[name]
      if (may === "public") continue
      const known = new Names()
      const sent = sentOf(name, { ...call, headers: await headersFor(...may) })
      const answer = answerOf(await rig.send(sent), known)
      const text = JSON.stringify(answer)
      const like = seen.get(text)
      if (like === undefined) seen.set(text, name)
      entries.push({ case: name, ...(like === undefined ? { answer } : { answeredLike: like }) })
    }
    return entries
  }

  it("answer as recorded without a key", async () => {
    await using rig = await Rig.start(BOOTSTRAP)
    transcript.check("without a key", await everyCall(rig, () => Promise.resolve({})))
  })

  it("answer as recorded to a wrong key", async () => {
    await using rig = await Rig.start(BOOTSTRAP)
    transcript.check("a wrong key", await everyCall(rig, () => Promise.resolve(bearer("ifk_wrong"))))
  })

  it("answer as recorded to keys with every right but the needed one", async () => {
    await using rig = await Rig.start(BOOTSTRAP)
    const made = new Map<string, string>()
    rig.key = BOOTSTRAP
    for (const action of actions) {
      made.set(action, await keyThat(rig, { actions: actions.filter((one) => one !== action).join(", ") }))
    }
    const entries = await everyCall(rig, (action) => Promise.resolve(bearer(made.get(action) ?? "")))
    transcript.check("a key that may do everything else", entries)
  })

  it("answer as recorded to keys that are denied the action", async () => {
    await using rig = await Rig.start(BOOTSTRAP)
    const made = new Map<string, string>()
    rig.key = BOOTSTRAP
    const entries = await everyCall(rig, async (action, resource) => {
      const what = `${action} ${resource}`
      const key =
        made.get(what) ??
        (await keyThat(rig, { actions: "*" }, { effect: "deny", actions: action, resources: resource }))
      made.set(what, key)
      return bearer(key)
    })
    transcript.check("a key that is denied this", entries)
  })

  it("answer as recorded to invalid keys", async () => {
    await using rig = await Rig.start(BOOTSTRAP)
    const list = (headers: Record<string, string>): Sent => ({ method: "GET", path: "/api/v1/runs", headers })
    const entries: Array<Entry> = []
    for (const [title, headers] of Object.entries({
      "no scheme": { authorization: BOOTSTRAP },
      "another scheme": { authorization: `Basic ${BOOTSTRAP}` },
      "the scheme in small letters": { authorization: `bearer ${BOOTSTRAP}` },
      "an empty key": { authorization: "Bearer " },
      "the operator": bearer(BOOTSTRAP),
      "the operator elsewhere": { ...bearer(BOOTSTRAP), "x-ironflow-environment": "staging" },
      "another header": { "x-api-key": BOOTSTRAP }
    })) {
      entries.push(await exchange(rig, title, list(headers)))
    }
    transcript.check("invalid keys", entries)
  })
})

describe("the port", () => {
  const transcript = new Transcript("doors", [
    "another method",
    "no such path",
    "browsers",
    "descriptions",
    "sockets"
  ])
  afterAll(() => transcript.finish())

  const checkAll = async (section: string, requests: Readonly<Record<string, Sent>>): Promise<void> => {
    await using rig = await Rig.start()
    const entries: Array<Entry> = []
    for (const [title, sent] of Object.entries(requests)) entries.push(await exchange(rig, title, sent))
    transcript.check(section, entries)
  }

  it("answers as recorded to another method", async () => {
    const requests: Record<string, Sent> = {}
    for (const name of names) {
      const { may: _, ...call } = calls[name]
      const { path } = sentOf(name, call)
      const known = new Set(
        names
          .filter((other) => callSpecs[other].path === callSpecs[name].path)
          .map((other) => callSpecs[other].method as string)
      )
      const method = ["GET", "PUT", "DELETE"].find((method) => !known.has(method)) ?? "PATCH"
      requests[name] = { method, path }
    }
    await checkAll("another method", requests)
  })

  it("answers as recorded to a path that does not exist", () =>
    checkAll("no such path", {
      root: { method: "GET", path: "/" },
      nothing: { method: "GET", path: "/api/v1/nothing" },
      "another version": { method: "GET", path: "/api/v2/runs" },
      "a slash at the end": { method: "GET", path: "/api/v1/runs/" },
      "no method of a service": { method: "POST", path: "/ironflow.v1.IronflowService/Nothing", body: {} },
      "no service": { method: "POST", path: "/ironflow.v1.NothingService/GetRun", body: {} },
      "an invalid stream": {
        method: "POST",
        path: "/ironflow.v1.ProjectionService/StreamProjectionEvents",
        body: {}
      },
      "letters of another case": { method: "POST", path: "/ironflow.v1.ironflowservice/getrun", body: {} },
      "a path that is not encoded properly": { method: "GET", path: "/api/v1/runs/%E0%A4%A/steps" },
      "a body with GET": { method: "GET", path: "/api/v1/runs", body: { a: 1 } },
      "a head": { method: "HEAD", path: "/health" },
      options: { method: "OPTIONS", path: "/api/v1/runs" }
    }))

  it("answers as recorded to browsers", () => {
    const origin = "https://app.example.com"
    return checkAll("browsers", {
      "a page of elsewhere": { method: "GET", path: "/api/v1/runs", headers: { origin } },
      "a page of elsewhere that asks first": {
        method: "OPTIONS",
        path: "/api/v1/runs",
        headers: { origin, "access-control-request-method": "GET" }
      },
      "a page of its own": {
        method: "GET",
        path: "/api/v1/runs",
        headers: { host: "localhost:1", origin: "http://localhost:1", "sec-fetch-site": "same-origin" }
      },
      "somebody who looks": {
        method: "GET",
        path: "/health",
        headers: { "user-agent": "Mozilla/5.0", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" }
      },
      "another name of the host": {
        method: "GET",
        path: "/api/v1/runs",
        headers: { host: "evil.example.com", "sec-fetch-site": "none", "user-agent": "Mozilla/5.0" }
      }
    })
  })

  it("describes itself as recorded", async () => {
    await using rig = await Rig.start()
    const entries: Array<Entry> = []
    for (const [name, { method, path }] of Object.entries(descriptions)) {
      const got = await rig.send({ method, path })
      const { body: _, ...answer } = answerOf(got, new Names())
      // the text of a document is not recorded, since it is a file of the sources; nor are numbers of metrics, which
      // differ
      const lines =
        name === "metrics" ? got.text.split("\n").filter((line) => line.startsWith("#")) : undefined
      entries.push({ case: name, request: `${method} ${path}`, answer, lines })
    }
    transcript.check("descriptions", entries)
  })

  it("answers as recorded to requests for sockets that are no upgrades", () => {
    const requests: Record<string, Sent> = {}
    for (const [name, { path }] of Object.entries(sockets)) {
      const at = path.replace(/:\w+/, "prices")
      requests[name] = { method: "GET", path: at }
      requests[`${name}, posted`] = { method: "POST", path: at, body: {} }
    }
    return checkAll("sockets", requests)
  })
})
