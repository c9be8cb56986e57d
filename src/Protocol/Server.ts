/** The server itself: what it is, what it can do, and how it is. */
import { all, operation, row } from "./Row.ts"
import {
  among,
  eitherCase,
  entries,
  fields,
  integer,
  object,
  optional,
  orElse,
  some,
  struct,
  text,
  unless
} from "./Codec.ts"

/** What a server can do. */
export interface ServerCapabilities {
  /** The ways in which workers can be connected. */
  readonly transports: ReadonlyArray<string>
  /** What else it can do that not every server can. */
  readonly features: ReadonlyArray<string>
  /** Its version. */
  readonly version: string
}

const said = orElse(text, "")
const texts = orElse(some(text), [])
const Capabilities = eitherCase(
  fields<ServerCapabilities>({ transports: texts, features: texts, version: said })
)
const components = optional(entries(struct({ status: text, message: text })))
const HealthAnswer = struct({ status: text, components, timestamp: said })
const RestHealth = struct({
  status: text,
  components,
  timestamp: said,
  version: said
})
const InfoAnswer = struct({
  version: text,
  startedAt: text,
  functionCount: unless(0, integer),
  activeRuns: unless(0, integer),
  connectedWorkers: unless(0, integer)
})
/** What happened in a minute, over all environments. */
export interface Minute {
  /** ISO string of when it began. */
  readonly at: string
  /** Runs that were created, and that ended. */
  readonly started: number
  readonly completed: number
  readonly failed: number
  readonly cancelled: number
  /** Attempts that failed and were tried again, leases that were lost, reports that came too late. */
  readonly retried: number
  readonly lost: number
  readonly stale: number
  /** Turns and steps that ended. */
  readonly turns: number
  readonly steps: number
  /** The longest wait of a run for its first turn, and the longest run, milliseconds. */
  readonly longestWaitMs: number
  readonly longestRunMs: number
}

const none = orElse(integer, 0)
const Minutes = fields<{ minutes: ReadonlyArray<Minute> }>({
  minutes: unless(
    [],
    some(
      fields<Minute>({
        at: text,
        started: none,
        completed: none,
        failed: none,
        cancelled: none,
        retried: none,
        lost: none,
        stale: none,
        turns: none,
        steps: none,
        longestWaitMs: none,
        longestRunMs: none
      })
    )
  )
})
const checkStatuses = ["ok", "warn", "fail"] as const

/** What was looked at, how it is, and what to do about it. */
export interface DoctorCheck {
  /** What was looked at: `disk`, `clock`, `keys`. */
  readonly name: string
  /** `warn`: somebody should look at it; `fail`: it does harm now, or is about to. */
  readonly status: (typeof checkStatuses)[number]
  /** What was found, as sentences. */
  readonly message: string
  /** What to do; absent where there is nothing to do. */
  readonly advice?: string
}

const Checks = fields<{ checks: ReadonlyArray<DoctorCheck> }>({
  checks: some(
    fields<DoctorCheck>({
      name: text,
      status: among(checkStatuses),
      message: text,
      advice: optional(text)
    })
  )
})
const Nothing = fields<object>({})

export const restCapabilities = operation("GET /api/v1/capabilities", { answer: Capabilities })
/** Answered with the bytes of a backup. */
export const backup = operation("POST /api/v1/backup", { answer: text, ours: true })
export const doctor = operation("GET /api/v1/doctor", { answer: Checks, ours: true })
export const health = operation("IronflowService/Health", { answer: HealthAnswer })
export const minutes = operation("GET /api/v1/metrics/minutes", { answer: Minutes })
export const info = operation("IronflowService/Info", { answer: InfoAnswer, repeats: true })
export const ready = operation("GET /ready", { answer: RestHealth })
export const restHealth = operation("GET /health", { answer: RestHealth })

const reads = all("engine:read", "engine")

export const rows = {
  /** What the server is, since when, and how much it has to do. */
  info: row(info, reads, { body: Nothing }),
  /** What the server can do. */
  getCapabilities: row("IronflowService/GetCapabilities", reads, {
    body: Nothing,
    answer: Capabilities,
    repeats: true
  }),
  /** What the server can do. */
  restCapabilities: row(restCapabilities, reads),
  /** What happened in each minute of the last day, oldest first, without those in which nothing did. */
  minutes: row(minutes, reads),
  /** Whether anything is wrong with the engine, its database and its runs, of every environment, and what to do about it. */
  doctor: row(doctor, reads),
  /** All that the engine has at this moment, of every environment, as the bytes of a database file. */
  backup: row(backup, all("engine:backup", "engine"), {
    body: Nothing,
    type: "application/octet-stream"
  }),
  /** How the server is. */
  health: row(health, "public", { body: Nothing }),
  /** How the server is: with status 503 when it does nothing any more. */
  restHealth: row(restHealth, "public"),
  /** Whether the server takes calls: with status 503 when it is about to stop, or its database cannot be written. */
  ready: row(ready, "public")
}

export const channel = operation("GET /api/v1/channel", { ours: true })

export const sockets = {
  /** Many calls on one connection; `src/Protocol/Http/Channel.ts` says how. */
  channel: row(channel, "key")
}

export const descriptions = {
  /** Figures for Prometheus. */
  metrics: row("GET /metrics", reads, { answer: text, type: "text/plain; version=0.0.4; charset=utf-8" }),
  /** This document. */
  openApi: row("GET /openapi.json", reads, { answer: object })
}
