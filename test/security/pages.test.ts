/** Which requests of browsers are answered, under which host names: a page of another site cannot use an engine. */
import { once } from "node:events"
import * as http from "node:http"
import * as http2 from "node:http2"
import * as net from "node:net"
import { createClient } from "@ironflow/node"
import { afterEach, assert, describe, it } from "vitest"
import WebSocket from "ws"
import { type Ironflow, start, type StartOptions } from "../wire/Ironflow.ts"
import { BOOTSTRAP } from "./Keys.ts"

const servers: Array<Ironflow> = []
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close()
})

const serve = async (options: StartOptions): Promise<Ironflow> => {
  const server = await start(options)
  servers.push(server)
  return server
}

type Headers = Record<string, string>

/** Every mode, with the key for its calls. */
const modes = [
  ["without keys", {}, undefined],
  ["with --insecure", { insecure: true, host: "0.0.0.0" }, undefined],
  ["with keys", { bootstrapKey: BOOTSTRAP }, BOOTSTRAP]
] as const

const ports = {
  "over HTTP/1.1": async ({ port }: Ironflow, headers: Headers): Promise<number> => {
    const request = http.get({ host: "127.0.0.1", port, path: "/api/v1/functions", headers })
    const [response] = await once(request, "response")
    response.resume()
    return response.statusCode
  },
  "over HTTP/2": async ({ port }: Ironflow, { host, ...headers }: Headers): Promise<number> => {
    const session = http2.connect(`http://127.0.0.1:${port}`)
    const request = session.request({
      ":path": "/api/v1/functions",
      ...(host === undefined ? {} : { ":authority": host }),
      ...headers
    })
    const [answer] = await once(request, "response")
    session.destroy()
    return Number(answer[":status"])
  },
  "for a WebSocket": async ({ port }: Ironflow, headers: Headers): Promise<number> => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/api/v1/channel`, { headers })
    const status = await new Promise<number>((resolve) => {
      socket.once("open", () => resolve(200))
      socket.once("unexpected-response", (_, response) => resolve(response.statusCode ?? 0))
      socket.on("error", () => undefined)
    })
    socket.terminate()
    return status
  }
}

const fromPage = (origin: string, site = "same-origin") => ({ origin, "sec-fetch-site": site })

const withReferer = (host: string, referer: string) => ({ host, referer })

const cases: ReadonlyArray<readonly [string, Headers, number]> = [
  ["a program under the name of a compose service", { host: "ironflow:9123" }, 200],
  ["a program under a public name", { host: "ironflow.example.com" }, 200],
  ["Node's fetch under any name", { host: "ironflow:9123", "sec-fetch-mode": "cors" }, 200],
  [
    "Node's fetch with all headers that it sends",
    { host: "ironflow:9123", "sec-fetch-mode": "cors", "user-agent": "node", "accept-language": "*" },
    200
  ],
  ["curl under any name", { host: "ironflow:9123", "user-agent": "curl/8.5.0", accept: "*/*" }, 200],
  [
    "a request with only a foreign Referer that equals its host",
    withReferer("evil.example.com:9123", "http://evil.example.com:9123/x"),
    403
  ],
  ["a request with only a foreign Referer", withReferer("127.0.0.1:9123", "https://evil.example.com/x"), 403],
  ["a request with an invalid Referer", withReferer("127.0.0.1:9123", "somewhere"), 403],
  [
    "a request with only a Referer of the server's own page",
    withReferer("192.168.1.5:9123", "http://192.168.1.5:9123/x"),
    200
  ],
  [
    "a request with only a Referer of --cors-origin",
    withReferer("127.0.0.1:9123", "https://app.example.com/x"),
    200
  ],
  ...["navigate", "no-cors", "same-origin", "websocket"].map(
    (mode) =>
      [
        `a request with only Sec-Fetch-Mode ${mode}`,
        { host: "evil.example.com", "sec-fetch-mode": mode },
        403
      ] as const
  ),
  [
    "a browser that sends only Sec-Fetch-Mode",
    { host: "evil.example.com", "sec-fetch-mode": "cors", "user-agent": "Mozilla/5.0" },
    403
  ],
  ...[
    "sec-fetch-user",
    "sec-fetch-dest",
    "sec-fetch-storage-access",
    "sec-ch-ua",
    "sec-purpose",
    "sec-gpc"
  ].map((name) => [`a request with only ${name}`, { host: "evil.example.com", [name]: "?1" }, 403] as const),
  ["a page of the server's own", { host: "127.0.0.1:9123", ...fromPage("http://127.0.0.1:9123") }, 200],
  ["a page under localhost", { host: "localhost:9123", ...fromPage("http://localhost:9123") }, 200],
  ["a page under an address", { host: "192.168.1.5:9123", ...fromPage("http://192.168.1.5:9123") }, 200],
  ["a page under an IPv6 address", { host: "[fd00::5]:9123", ...fromPage("http://[fd00::5]:9123") }, 200],
  ["a page behind a TLS proxy", { host: "flow.example.com", ...fromPage("https://flow.example.com") }, 200],
  [
    "a page behind a TLS proxy that names the port",
    { host: "flow.example.com:443", ...fromPage("https://flow.example.com") },
    200
  ],
  [
    "a page of --cors-origin",
    { host: "127.0.0.1:9123", ...fromPage("https://app.example.com", "cross-site") },
    200
  ],
  [
    "a page of another site",
    { host: "127.0.0.1:9123", ...fromPage("https://evil.example.com", "cross-site") },
    403
  ],
  ["a page without an origin", { host: "127.0.0.1:9123", origin: "null" }, 403],
  [
    "a page of another port of a name",
    { host: "flow.example.com", ...fromPage("https://flow.example.com:444") },
    403
  ],
  [
    "a page whose name was rebound to the server",
    { host: "evil.example.com:9123", ...fromPage("http://evil.example.com:9123") },
    403
  ],
  [
    "a page whose name was rebound to the server, when it reads",
    { host: "evil.example.com:9123", "sec-fetch-site": "same-origin" },
    403
  ],
  [
    "an image in a page of another site",
    { host: "127.0.0.1:9123", "sec-fetch-site": "cross-site", "sec-fetch-dest": "image" },
    403
  ],
  [
    "an image in a page of another port or subdomain",
    { host: "127.0.0.1:9123", "sec-fetch-site": "same-site", "sec-fetch-dest": "image" },
    403
  ],
  [
    "a link in a page of another site",
    {
      host: "127.0.0.1:9123",
      "sec-fetch-site": "cross-site",
      "sec-fetch-mode": "navigate",
      "sec-fetch-dest": "document"
    },
    403
  ],
  [
    "a user who enters the address",
    {
      host: "127.0.0.1:9123",
      "sec-fetch-site": "none",
      "sec-fetch-mode": "navigate",
      "sec-fetch-dest": "document"
    },
    200
  ],
  [
    "a page of the server's own, when it reads",
    { host: "127.0.0.1:9123", "sec-fetch-site": "same-origin" },
    200
  ],
  [
    "a page under the name of a compose service",
    { host: "ironflow:9123", ...fromPage("http://ironflow:9123") },
    403
  ]
]

describe.each(modes)("%s", (_mode, options, key) => {
  describe.each(Object.entries(ports))("%s", (_port, ask) => {
    it.each(cases)("%s", async (_name, headers, status) => {
      const server = await serve({
        corsOrigins: ["https://app.example.com"],
        allowedHosts: ["flow.example.com"],
        ...options
      })
      const authorization = key === undefined ? {} : { authorization: `Bearer ${key}` }
      assert.strictEqual(await ask(server, { ...headers, ...authorization }), status)
    })
  })

  it("a page under an allowed name is answered", async () => {
    const server = await serve({ ...options, allowedHosts: ["ironflow:9123"] })
    const authorization = key === undefined ? {} : { authorization: `Bearer ${key}` }
    const ask = (host: string) =>
      ports["over HTTP/1.1"](server, { host, ...fromPage(`http://${host}`), ...authorization })
    assert.deepStrictEqual([await ask("ironflow:9123"), await ask("ironflow:9124")], [200, 403])
  })

  it("two hosts are refused", async () => {
    const { port } = await serve(options)
    const socket = net.connect(port, "127.0.0.1")
    socket.end(
      "GET /health HTTP/1.1\r\nHost: localhost\r\nhOST: evil.example.com\r\nConnection: close\r\n\r\n"
    )
    let text = ""
    for await (const chunk of socket) text += chunk
    assert.match(text, /^HTTP\/1\.1 400 /)
    assert.include(text, "two hosts")
  })
})

