/** The port for browsers: the files of the console, and the session of a key. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import http from "node:http"
import { once } from "node:events"
import path from "node:path"
import { createClient } from "@ironflow/node"
import { afterEach, assert, describe, it } from "vitest"
import WebSocket from "ws"
import { builtPackage } from "../Built.ts"
import { BOOTSTRAP } from "../security/Keys.ts"
import { type Ironflow, start, type StartOptions } from "../wire/Ironflow.ts"

const folder = path.join(builtPackage(), "dist/console")
const servers: Array<Ironflow> = []
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close()
})

const serve = async (options: StartOptions = {}): Promise<Ironflow> => {
  const server = await start({ consoleFolder: folder, ...options })
  servers.push(server)
  return server
}

type Headers = Record<string, string>

interface Sent {
  readonly method?: string
  readonly headers?: Headers
  readonly body?: string
}

/** Sends a request exactly as written: `fetch` would not send a path with dots, or the headers of a browser. */
const send = async ({ port }: Ironflow, where: string, { body, headers = {}, method = "GET" }: Sent = {}) => {
  const request = http.request({ host: "127.0.0.1", port, path: where, method, headers })
  request.end(body)
  const [response] = (await once(request, "response")) as [http.IncomingMessage]
  const chunks: Array<Buffer> = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    text: Buffer.concat(chunks).toString()
  }
}

const html = { accept: "text/html,application/xhtml+xml" }
const browser = { "user-agent": "Mozilla/5.0", "sec-fetch-site": "same-origin" }

describe("the files of the console", () => {
  it("are its page under every path, and the assets of that page", async () => {
    const server = await serve()

    const page = await send(server, "/console/")
    assert.strictEqual(page.status, 200)
    assert.strictEqual(page.headers["content-type"], "text/html; charset=utf-8")
    assert.include(page.text, '<base href="/console/">')
    assert.strictEqual((await send(server, "/console/runs/run_1")).text, page.text)

    const [, script = ""] = /src="([^"]+\.js)"/.exec(page.text) ?? []
    const file = await send(server, `/console/${script}`)
    assert.strictEqual(file.headers["content-type"], "text/javascript; charset=utf-8")
    assert.include(file.headers["cache-control"], "immutable")
    const small = await send(server, `/console/${script}`, { headers: { "accept-encoding": "gzip, br" } })
    assert.strictEqual(small.headers["content-encoding"], "gzip")
    assert.strictEqual((await send(server, `/console/other${script}`)).status, 404)
  })

  it("have no inline script, and no other origin", async () => {
    const server = await serve()

    const { headers, text } = await send(server, "/console/")

    assert.notMatch(text, /<script(?![^>]* src=)|<style|style=|https?:/)
    const policy = String(headers["content-security-policy"])
    assert.include(policy, "default-src 'none'")
    assert.include(policy, "frame-ancestors 'none'")
    assert.notMatch(policy, /unsafe|\*|https?:/)
    assert.strictEqual(headers["x-content-type-options"], "nosniff")
  })

  it("are cached, and can be requested by HEAD", async () => {
    const server = await serve()
    const { headers } = await send(server, "/console/")

    const again = await send(server, "/console/", { headers: { "if-none-match": String(headers.etag) } })
    assert.deepStrictEqual([again.status, again.text], [304, ""])
    assert.strictEqual((await send(server, "/console/", { headers: { "if-none-match": '"x"' } })).status, 200)
    const head = await send(server, "/console/", { method: "HEAD" })
    assert.deepStrictEqual([head.status, head.text], [200, ""])
    assert.strictEqual(head.headers.etag, headers.etag)
    // calls of the API still do not accept HEAD
    assert.strictEqual((await send(server, "/api/v1/functions", { method: "HEAD" })).status, 404)
  })

  it.each([
    "/console/../package.json",
    "/console/..%2f..%2fpackage.json",
    "/console/%2e%2e/%2e%2e/etc/passwd",
    "/console/..\\..\\package.json",
    "//console/../../package.json"
  ])("never come from outside the folder: %s", async (where) => {
    const server = await serve()

    const { status, text } = await send(server, where)

    assert.notInclude(text, "@ironflow/node")
    assert.notInclude(text, "root:")
    assert.include([200, 404], status)
  })

  it("are where browsers are redirected, but not programs", async () => {
    const server = await serve()

    const sent = await send(server, "/", { headers: html })
    assert.deepStrictEqual([sent.status, sent.headers.location], [302, "/console/"])
    assert.strictEqual((await send(server, "/console", { headers: html })).headers.location, "/console/")
    assert.strictEqual((await send(server, "/")).status, 404)
  })

  it("know their path behind a proxy", async () => {
    const server = await serve({ console: { base: "/ironflow/" } })

    assert.include((await send(server, "/console/")).text, '<base href="/ironflow/console/">')
    assert.strictEqual((await send(server, "/", { headers: html })).headers.location, "/ironflow/console/")
    const problem = await start({ console: { base: 'x"><script>' } }).catch(String)
    assert.include(String(problem), "must be the path under which a proxy serves the engine")
  })

  it("are not served when the console is turned off", async () => {
    const server = await serve({ console: false })

    for (const where of ["/", "/console/", "/console/session"]) {
      assert.strictEqual((await send(server, where, { headers: html })).status, 404, where)
    }
  })

  it("say how to build them when they are not built", async () => {
    const server = await serve({ consoleFolder: path.join(folder, "nowhere") })

    const { status, text } = await send(server, "/console/runs")

    assert.strictEqual(status, 503)
    assert.include(text, "npm run console")
  })
})

