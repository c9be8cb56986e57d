/**
 * Decides who may call: refuses requests of foreign pages, checks API keys, and tells browsers which pages may read
 * the responses.
 *
 * While there are no keys, the server trusts everybody who can reach its port. It does not trust browsers
 * that act for a page of another site. As soon as there is a key, every call that is not public requires one.
 */
import type { IncomingHttpHeaders } from "node:http"
import { isIP } from "node:net"
import { DEFAULT_ENVIRONMENT } from "../../Constants.ts"
import {
  isIronflowError,
  LimitExceededError,
  UnauthenticatedError,
  UnauthorizedError,
  ValidationError
} from "../../Errors.ts"
import { checkName, keyLength, writesAtOnce } from "../../Limits.ts"
import type { Access as Rule, Resource } from "../../Protocol/CallSpec.ts"
import { CHANNEL_HEADER } from "../../Protocol/Http/Channel.ts"
import { VALUE_TYPE_HEADER } from "../../KvValue.ts"
import { ENVIRONMENT_HEADER } from "../../Protocol/Http/CallAddress.ts"
import { isObject } from "../../Json.ts"
import { show } from "../../Show.ts"
import type { AccessService, Caller } from "../../Engine/Access/Access.ts"
import type { AccessFreshness } from "../../Engine/Access/AccessFreshness.ts"
import { type BrowserSession, BrowserSessions } from "./BrowserSession.ts"
import type { Reply } from "./Route.ts"

export interface AccessCheckOptions {
  /** Whether other machines can reach the server. */
  readonly exposed: boolean
  readonly insecure: boolean
  /** Origins of pages that may call although they are not from this server. */
  readonly corsOrigins: ReadonlyArray<string>
  /**
   * Host names under which pages may call, besides loopback names and IP addresses. A name with a port allows only
   * this port.
   */
  readonly allowedHosts: ReadonlyArray<string>
  /** Throws `LimitExceededError` when one more environment would exceed the limit of environments. */
  readonly checkEnvironment: (environment: string) => void
}

/** A caller who was authenticated, and the environment of the call. */
export interface Visitor {
  readonly caller: Caller
  readonly environment: string
  /** How much longer the browser session of the request lasts, in milliseconds. */
  readonly sessionMs?: number
}

/** What is checked of an HTTP/1.1 or HTTP/2 request. */
export interface RequestHead {
  readonly method?: string | undefined
  readonly headers: IncomingHttpHeaders
  /** Alternating names and values, as received. HTTP/2 allows no duplicates. */
  readonly rawHeaders?: ReadonlyArray<string>
}

export class AccessCheck {
  readonly #access: AccessService
  readonly #options: AccessCheckOptions
  readonly #sessions: BrowserSessions

  constructor(access: AccessService, options: AccessCheckOptions) {
    this.#access = access
    this.#options = options
    this.#sessions = new BrowserSessions(access)
  }

