/**
 * Serves the console to browsers: its page, its files, and the sessions for API keys. The page and files are
 * public, since everybody can find them in the package. The data that they show comes from calls, each of which needs
 * the caller's key.
 */
import type { IncomingMessage } from "node:http"
import type { TLSSocket } from "node:tls"
import * as Effect from "effect/Effect"
import { keyNeededError } from "../../Engine/Access/KeyErrors.ts"
import type { AccessService, Caller } from "../../Engine/Access/Access.ts"
import { UnsupportedError } from "../../Errors.ts"
import { CONSOLE_PATH, type ConsoleSession, pages, sessions } from "../../Protocol/Console.ts"
import { encoder } from "../../Protocol/ServerCodec.ts"
import { SDK_VERSION } from "../../SdkVersion.ts"
import { checked } from "../../CheckAsEffect.ts"
import type { ConsoleFile, ConsoleFiles } from "../Http/ConsoleFiles.ts"
import { BrowserSessions, SESSION_MS } from "../Http/BrowserSession.ts"
import { bearer } from "../Http/AccessCheck.ts"
import { type Call, json, noContent, type Reply, type Route, variable } from "../Http/Route.ts"
import { replyRoute } from "./CallRoute.ts"

export interface ConsoleOptions {
  readonly access: AccessService
  /** The path of the engine behind a proxy, such as `/ironflow`; empty without a proxy. */
  readonly base: string
  readonly readFiles: () => Promise<ConsoleFiles | undefined>
}

/** The path of the console for browsers. */
export const consolePath = (base: string): string => base + CONSOLE_PATH

export const consoleRoutes = ({ access, base, readFiles }: ConsoleOptions): ReadonlyArray<Route> => {
  const cookies = new BrowserSessions(access)
  let pendingFiles: Promise<ConsoleFiles | undefined> | undefined
  // when there are no files, the next request reads again: a build may be running
  const files = Effect.promise(async () => {
    pendingFiles ??= readFiles()
    const consoleFiles = await pendingFiles
    if (consoleFiles === undefined) pendingFiles = undefined
    return consoleFiles
  })
  const redirectToConsole = (call: Call): Effect.Effect<Reply, UnsupportedError> =>
    isBrowser(call.request)
      ? Effect.succeed({ status: 302, headers: { location: consolePath(base), "cache-control": "no-store" } })
      : Effect.fail(nothingAtError(call.request.url))

  /** Cookies that delete the sessions of this engine from the browser. */
  const deletingCookies = (request: Call["request"]): ReadonlyArray<string> =>
    cookies.names(request.headers.cookie).map((name) => `${name}=; ${attributesOf(request, base)}; Max-Age=0`)

  return [
    replyRoute(pages.root, redirectToConsole, { isPage: true }),
    replyRoute(
      pages.consoleRoot,
      () => Effect.succeed({ status: 302, headers: { location: consolePath(base) } }),
      { isPage: true }
    ),
    replyRoute(
      pages.console,
      (call) =>
        Effect.flatMap(files, (consoleFiles) => {
          if (consoleFiles === undefined) return Effect.succeed(notBuilt)
          const name = variable(call, "path")
          const file = consoleFiles.files.get(name)
          if (file !== undefined) return Effect.succeed(fileReply(file, call.request, FOREVER))
          // any other path belongs to the page, whose script finds out what to show
          return /\.(js|css|map|svg|txt)$/.test(name)
            ? Effect.fail(nothingAtError(call.request.url))
            : Effect.succeed(fileReply(consoleFiles.page, call.request, "no-cache"))
        }),
      { isPage: true }
    ),
    replyRoute(
      sessions.getSession,
      ({ caller, request }) =>
        Effect.succeed(
          sessionReply(
            access,
            caller,
            bearer(request.headers.authorization) === undefined
              ? cookies.find(request.headers.cookie)?.endsAt
              : undefined
          )
        ),
      { isPage: true }
    ),
    replyRoute(sessions.startSession, ({ caller, request }) =>
      checked(() => {
        const key = bearer(request.headers.authorization)
        if (caller?.key === undefined) return sessionReply(access, caller, undefined)
        // a session starts with a key, and not with another session
        if (key === undefined) throw keyNeededError()
        const now = access.now()
        const endsAt = Math.min(now + SESSION_MS, caller.endsAt ?? Number.POSITIVE_INFINITY)
        const { name, value } = cookies.start(key, endsAt)
        const seconds = Math.max(0, Math.floor((endsAt - now) / 1000))
        const reply = sessionReply(access, caller, endsAt)
        const cookie = `${name}=${value}; ${attributesOf(request, base)}; Max-Age=${seconds}`
        // older sessions are deleted: the browser would send their cookies first, and the first cookie counts
        return {
          ...reply,
          cookies: [cookie, ...deletingCookies(request).filter((one) => !one.startsWith(`${name}=`))]
        }
      })
    ),
    replyRoute(sessions.endSession, ({ request }) =>
      Effect.succeed({ ...noContent, cookies: deletingCookies(request) })
    )
  ]
}

