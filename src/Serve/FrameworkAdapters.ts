/**
 * How frameworks differ: the arguments that they call a handler with, and where the response goes.
 *
 * | called with | of | the response |
 * |---|---|---|
 * | `Request` | Fetch: Next.js route handlers, Lambda adapters, Deno, Bun | is returned |
 * | context with a `Request` in `req.raw` | Hono | is returned |
 * | request and reply with `raw` inside | Fastify | goes to the reply |
 * | `IncomingMessage`, `ServerResponse` | Node.js, Express, Next.js pages | is written |
 * | `IncomingMessage` alone | | is returned as a `Response` |
 */
import { isIronflowError } from "../Errors.ts"
import {
  bodyConsumedError,
  bodyTooLargeError,
  bodyTruncatedError,
  type ServeRequest,
  type ServeResponse
} from "./Http.ts"

/** A request, and the way to respond to it. */
export interface Exchange {
  readonly request: ServeRequest
  /**
   * Aborts when the client closes the connection before the response is complete. `undefined` where the handler
   * cannot notice this.
   */
  readonly signal: AbortSignal | undefined
  /** Sends the response, or makes the response object of the framework. The handler returns what this returns. */
  readonly respond: (response: ServeResponse) => unknown
}

/** The members of a Node.js request that are read here. Frameworks add `body`, `rawBody` and `originalUrl`. */
interface NodeRequest {
  readonly method?: string
  readonly url?: string
  readonly originalUrl?: string
  readonly headers: { readonly [name: string]: string | ReadonlyArray<string> | undefined }
  readonly body?: unknown
  readonly rawBody?: unknown
  readonly readableDidRead?: boolean
  readonly complete?: boolean
  readonly on?: (event: string, listener: (...args: Array<never>) => void) => unknown
}

interface NodeResponse {
  statusCode: number
  readonly writableEnded?: boolean
  readonly writeHead?: (status: number, headers: { readonly [name: string]: string }) => unknown
  readonly setHeader?: (name: string, value: string) => unknown
  readonly end: (body: string) => unknown
  readonly on?: (event: string, listener: () => void) => unknown
}

interface FastifyReply {
  readonly code: (status: number) => FastifyReply
  readonly headers: (headers: { readonly [name: string]: string }) => FastifyReply
  readonly send: (body: string) => FastifyReply
  readonly raw: NodeResponse
}

export const exchangeOf = (first: unknown, second: unknown): Exchange => {
  if (isFetchRequest(first)) return fetchExchange(first)
  if (isObjectLike(first) && isObjectLike(first.req) && isFetchRequest(first.req.raw))
    return fetchExchange(first.req.raw)
  if (isObjectLike(first) && isNodeRequest(first.raw) && isFastifyReply(second)) {
    return fastifyExchange(first, first.raw, second)
  }
  if (isNodeRequest(first)) return nodeExchange(first, isNodeResponse(second) ? second : undefined)
  throw new TypeError(
    "The handler that serve() returned was called with something that is not a request: it takes a Fetch Request, the request " +
      "and response of Node.js or Express, a Hono context, or the request and reply of Fastify"
  )
}

// Other realms and servers have classes of their own, so the shape is checked, and not `instanceof`.
const isFetchRequest = (value: unknown): value is Request =>
  isObjectLike(value) &&
  typeof value.url === "string" &&
  typeof value.arrayBuffer === "function" &&
  isObjectLike(value.headers) &&
  typeof value.headers.get === "function"

const isNodeRequest = (value: unknown): value is NodeRequest =>
  isObjectLike(value) &&
  typeof value.url === "string" &&
  isObjectLike(value.headers) &&
  typeof value.headers.get !== "function"

const isNodeResponse = (value: unknown): value is NodeResponse =>
  isObjectLike(value) && typeof value.end === "function"

const isFastifyReply = (value: unknown): value is FastifyReply =>
  isObjectLike(value) &&
  typeof value.code === "function" &&
  typeof value.send === "function" &&
  isObjectLike(value.raw)

const isObjectLike = (value: unknown): value is { readonly [name: string]: unknown } =>
  typeof value === "object" && value !== null

export const webResponse = ({ body, headers, status }: ServeResponse): Response =>
  // a status that allows no body, such as 204, does not even allow an empty string
  new Response(body === "" ? null : body, { status, headers })

const fetchExchange = (request: Request): Exchange => ({
  request: fetchRequest(request),
  signal: request.signal,
  respond: webResponse
})