describe("the session of a browser", () => {
  const bearer = { authorization: `Bearer ${BOOTSTRAP}` }

  /** A server that requires keys, and the cookie of a session. */
  const signedIn = async (options: StartOptions = {}) => {
    const server = await serve({ bootstrapKey: BOOTSTRAP, ...options })
    const answer = await send(server, "/console/session", {
      method: "POST",
      headers: { ...browser, ...bearer }
    })
    const [set = ""] = answer.headers["set-cookie"] ?? []
    return { server, answer, set, cookie: set.split(";")[0] ?? "" }
  }
  const list = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" }
  const listRuns = (server: Ironflow, headers: Headers) =>
    send(server, "/ironflow.v1.IronflowService/ListRuns", {
      ...list,
      headers: { ...list.headers, ...headers }
    })

  it("stands for the key of the sign-in", async () => {
    const { answer, cookie, server, set } = await signedIn()

    assert.match(set, /^ironflow_[\da-f]{32}=[\w-]+; Max-Age=43200; Path=\/; HttpOnly; SameSite=Strict$/)
    assert.notInclude(set, BOOTSTRAP)
    assert.notInclude(Buffer.from(cookie.split("=")[1] ?? "", "base64url").toString("latin1"), BOOTSTRAP)
    const said = JSON.parse(answer.text)
    assert.include(said, { keysRequired: true })
    assert.match(said.expiresAt, /^\d{4}-/)
    assert.strictEqual((await listRuns(server, { ...browser, cookie })).status, 200)
    assert.strictEqual(
      (await send(server, "/console/session", { headers: { ...browser, cookie } })).status,
      200
    )
    assert.strictEqual((await send(server, "/console/session", { headers: browser })).status, 401)
    // HEAD tells whether there is a session
    const head = (headers: Headers) => send(server, "/console/session", { method: "HEAD", headers })
    assert.deepInclude(await head({ ...browser, cookie }), { status: 200, text: "" })
    assert.strictEqual((await head(browser)).status, 401)
  })

  it("can be used by pages of this engine only", async () => {
    const { cookie, server } = await signedIn({ corsOrigins: ["https://app.example.com"] })
    const own = `http://127.0.0.1:${server.port}`
    const cases: ReadonlyArray<readonly [string, Headers, number]> = [
      ["its own page", { origin: own, "sec-fetch-site": "same-origin" }, 200],
      ["its own page, in a browser that sends fewer headers", { origin: own }, 200],
      ["a caller without an origin", {}, 403],
      [
        "a page on another port, which also sends the cookie",
        { origin: "http://127.0.0.1:3000", "sec-fetch-site": "same-site" },
        403
      ],
      [
        "a page that may use the API with a key",
        { origin: "https://app.example.com", "sec-fetch-site": "cross-site" },
        403
      ],
      ["a page of another site", { origin: "https://evil.example.com", "sec-fetch-site": "cross-site" }, 403],
      ["a page without an origin", { origin: "null", "sec-fetch-site": "cross-site" }, 403],
      [
        "another name of this machine",
        { host: "evil.example.com", origin: "http://evil.example.com", "sec-fetch-site": "same-origin" },
        403
      ]
    ]
    for (const [who, headers, status] of cases) {
      const answer = await listRuns(server, { "user-agent": "Mozilla/5.0", cookie, ...headers })
      assert.strictEqual(answer.status, status, who)
    }
    // a request that only reads may come without headers, like an address that a user has typed, but not with wrong ones
    const reads: ReadonlyArray<readonly [Headers, number]> = [
      [{}, 200],
      [{ "sec-fetch-site": "none" }, 200],
      [{ "sec-fetch-site": "same-origin" }, 200],
      [{ "sec-fetch-site": "same-site" }, 403],
      [{ "sec-fetch-site": "cross-site" }, 403],
      [{ origin: "http://127.0.0.1:3000" }, 403],
      [{ origin: "https://evil.example.com" }, 403]
    ]
    for (const method of ["GET", "HEAD"]) {
      for (const [headers, status] of reads) {
        const answer = await send(server, "/console/session", { method, headers: { cookie, ...headers } })
        assert.strictEqual(answer.status, status, `${method} ${JSON.stringify(headers)}`)
      }
    }
    const image = { "user-agent": "Mozilla/5.0", cookie, "sec-fetch-site": "same-site" }
    assert.strictEqual((await send(server, "/api/v1/functions", { headers: image })).status, 403)
  })

  it("opens sockets for its own pages, which end with it", async () => {
    const { cookie, server } = await signedIn({ virtualTime: true })
    const open = (origin: string) =>
      new WebSocket(`ws://127.0.0.1:${server.port}/ws`, { headers: { cookie, origin } })

    const refused = open("http://127.0.0.1:3000")
    const [, response] = await once(
      refused.on("error", () => undefined),
      "unexpected-response"
    )
    assert.strictEqual(response.statusCode, 403)

    const socket = open(`http://127.0.0.1:${server.port}`)
    await once(socket, "open")
    const closed = once(socket, "close")
    await server.pass(12 * 3_600_000)
    assert.deepStrictEqual((await closed).map(String), ["1008", "the session has ended"])
  })

  it("ends after 12 hours, and cannot prolong itself", async () => {
    const { cookie, server } = await signedIn({ virtualTime: true })

    await server.pass(12 * 3_600_000 - 1000)
    assert.strictEqual((await listRuns(server, { ...browser, cookie })).status, 200)
    const renewed = await send(server, "/console/session", {
      method: "POST",
      headers: { ...browser, cookie }
    })
    assert.deepStrictEqual([renewed.status, renewed.headers["set-cookie"]], [401, undefined])
    await server.pass(1000)
    assert.strictEqual((await listRuns(server, { ...browser, cookie })).status, 401)
  })

  it("ends with its key, and is invalid when any letter of the cookie has changed", async () => {
    const { cookie, server } = await signedIn()
    const client = createClient({ serverUrl: server.url, apiKey: BOOTSTRAP })
    const { id, key } = await client.apiKeys.create({ name: "visitor" })
    const answer = await send(server, "/console/session", {
      method: "POST",
      headers: { ...browser, authorization: `Bearer ${key}` }
    })
    const [other = ""] = (answer.headers["set-cookie"] ?? []).map((set) => set.split(";")[0])
    const status = async (cookie: string): Promise<number> =>
      (await send(server, "/console/session", { headers: { ...browser, cookie } })).status

    assert.strictEqual(await status(other), 200)
    for (const at of [-1, -20, 60]) {
      const letter = other.at(at) === "A" ? "B" : "A"
      assert.strictEqual(
        await status(other.slice(0, at) + letter + (at === -1 ? "" : other.slice(at + 1))),
        401
      )
    }
    // a cookie with the content of another session
    assert.strictEqual(await status(`${other.split("=")[0]}=${cookie.split("=")[1]}`), 401)
    await client.apiKeys.delete(id)
    assert.strictEqual(await status(other), 401)
    assert.strictEqual(await status(cookie), 200)
    await client.close()
  })

  it("survives a restart of the engine", async () => {
    const database = mkdtempSync(path.join(tmpdir(), "ironflow-session-"))
    const filename = path.join(database, "engine.db")
    const { cookie, server } = await signedIn({ filename })
    servers.splice(0)
    await server.close()

    const again = await serve({ filename })
    assert.strictEqual((await listRuns(again, { ...browser, cookie })).status, 200)
    servers.splice(0)
    await again.close()
    rmSync(database, { recursive: true })
  })

  it("ends at sign-out", async () => {
    const { cookie, server } = await signedIn()

    const gone = await send(server, "/console/session", { method: "DELETE", headers: { ...browser, cookie } })

    assert.strictEqual(gone.status, 204)
    assert.match(
      String(gone.headers["set-cookie"]),
      /^ironflow_[\da-f]{32}=; Max-Age=0; Path=\/; HttpOnly; SameSite=Strict$/
    )
  })

  it("ends at sign-out together with all others of the engine, but not with those of another engine", async () => {
    const { cookie, server } = await signedIn()
    const client = createClient({ serverUrl: server.url, apiKey: BOOTSTRAP })
    const { key } = await client.apiKeys.create({ name: "visitor" })
    await client.close()
    const signIn = (cookie: string) =>
      send(server, "/console/session", {
        method: "POST",
        headers: { ...browser, cookie, authorization: `Bearer ${key}` }
      })
    const elsewhere = `ironflow_${"0".repeat(32)}=abc`
    const nameOf = (set = "") => set.split("=")[0]

    const both = await signIn("")
    const visitor = String(both.headers["set-cookie"]).split(";")[0]!
    // from then on the key of the last sign-in counts
    const instead = await signIn(`${elsewhere}; ${cookie}`)
    assert.deepStrictEqual(
      instead.headers["set-cookie"]?.map((set) => [nameOf(set), set.includes("Max-Age=0")]),
      [
        [nameOf(visitor), false],
        [nameOf(cookie), true]
      ]
    )
    const gone = await send(server, "/console/session", {
      method: "DELETE",
      headers: { ...browser, cookie: `${elsewhere}; ${cookie}; ${visitor}` }
    })
    assert.deepStrictEqual(gone.headers["set-cookie"]?.map(nameOf), [nameOf(cookie), nameOf(visitor)])
    assert.isTrue(gone.headers["set-cookie"]?.every((set) => set.includes("Max-Age=0")))
  })

  it("is not needed when there are no keys", async () => {
    const server = await serve()

    const answer = await send(server, "/console/session", { method: "POST", headers: browser })

    assert.strictEqual(answer.headers["set-cookie"], undefined)
    assert.include(JSON.parse(answer.text), { keysRequired: false })
    assert.strictEqual((await listRuns(server, browser)).status, 200)
  })
})