describe.each(modes)("%s", (_mode, options, key) => {
  const authorization: Headers = key === undefined ? {} : { authorization: `Bearer ${key}` }

  it("a request over HTTP/2 whose host is not its authority is refused, whatever page it comes from", async () => {
    const { port } = await serve({ ...options, corsOrigins: ["https://app.example.com"] })
    const session = http2.connect(`http://127.0.0.1:${port}`)
    for (const origin of [undefined, "https://app.example.com", "https://evil.example.com", "null", "x"]) {
      const request = session.request({
        ":path": "/api/v1/functions",
        ":authority": "localhost:9123",
        host: "127.0.0.1:9123",
        ...(origin === undefined ? {} : { origin }),
        ...authorization
      })
      let text = ""
      request.on("data", (chunk) => (text += chunk))
      const [answer] = await once(request, "response")
      await once(request, "close")
      assert.strictEqual(answer[":status"], 400, origin)
      assert.isUndefined(answer["access-control-allow-origin"])
      assert.include(text, "names two hosts")
    }
    session.destroy()
  })

  it.each([
    ["an unknown host", { host: "evil.example.com:9123", origin: "http://evil.example.com:9123" }],
    [
      "an unknown host, for a page that is allowed",
      { host: "evil.example.com:9123", origin: "https://app.example.com" }
    ],
    ["a page that is not allowed", { host: "127.0.0.1:9123", origin: "https://evil.example.com" }]
  ])("the refusal of %s cannot be read by a page", async (_name, headers) => {
    const { port } = await serve({ ...options, corsOrigins: ["https://app.example.com"] })
    for (const method of ["GET", "OPTIONS"]) {
      const request = http.request({
        host: "127.0.0.1",
        port,
        method,
        path: "/api/v1/functions",
        headers: { ...headers, "access-control-request-method": "GET", ...authorization }
      })
      request.end()
      const [response] = await once(request, "response")
      response.resume()
      assert.strictEqual(response.statusCode, 403)
      assert.notProperty(response.headers, "access-control-allow-origin")
    }
  })

  it("a link of another site reaches only public pages, and a frame or an image nothing", async () => {
    const { port } = await serve(options)
    const ask = async (headers: Headers): Promise<number> => {
      const request = http.get({ host: "127.0.0.1", port, path: "/health", headers })
      const [response] = await once(request, "response")
      response.resume()
      return response.statusCode
    }
    const site = { "sec-fetch-site": "cross-site" }
    const link = { ...site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" }
    const frame = { ...site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe" }
    const image = { ...site, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image" }

    assert.deepStrictEqual([await ask(link), await ask(frame), await ask(image)], [200, 403, 403])
  })
})

it("a browser that sends no origin cannot take jobs", async () => {
  const { port } = await serve({ insecure: true, host: "0.0.0.0" })
  const take = async (userAgent: string): Promise<number> => {
    const request = http.get({
      host: "127.0.0.1",
      port,
      path: "/api/v1/workers/worker-1/jobs",
      headers: { host: "192.168.1.5:9123", "user-agent": userAgent }
    })
    const [response] = await once(request, "response")
    response.resume()
    return response.statusCode
  }

  assert.deepStrictEqual(
    [await take("Mozilla/5.0 (X11; Linux) Firefox/140.0"), await take("ironflow-go/1.0")],
    [403, 404]
  )
})

it("DNS rebinding is detected without keys too", async () => {
  const server = await serve({})
  const headers = { host: "evil.example.com:9123", "user-agent": "Mozilla/5.0 (X11; Linux) Firefox/140.0" }
  assert.strictEqual(await ports["over HTTP/1.1"](server, headers), 403)
})

it("a client reaches an engine by the name of its compose service", async () => {
  const server = await serve({})
  // stands for the name server of the network
  const proxy = http.createServer((request, response) => {
    const headers = { ...request.headers, host: "ironflow:9123" }
    const { method, url: path } = request
    const forwarded = http.request(
      { host: "127.0.0.1", port: server.port, method, path, headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers)
        answer.pipe(response)
      }
    )
    request.pipe(forwarded)
  })
  proxy.listen(0, "127.0.0.1")
  await once(proxy, "listening")
  const address = proxy.address()
  const port = address !== null && typeof address === "object" ? address.port : 0
  await using client = createClient({ serverUrl: `http://127.0.0.1:${port}` })

  assert.deepStrictEqual((await client.listRuns()).runs, [])

  proxy.close()
})

it.each(["", "a b", "https://a", "a/", "a/b", "a:b", "u@a"])(
  "%j is refused as an allowed host",
  async (host) => {
    const failure = await start({ allowedHosts: [host] }).catch((error: unknown) => error)
    assert.match(String(failure), /is not a name of a host/)
  }
)