const encodeSession = encoder(sessions.getSession.answer!)

const sessionReply = (
  access: AccessService,
  caller: Caller | undefined,
  endsAt: number | undefined
): Reply => {
  const key = caller?.key
  const session: ConsoleSession = {
    keysRequired: access.needsKey,
    ...(key === undefined
      ? {}
      : {
          key: {
            id: key.id,
            name: key.name,
            ...(key.environment === undefined ? {} : { environment: key.environment })
          }
        }),
    ...(endsAt === undefined ? {} : { expiresAt: new Date(endsAt).toISOString() }),
    version: SDK_VERSION
  }
  return { ...json(encodeSession(session)), headers: { "cache-control": "no-store" } }
}

/** For files whose name depends on their content: browsers may keep them. */
const FOREVER = "public, max-age=31536000, immutable"

const securityHeaders: { readonly [name: string]: string } = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
    "base-uri 'self'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY"
}

const fileReply = (file: ConsoleFile, { headers }: IncomingMessage, cache: string): Reply => {
  const fileHeaders = { ...securityHeaders, "cache-control": cache, etag: file.etag, vary: "Accept-Encoding" }
  if (matchesETag(headers["if-none-match"], file.etag)) return { status: 304, headers: fileHeaders }
  return /\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))/.test(String(headers["accept-encoding"] ?? ""))
    ? {
        status: 200,
        bytes: file.gzipped,
        type: file.type,
        headers: { ...fileHeaders, "content-encoding": "gzip" }
      }
    : { status: 200, bytes: file.bytes, type: file.type, headers: fileHeaders }
}

const matchesETag = (ifNoneMatch: string | undefined, etag: string): boolean =>
  ifNoneMatch !== undefined &&
  ifNoneMatch.split(",").some((one) => one.trim() === "*" || one.trim().replace(/^W\//, "") === etag)

const notBuilt: Reply = {
  status: 503,
  type: "text/html; charset=utf-8",
  text:
    "<!doctype html><html lang=en><title>Ironflow</title><h1>The console is not built</h1>" +
    "<p>This engine runs from a checkout, or was bundled without the folder <code>console</code> of the package. " +
    "In a checkout <code>npm run console</code> builds it: then load this page again. Everything else works.</p>",
  headers: { ...securityHeaders, "cache-control": "no-store" }
}

const isBrowser = ({ headers }: IncomingMessage): boolean => headers.accept?.includes("text/html") === true

const nothingAtError = (url = "/"): UnsupportedError =>
  new UnsupportedError(`There is nothing at GET ${url.slice(0, 256)}`, { code: "ROUTE_NOT_FOUND" })

const attributesOf = ({ headers, socket }: IncomingMessage, base: string): string => {
  // only a TLS socket has `encrypted`, which is true there
  const isSecure = (socket as TLSSocket).encrypted === true || headers["x-forwarded-proto"] === "https"
  return `Path=${base}/; HttpOnly; SameSite=Strict${isSecure ? "; Secure" : ""}`
}