/** Makes the request of a push handler from a Fetch request. */
export const fetchRequest = (request: Request): ServeRequest => ({
  method: request.method,
  url: request.url,
  headers: Object.fromEntries(request.headers.entries()),
  readBody: async (maxBytes, onBytes) => {
    if (request.bodyUsed) throw bodyConsumedError("a middleware that calls request.json() or request.text()")
    if (Number(request.headers.get("content-length") ?? 0) > maxBytes) throw bodyTooLargeError(maxBytes)
    if (request.body === null) return new Uint8Array()
    const chunks: Array<Uint8Array> = []
    let size = 0
    try {
      for await (const chunk of request.body as unknown as AsyncIterable<Uint8Array>) {
        size += chunk.length
        if (size > maxBytes) break
        onBytes?.(size)
        chunks.push(chunk)
      }
    } catch (error) {
      throw isIronflowError(error) ? error : bodyTruncatedError(error)
    }
    if (size > maxBytes) throw bodyTooLargeError(maxBytes)
    return Buffer.concat(chunks)
  }
})

const fastifyExchange = (
  request: { readonly [name: string]: unknown },
  raw: NodeRequest,
  reply: FastifyReply
): Exchange => ({
  request: nodeRequest(
    { ...withoutBody(raw), body: request.body, rawBody: request.rawBody },
    'Fastify\'s JSON parser: give it app.addContentTypeParser("application/json", { parseAs: "buffer" }, (_, body, done) => done(null, body))'
  ),
  signal: signalOfDisconnect(reply.raw),
  respond: ({ body, headers, status }) => reply.code(status).headers(headers).send(body)
})

const withoutBody = (request: NodeRequest): NodeRequest => ({
  ...(request.method === undefined ? {} : { method: request.method }),
  ...(request.url === undefined ? {} : { url: request.url }),
  headers: request.headers,
  readableDidRead: request.readableDidRead ?? false,
  complete: request.complete ?? false,
  on: (event, listener) => request.on?.(event, listener)
})

const nodeExchange = (request: NodeRequest, response: NodeResponse | undefined): Exchange => ({
  request: nodeRequest(request, "express.json() or another body parser (for Next.js pages: api.bodyParser)"),
  signal: response === undefined ? undefined : signalOfDisconnect(response),
  respond: (answer) => {
    if (response === undefined) return webResponse(answer)
    if (response.writeHead !== undefined) response.writeHead(answer.status, answer.headers)
    else {
      response.statusCode = answer.status
      for (const [name, value] of Object.entries(answer.headers)) response.setHeader?.(name, value)
    }
    response.end(answer.body)
    return undefined
  }
})

const signalOfDisconnect = (response: NodeResponse): AbortSignal => {
  const controller = new AbortController()
  response.on?.("close", () => {
    if (response.writableEnded !== true) controller.abort(new Error("The client has closed the connection"))
  })
  return controller.signal
}

const nodeRequest = (request: NodeRequest, parser: string): ServeRequest => {
  const { body, rawBody } = request
  const bytes = bytesOf(rawBody) ?? bytesOf(body)
  const isParsed = bytes === undefined && typeof body === "object" && body !== null
  return {
    ...(request.method === undefined ? {} : { method: request.method }),
    // `originalUrl` is preferred: a router in which the handler is mounted removes the path of the mount from `url`
    url: request.originalUrl ?? request.url ?? "/",
    headers: Object.fromEntries(
      Object.entries(request.headers).flatMap(([name, value]) => {
        const first = typeof value === "object" ? value[0] : value
        return first === undefined ? [] : [[name.toLowerCase(), first]]
      })
    ),
    readBody: async (maxBytes, onBytes) => {
      if (isParsed || (bytes === undefined && request.readableDidRead === true))
        throw bodyConsumedError(parser)
      if (bytes === undefined) return readStream(request, maxBytes, onBytes)
      if (bytes.length > maxBytes) throw bodyTooLargeError(maxBytes)
      return bytes
    },
    ...(isParsed ? { parsedBody: body } : {})
  }
}

const bytesOf = (body: unknown): Uint8Array | undefined => {
  if (typeof body === "string") return Buffer.from(body)
  return body instanceof Uint8Array ? body : undefined
}

const readStream = (
  request: NodeRequest,
  maxBytes: number,
  onBytes: ((size: number) => void) | undefined
): Promise<Uint8Array> =>
  new Promise((resolve, reject) => {
    const { on } = request
    if (on === undefined) return resolve(new Uint8Array())
    let chunks: Array<Buffer> | undefined = []
    let size = 0
    // a body that is refused is read to its end and dropped, so that the sender can receive the response
    const refuse = (error: unknown): void => {
      chunks = undefined
      reject(error)
    }
    const listen = on.bind(request)
    listen("data", (chunk: Buffer | string) => {
      size += chunk.length
      if (chunks === undefined) return
      if (size > maxBytes) return refuse(bodyTooLargeError(maxBytes))
      try {
        onBytes?.(size)
        chunks.push(Buffer.from(chunk))
      } catch (error) {
        refuse(error)
      }
    })
    listen("end", () => resolve(Buffer.concat(chunks ?? [])))
    listen("error", (error: Error) => reject(bodyTruncatedError(error)))
    listen("close", () => reject(bodyTruncatedError(undefined)))
  })
