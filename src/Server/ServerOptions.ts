/** The options of the server: where it listens, who may call, and its limits. */
import { DEFAULT_PORT } from "../Constants.ts"
import { type Duration, formatExactDuration, positiveDuration } from "../Duration.ts"
import { ValidationError } from "../Errors.ts"
import { stepResultBytes } from "../Limits.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { show } from "../Show.ts"
import { checkAllowedHosts, checkCorsOrigins, isLoopback } from "./Http/AccessCheck.ts"

/** Where a server listens, and whom it answers. */
export interface HttpServerOptions {
  /** The port; 9123 by default, and 0 for any free one. */
  readonly port?: number
  /**
   * The host to listen at; `127.0.0.1` by default. Without API keys it must be a loopback address, unless
   * `insecure` is set.
   */
  readonly host?: string
  /** Certificate and key in PEM for HTTPS; plain HTTP by default. */
  readonly tls?: { readonly cert: string | Uint8Array; readonly key: string | Uint8Array }
  /**
   * Allows to listen at any host without API keys. Then everybody who can reach the server may do everything. `false`
   * by default.
   */
  readonly insecure?: boolean
  /**
   * Origins of web pages that may call the server from a browser, such as `https://app.example.com`. None by default;
   * pages of the server itself may always call.
   */
  readonly corsOrigins?: ReadonlyArray<string>
  /**
   * Host names under which browsers may reach the server, such as `ironflow.example.com`; a name with a port allows
   * only this port. Loopback names and IP addresses are always allowed. Programs other than browsers may use any name.
   */
  readonly allowedHosts?: ReadonlyArray<string>
  /** The largest body of a client's request, in bytes; a little over the largest payload (4 MiB) by default. */
  readonly maxBodyBytes?: number
  /** The largest body of a worker's request, which may carry several results, in bytes; 16 MiB by default. */
  readonly maxReportBytes?: number
  /** The largest headers of a request, in bytes; 16 KiB by default. */
  readonly maxHeaderBytes?: number
  /**
   * How long the headers, and then the body, may take to arrive, in milliseconds; 30000 by default, at most
   * an hour.
   */
  readonly bodyTimeoutMs?: number
  /** Maximum number of open connections; further connections are closed. 10000 by default. */
  readonly maxConnections?: number
  /**
   * How long a worker may be silent before its runs go to other workers; `"15s"` by default, from 3 seconds to an
   * hour. The silent worker itself aborts its runs earlier: by two seconds, or by a fifth of this time if that is
   * less.
   */
  readonly leaseTerm?: Duration
  /**
   * Serves the console under `/console/`; `true` by default. `base` is the path of the engine behind a proxy: with
   * `{ base: "/ironflow" }` the console is at `/ironflow/console/` for browsers.
   */
  readonly console?: boolean | { readonly base?: string }
}

const serverKeys = {
  port: true,
  host: true,
  tls: { cert: true, key: true } satisfies Keys<NonNullable<HttpServerOptions["tls"]>>,
  insecure: true,
  corsOrigins: true,
  allowedHosts: true,
  maxBodyBytes: true,
  maxReportBytes: true,
  maxHeaderBytes: true,
  bodyTimeoutMs: true,
  maxConnections: true,
  leaseTerm: true,
  console: { base: true } satisfies Keys<Exclude<NonNullable<HttpServerOptions["console"]>, boolean>>
} satisfies Keys<HttpServerOptions>

export type ResolvedOptions = Required<Omit<HttpServerOptions, "tls" | "leaseTerm" | "console">> &
  Pick<HttpServerOptions, "tls"> & {
    readonly leaseTerm: number
    /**
     * The path of the engine behind a proxy, or an empty string without a proxy; `undefined` without a console.
     */
    readonly consoleBase: string | undefined
  }

const MIN_LEASE_MS = 3000
const MAX_LEASE_MS = 3_600_000
const MAX_BODY_TIMEOUT_MS = 3_600_000

/** The default limits of the server. */
export const defaults = {
  maxBodyBytes: stepResultBytes + 256 * 1024,
  maxReportBytes: 4 * stepResultBytes,
  maxHeaderBytes: 16 * 1024,
  bodyTimeoutMs: 30_000,
  maxConnections: 10_000
}

export const resolveOptions = ({ console: pages, ...options }: HttpServerOptions): ResolvedOptions => {
  checkKeys({ ...options, console: pages }, serverKeys, "The HTTP server")
  const resolved: ResolvedOptions = {
    port: DEFAULT_PORT,
    host: "127.0.0.1",
    insecure: false,
    ...defaults,
    ...options,
    corsOrigins: checkCorsOrigins(options.corsOrigins ?? []),
    allowedHosts: checkAllowedHosts(options.allowedHosts ?? []),
    leaseTerm: positiveDuration(options.leaseTerm ?? "15s", "`leaseTerm` of the engine"),
    consoleBase: consoleBaseOf(pages)
  }
  const { leaseTerm, port } = resolved
  if (leaseTerm < MIN_LEASE_MS || leaseTerm > MAX_LEASE_MS) {
    throw new ValidationError(
      `\`leaseTerm\` must be from ${formatExactDuration(MIN_LEASE_MS)} to ${formatExactDuration(MAX_LEASE_MS)}, got ${formatExactDuration(leaseTerm)}`
    )
  }
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new ValidationError(`The port must be an integer from 0 to 65535, got ${show(port)}`)
  }
  for (const name of [
    "maxBodyBytes",
    "maxReportBytes",
    "maxHeaderBytes",
    "bodyTimeoutMs",
    "maxConnections"
  ] as const) {
    if (!Number.isSafeInteger(resolved[name]) || resolved[name] <= 0) {
      throw new ValidationError(`\`${name}\` must be an integer, at least 1, got ${show(resolved[name])}`)
    }
  }
  if (resolved.bodyTimeoutMs > MAX_BODY_TIMEOUT_MS) {
    throw new ValidationError(
      `\`bodyTimeoutMs\` must be at most ${MAX_BODY_TIMEOUT_MS}, an hour, got ${resolved.bodyTimeoutMs}`
    )
  }
  return resolved
}

const consoleBaseOf = (pages: HttpServerOptions["console"] = true): string | undefined => {
  if (typeof pages === "boolean") return pages ? "" : undefined
  const { base = "" } = pages
  // the segments `.` and `..` are not allowed, since browsers resolve them
  if (typeof base === "string" && /^(\/(?!\.{1,2}(\/|$))[\w.~-]+)*\/?$/.test(base))
    return base.replace(/\/$/, "")
  throw new ValidationError(
    `The \`base\` of the console must be the path under which a proxy serves the engine, like "/ironflow", got ${show(base)}`
  )
}

export const checkHost = ({ host, insecure }: ResolvedOptions, hasKeys: boolean): void => {
  if (isLoopback(host) || insecure || hasKeys) return
  throw new ValidationError(
    `The engine does not listen on "${host}" without API keys: everybody who reaches the port could run and read everything. ` +
      "Make a key with `ironflow apikeys create` or IRONFLOW_BOOTSTRAP_KEY, listen on 127.0.0.1, or set `insecure: true` if something else guards the port"
  )
}
