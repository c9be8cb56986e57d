/** What the server is told when it starts: where it listens, to whom, and how much it takes. */
import { DEFAULT_PORT } from "../Constants.ts"
import { type Duration, formatDuration, positiveDuration } from "../Duration.ts"
import { ValidationError } from "../Errors.ts"
import { stepResultBytes } from "../Limits.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { show } from "../Show.ts"
import { checkAllowedHosts, checkCorsOrigins, isLoopback } from "./Http/Gate.ts"

/** Where an engine listens, and whom it answers. */
export interface HttpServerOptions {
  /** 9123 by default; 0 for any free one. */
  readonly port?: number
  /** `127.0.0.1` by default. As long as there are no API keys only loopback is allowed, unless `insecure` is set. */
  readonly host?: string
  /** Certificate and key in PEM: the server speaks HTTPS. */
  readonly tls?: { readonly cert: string | Uint8Array; readonly key: string | Uint8Array }
  /** Listens on any host without API keys, for everybody who reaches it. `false` by default. */
  readonly insecure?: boolean
  /** Origins whose pages are answered besides those of the server's own: `https://app.example.com`. None by default. */
  readonly corsOrigins?: ReadonlyArray<string>
  /**
   * Names under which browsers reach the server: `ironflow.example.com`, with a port for that one only. Those of loopback and
   * addresses always are; programs that are no browsers may use any.
   */
  readonly allowedHosts?: ReadonlyArray<string>
  /** Bytes of the body of a client's request; a little over the largest payload (4 MiB) by default. */
  readonly maxBodyBytes?: number
  /** Bytes of the body of a worker's request, which may carry several results; 16 MiB by default. */
  readonly maxReportBytes?: number
  /** Bytes of all headers of a request; 16 KiB by default. */
  readonly maxHeaderBytes?: number
  /** Milliseconds in which the headers, and then the body, have to arrive; 30000 by default, an hour at most. */
  readonly bodyTimeoutMs?: number
  /** Connections at once; more are closed. 10000 by default. */
  readonly maxConnections?: number
  /**
   * How long a worker may be silent before its runs go to others; `"15s"` by default, from 3 seconds to an hour. It aborts
   * them itself two seconds earlier.
   */
  readonly leaseTerm?: Duration
  /**
   * The pages under `/console/`; `true` by default. `false` leaves them out. With `base` a proxy has the engine under that path:
   * with `{ base: "/ironflow" }` the console is at `/ironflow/console/` for browsers.
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
    /** The path under which a proxy has the engine, or nothing; `undefined` when there is no console. */
    readonly consoleBase: string | undefined
  }

const MIN_LEASE_MS = 3000
const MAX_LEASE_MS = 3_600_000
const MAX_BODY_TIMEOUT_MS = 3_600_000

/** What the server takes, unless the options say otherwise. */
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
    leaseTerm: positiveDuration(options.leaseTerm ?? "15s", "leaseTerm of the engine"),
    consoleBase: consoleBaseOf(pages)
  }
  const { leaseTerm, port } = resolved
  if (leaseTerm < MIN_LEASE_MS || leaseTerm > MAX_LEASE_MS) {
    throw new ValidationError(
      `\`leaseTerm\` must be from ${formatDuration(MIN_LEASE_MS)} to ${formatDuration(MAX_LEASE_MS)}, got ${formatDuration(leaseTerm)}`
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
      throw new ValidationError(`\`${name}\` must be a positive integer, got ${show(resolved[name])}`)
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
  // browsers take the segments `.` and `..` away
  if (typeof base === "string" && /^(\/(?!\.{1,2}(\/|$))[\w.~-]+)*\/?$/.test(base))
    return base.replace(/\/$/, "")
  throw new ValidationError(
    `The \`base\` of the console must be the path under which a proxy has the engine, like "/ironflow", got ${show(base)}`
  )
}

export const checkHost = ({ host, insecure }: ResolvedOptions, hasKeys: boolean): void => {
  if (isLoopback(host) || insecure || hasKeys) return
  throw new ValidationError(
    `The engine does not listen on "${host}" without API keys: everybody who reaches the port could run and read everything. ` +
      "Make a key with `ironflow apikeys create` or IRONFLOW_BOOTSTRAP_KEY, listen on 127.0.0.1, or set `insecure: true` if something else guards the port"
  )
}