  /**
   * Throws `UnauthorizedError` for a request of a page that may not call, whether or not there are keys. A
   * page can only send its own host name. So the host reveals a foreign name that was made to resolve to this
   * server (DNS rebinding). Images, links and GET forms of other sites make requests without an origin. Of these
   * requests, only those that open a public route in a tab are allowed; without TLS all GET requests for a public
   * route, since they cannot be told apart.
   */
  checkOrigin(head: RequestHead, isPublic: () => boolean = () => false): void {
    const { headers } = head
    const host = hostOfRequest(head)
    const { origin } = headers
    if (!this.#isFromPage(headers)) return
    if (!this.#allowsHost(host)) {
      throw new UnauthorizedError(
        `This engine does not answer pages under the name "${(host ?? "").slice(0, 256)}". ` +
          "Use 127.0.0.1, localhost or the engine's IP address, or add the name to `allowedHosts`"
      )
    }
    if (origin === undefined) {
      // without TLS only the referer names the page, and a link cannot be told from an image
      if (headers["sec-fetch-site"] === undefined && headers.referer !== undefined) {
        if (this.#isAllowedPage(head, headers.referer) || (head.method === "GET" && isPublic())) return
        throw otherPageError(headers.referer)
      }
      if (!isOfOtherOrigin(headers) || (isNavigation(head) && isPublic())) return
      throw new UnauthorizedError(
        "This request comes from a page of another site and has no `Origin` header, so the engine refuses it: " +
          "open the address directly, or call it with `fetch` from a page whose origin is in `corsOrigins`"
      )
    }
    if (!this.#isAllowedPage(head, origin)) throw otherPageError(origin)
  }

  /**
   * Throws `UnauthorizedError` for a browser request that does not say which page makes it. Without TLS, a
   * browser sends such a request when a page of another site shows an image from here. The page cannot read
   * the response, but the request would have its effect.
   */
  checkEffect({ headers }: RequestHead): void {
    if (headers["user-agent"]?.startsWith("Mozilla/") !== true) return
    if (headers.origin !== undefined || headers["sec-fetch-site"] !== undefined) return
    throw new UnauthorizedError(
      "This engine refuses this request of a browser, because it has no `Origin` header: send it with `fetch` from a page whose origin is in `corsOrigins`"
    )
  }

  /**
   * Authenticates a request, and determines its environment. The API key is in the header `Authorization`. For a
   * WebSocket it may be in `token` of the query, since browsers cannot set headers there. Without a key, the
   * session cookie counts if the request is from a page of this engine or from the address bar. While the engine has
   * no keys, a request needs none, unless the server is exposed and not `insecure`. Throws `UnauthenticatedError`
   * without a valid key, and `UnauthorizedError` when the request names another environment than the one that its key
   * is bound to.
   */
  admit(request: RequestHead, query?: URLSearchParams): Visitor {
    const { headers } = request
    const key = bearer(headers.authorization) ?? query?.get("token") ?? undefined
    const session = key === undefined && this.#access.needsKey ? this.#sessionOf(request) : undefined
    const caller = this.#access.authenticate(key ?? session?.key)
    const sessionPart = session === undefined ? {} : { sessionMs: session.endsAt - this.#access.now() }
    if (caller.key === undefined && this.#options.exposed && !this.#options.insecure) {
      throw new UnauthenticatedError(
        "This engine has no API keys any more, but can be reached from other machines: make a key with `ironflow apikeys create` on the machine of the engine"
      )
    }
    const requestedEnvironment = query?.get("env") || headers[ENVIRONMENT_HEADER] || undefined
    const keyEnvironment = caller.key?.environment
    if (requestedEnvironment === undefined)
      return { caller, environment: keyEnvironment ?? DEFAULT_ENVIRONMENT, ...sessionPart }
    const environment = checkName("environment that the request names", requestedEnvironment)
    this.#options.checkEnvironment(environment)
    if (keyEnvironment !== undefined && environment !== keyEnvironment) {
      throw new UnauthorizedError(
        `The API key "${caller.key?.name}" is bound to environment "${keyEnvironment}", and the request names "${environment}". ` +
          `Name "${keyEnvironment}" instead, or use an API key of environment "${environment}"`
      )
    }
    return { caller, environment, ...sessionPart }
  }

  /**
   * The browser session of a request. Browsers send a cookie to every port of its host, so only pages of this
   * engine and the address bar may use the session. Throws `UnauthorizedError` for any other page.
   */
  #sessionOf(head: RequestHead): BrowserSession | undefined {
    const { headers, method = "GET" } = head
    const session = this.#sessions.find(headers.cookie)
    if (session === undefined) return undefined
    const { origin } = headers
    const site = headers["sec-fetch-site"]
    const host = hostOfRequest(head)
    const url = origin === undefined ? null : URL.parse(origin)
    const isOwnPage =
      site === "same-origin" ||
      (site === undefined && url !== null && host !== undefined && isSameHost(url.host, host, url.protocol))
    // without TLS the request does not say whether the address bar or a page makes it
    const mayBeAddressBar =
      (method === "GET" || method === "HEAD") &&
      headers.upgrade === undefined &&
      origin === undefined &&
      (site === undefined || site === "none")
    if (isOwnPage || mayBeAddressBar) return session
    throw new UnauthorizedError(
      "The session of a browser is for pages of this engine only: another page, or a program, needs an API key of its own"
    )
  }

  /**
   * The refresh of keys and permissions that a request must wait for, since other engines may have changed them.
   * `undefined` when the request need not wait. `isAdmitted` says that the connection of the request was admitted before.
   */
  requiredRefresh(
    request: RequestHead,
    isAdmitted: boolean,
    query?: URLSearchParams
  ): AccessFreshness["refresh"] | undefined {
    const { freshness } = this.#access
    if (freshness === undefined) return undefined
    const key = isAdmitted
      ? undefined
      : (bearer(request.headers.authorization) ?? query?.get("token") ?? undefined)
    return freshness.needsRefresh(key) ? freshness.refresh : undefined
  }

  /** The response to a CORS preflight; `undefined` for any other request. */
  preflight({ method, headers }: RequestHead): Reply | undefined {
    if (method !== "OPTIONS" || headers["access-control-request-method"] === undefined) return undefined
    return {
      status: 204,
      headers: {
        "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE",
        "access-control-allow-headers": `authorization, content-type, if-match, if-none-match, ${ENVIRONMENT_HEADER}, ${VALUE_TYPE_HEADER}, connect-protocol-version, connect-timeout-ms`,
        "access-control-max-age": "600"
      }
    }
  }

  /** The headers that let the page of the request read the response; none when the page may not. */
  corsHeaders(head: RequestHead): { readonly [name: string]: string } | undefined {
    const { origin } = head.headers
    if (origin === undefined) return undefined
    try {
      this.checkOrigin(head)
    } catch (error) {
      if (isIronflowError(error)) return undefined
      throw error
    }
    return {
      "access-control-allow-origin": origin,
      "access-control-expose-headers": `etag, ${CHANNEL_HEADER}`,
      vary: "Origin"
    }
  }

  /**
   * Whether a browser sends the request for a page. That is so when the request names the page, or has another header
   * that only browsers send. Browsers leave out all of these headers when a page without TLS reads from its own host
   * and hides its referer. The host name of such a page may have been made to resolve to this server a moment ago. So
   * where no key is required, a browser is also recognized by its user agent, which pages rarely change.
   */
  #isFromPage(headers: IncomingHttpHeaders): boolean {
    if (headers.origin !== undefined || headers.referer !== undefined) return true
    const isBrowser = headers["user-agent"]?.startsWith("Mozilla/") === true
    if (isBrowser && !this.#access.needsKey) return true
    for (const name in headers) {
      if (!name.startsWith("sec-") || name.startsWith("sec-websocket-")) continue
      // not a browser: `fetch` of Node sends `sec-fetch-mode: cors` and no other of these headers
      if (name !== "sec-fetch-mode" || headers[name] !== "cors" || isBrowser) return true
    }
    return false
  }

  #allowsHost(host: string | undefined): boolean {
    if (host === undefined) return false
    const name = hostnameOf(`http://${host}`)
    return (
      isLoopback(name) ||
      isIP(name.replace(/^\[|\]$/g, "")) !== 0 ||
      this.#options.allowedHosts.some((allowed) => allowed === name || isSameHost(allowed, host))
    )
  }

  /** Whether a page of this origin or URL may call. */
  #isAllowedPage(head: RequestHead, page: string): boolean {
    const host = hostOfRequest(head)
    const url = URL.parse(page)
    if (this.#options.corsOrigins.includes(page)) return true
    if (host === undefined || url === null) return false
    if (this.#options.corsOrigins.includes(url.origin)) return true
    // a page of this server
    if (isSameHost(url.host, host, url.protocol)) return true
    // while no key is required, development servers on this machine may call from any port
    return !this.#access.needsKey && isLoopback(hostnameOf(`http://${host}`)) && isLoopback(url.hostname)
  }
}

/** `page` is the origin or the URL of the page. */
const otherPageError = (page: string): UnauthorizedError => {
  const origin = URL.parse(page)?.origin ?? "null"
  if (origin === "null") {
    return new UnauthorizedError(
      "This engine does not answer pages without an http or https origin, such as local files, sandboxed frames and browser extensions: " +
        "serve the page from a web server, and add the origin of that server to `corsOrigins`"
    )
  }
  return new UnauthorizedError(
    `This engine does not answer pages of "${origin.slice(0, 256)}": to allow them, add that origin to \`corsOrigins\``
  )
}

/**
 * Checks whether the visitor may make the call, before its body has arrived. Throws `UnauthenticatedError` or
 * `UnauthorizedError`.
 */
export const checkCall = (
  { caller, environment }: Visitor,
  rule: Rule,
  variables: { readonly [name: string]: string }
): void => {
  if (rule === "public") return
  caller.checkAlive()
  caller.noteUse()
  checkRule({ caller, environment }, rule, variables)
}

/** Checks what a rule requires of the visitor. Throws `UnauthorizedError`. */
export const checkRule = (
  { caller, environment }: Pick<Visitor, "caller" | "environment">,
  rule: Rule,
  variables: { readonly [name: string]: string }
): void => {
  if (typeof rule === "string") return
  const { action, resource } = rule
  switch (resource.from) {
    case "all":
      return caller.check(action, `${resource.kind}:*`, environment)
    case "each":
      return caller.checkAny(action, resource.kind)
    case "path":
      return caller.check(action, `${resource.kind}:${variables[resource.variable] ?? ""}`, environment)
    case "body":
      // the resource is known only when the body is read; but a caller who may not do this to any resource is refused
      // already now
      return caller.checkAction(action)
  }
}

/**
 * Checks whether the visitor may make a call whose body has arrived. Permissions may have changed since the
 * request began: the current ones count. Throws as {@link checkCall} does.
 */
export const checkBodyAccess = (
  visitor: Visitor,
  rule: Rule,
  variables: { readonly [name: string]: string },
  body: unknown
): void => {
  if (rule === "public") return
  if (rule === "key" || rule.resource.from !== "body") return checkCall(visitor, rule, variables)
  const { caller, environment } = visitor
  caller.checkAlive()
  if (caller.key === undefined) return
  for (const name of namesIn(rule.resource, body)) {
    caller.check(rule.action, `${rule.resource.kind}:${name}`, environment)
  }
}

/** The names of resources in the body. `[""]` when there are none, which the route refuses. */
const namesIn = (
  resource: Extract<Resource, { readonly from: "body" }>,
  body: unknown
): ReadonlyArray<string> => {
  const member = (name: string): unknown => (isObject(body) ? body[name] : undefined)
  const holder = resource.in === undefined ? body : member(resource.in)
  const items = resource.each === undefined ? [holder] : member(resource.each)
  if (!Array.isArray(items)) return [""]
  // each name is checked against the policies, so there must not be too many
  if (items.length > writesAtOnce) {
    throw new LimitExceededError(`The list \`${resource.each}\``, items.length, writesAtOnce, "items")
  }
  const names = items.flatMap((item) =>
    isObject(item)
      ? resource.members
          .map((member) => item[member])
          .filter((name) => typeof name === "string" && name !== "")
      : []
  )
  if (names.length === 0) return [""]
  // the filter above has left only strings
  const differentNames = new Set(names as Array<string>)
  for (const name of differentNames) {
    if (name.length > keyLength) {
      throw new LimitExceededError(`The name ${show(name)}`, name.length, keyLength, "characters")
    }
  }
  return [...differentNames]
}

export const bearer = (authorization: string | undefined): string | undefined =>
  authorization === undefined ? undefined : (/^Bearer +([^ ]+) *$/i.exec(authorization)?.[1] ?? "malformed")

export const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host)

/** Whether the browser says that a page of another origin makes the request. */
const isOfOtherOrigin = (headers: IncomingHttpHeaders): boolean => {
  const site = headers["sec-fetch-site"]
  return site !== undefined && site !== "same-origin" && site !== "none"
}

/** Whether the request opens a page in a tab. */
const isNavigation = ({ headers, method = "GET" }: RequestHead): boolean =>
  method === "GET" && headers["sec-fetch-mode"] === "navigate" && headers["sec-fetch-dest"] === "document"

/**
 * The host of a request, which HTTP/2 calls the authority. Throws `ValidationError` when the request names
 * two hosts.
 */
const hostOfRequest = ({ headers, rawHeaders = [] }: RequestHead): string | undefined => {
  const authority = headers[":authority"]
  let hosts = typeof authority === "string" && (headers.host ?? authority) !== authority ? 2 : 0
  // `headers` has only the first of several `Host` headers
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]!.length === 4 && rawHeaders[i]!.toLowerCase() === "host") hosts++
  }
  if (hosts > 1) {
    throw new ValidationError(
      "The request names two hosts: send one `Host` header; over HTTP/2 send the same name as in `:authority`, or no `Host`"
    )
  }
  return typeof authority === "string" ? authority : headers.host
}

/** Whether two hosts are the same. The default port of the protocol may be left out. */
const isSameHost = (one: string, other: string, protocol = "http:"): boolean =>
  hostOf(one, protocol) === hostOf(other, protocol)

const hostOf = (host: string, protocol: string): string => {
  const url = `${protocol}//${host}`
  return URL.canParse(url) ? new URL(url).host : host
}

const hostnameOf = (url: string): string => (URL.canParse(url) ? new URL(url).hostname : "")

/** Returns the hosts. Throws `ValidationError` when one is not a host. */
export const checkAllowedHosts = (hosts: unknown): ReadonlyArray<string> => {
  if (!Array.isArray(hosts))
    throw new ValidationError(`\`allowedHosts\` must be a list of names of hosts, got ${show(hosts)}`)
  return hosts.map((host: unknown) => {
    const url = typeof host === "string" ? URL.parse(`http://${host}`) : null
    if (
      url !== null &&
      url.hostname !== "" &&
      url.href === `http://${url.host}/` &&
      !String(host).endsWith("/")
    ) {
      return url.host
    }
    throw new ValidationError(
      `\`allowedHosts\`: ${show(host)} is not a name of a host: write it like "ironflow" or "ironflow.example.com:8443"`
    )
  })
}

/** Returns the origins. Throws `ValidationError` when one is not an origin. */
export const checkCorsOrigins = (origins: unknown): ReadonlyArray<string> => {
  if (!Array.isArray(origins))
    throw new ValidationError(
      `\`corsOrigins\` must be a list of origins such as "https://app.example.com", got ${show(origins)}`
    )
  return origins.map((origin: unknown) => {
    if (typeof origin === "string" && URL.canParse(origin) && new URL(origin).origin === origin) return origin
    throw new ValidationError(
      `\`corsOrigins\`: ${show(origin)} is not an origin: write scheme, host and port without a path, like "https://app.example.com"`
    )
  })
}
