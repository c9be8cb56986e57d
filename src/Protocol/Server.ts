/** The server: its version, features, health and load. */
import { all, operation, callSpec } from "./CallSpec.ts"
import {
  oneOfList,
  camelOrSnake,
  entries,
  fields,
  integer,
  lenientList,
  object,
  omittedWhen,
  optional,
  orElse,
  struct,
  text
} from "./Codec.ts"

/** Features of a server. */
export interface ServerCapabilities {
  /** The transports that workers can use. */
  readonly transports: ReadonlyArray<string>
  /** Names of the optional features that the server has. */
  readonly features: ReadonlyArray<string>
  /** Version of the server. */
  readonly version: string
}

const textOrEmpty = orElse(text, "")
const strings = orElse(lenientList(text), [])
const Capabilities = camelOrSnake(
  fields<ServerCapabilities>({ transports: strings, features: strings, version: textOrEmpty })
)
const components = optional(entries(struct({ status: text, message: text })))
const HealthAnswer = struct({ status: text, components, timestamp: textOrEmpty })
const RestHealth = struct({
  status: text,
  components,
  timestamp: textOrEmpty,
  version: textOrEmpty
})
const InfoAnswer = struct({
  version: text,
  startedAt: text,
  functionCount: omittedWhen(0, integer),
  activeRuns: omittedWhen(0, integer),
  connectedWorkers: omittedWhen(0, integer)
})
/** Counts for one minute, over all environments. */
export interface Minute {
  /** When the minute began, as an ISO string. */
  readonly at: string
  /** Number of runs that were created. */
  readonly started: number
  /** Number of runs that completed. */
  readonly completed: number
  /** Number of runs that failed. */
  readonly failed: number
  /** Number of runs that were cancelled. */
  readonly cancelled: number
  /** Number of retried attempts. */
  readonly retried: number
  /** Number of leases that were lost. */
  readonly lost: number
  /** Number of reports that came too late. */
  readonly stale: number
  /** Number of turns that ended. */
  readonly turns: number
  /** Number of steps that ended. */
  readonly steps: number
  /** The longest time that a run waited for its first turn, in milliseconds. */
  readonly longestWaitMs: number
  /** The longest time from the creation of a run to its end, in milliseconds. */
  readonly longestRunMs: number
}

const integerOrZero = orElse(integer, 0)
const Minutes = fields<{ minutes: ReadonlyArray<Minute> }>({
  minutes: omittedWhen(
    [],
    lenientList(
      fields<Minute>({
        at: text,
        started: integerOrZero,
        completed: integerOrZero,
        failed: integerOrZero,
        cancelled: integerOrZero,
        retried: integerOrZero,
        lost: integerOrZero,
        stale: integerOrZero,
        turns: integerOrZero,
        steps: integerOrZero,
        longestWaitMs: integerOrZero,
        longestRunMs: integerOrZero
      })
    )
  )
})
const checkStatuses = ["ok", "warn", "fail"] as const

/** The result of a check of `doctor`, and advice. */
export interface DoctorCheck {
  /** What was checked, such as `disk`, `clock` or `keys`. */
  readonly name: string
  /** `warn`: needs attention; `fail`: does harm now, or soon. */
  readonly status: (typeof checkStatuses)[number]
  /** The result as sentences. */
  readonly message: string
  /** What to do; absent when nothing is needed. */
  readonly advice?: string
}

const Checks = fields<{ checks: ReadonlyArray<DoctorCheck> }>({
  checks: lenientList(
    fields<DoctorCheck>({
      name: text,
      status: oneOfList(checkStatuses),
      message: text,
      advice: optional(text)
    })
  )
})
const Nothing = fields<object>({})

export const restCapabilities = operation("GET /api/v1/capabilities", { answer: Capabilities })
/** The answer is the bytes of a backup. */
export const backup = operation("POST /api/v1/backup", { answer: text, onlyOurEngine: true })
export const doctor = operation("GET /api/v1/doctor", { answer: Checks, onlyOurEngine: true })
export const health = operation("IronflowService/Health", { answer: HealthAnswer })
export const minutes = operation("GET /api/v1/metrics/minutes", { answer: Minutes })
export const info = operation("IronflowService/Info", { answer: InfoAnswer, repeats: true })
export const ready = operation("GET /ready", { answer: RestHealth })
export const restHealth = operation("GET /health", { answer: RestHealth })

const readRule = all("engine:read", "engine")

export const callSpecs = {
  /** Returns version, start time and load of the server. */
  info: callSpec(info, readRule, { body: Nothing }),
  /** Returns the features of the server. */
  getCapabilities: callSpec("IronflowService/GetCapabilities", readRule, {
    body: Nothing,
    answer: Capabilities,
    repeats: true
  }),
  /** Returns the features of the server. */
  restCapabilities: callSpec(restCapabilities, readRule),
  /** Returns counts for each minute of the last day, oldest first; minutes without activity are left out. */
  minutes: callSpec(minutes, readRule),
  /** Checks the engine, its database and its runs, over all environments, and gives advice. */
  doctor: callSpec(doctor, readRule),
  /** Returns a backup of all environments, as the bytes of a database file. */
  backup: callSpec(backup, all("engine:backup", "engine"), {
    body: Nothing,
    type: "application/octet-stream"
  }),
  /** Returns the health of the server. */
  health: callSpec(health, "public", { body: Nothing }),
  /** Returns the health of the server, with status 503 when it no longer works. */
  restHealth: callSpec(restHealth, "public"),
  /** Returns whether the server accepts calls; with status 503 when it is stopping, or its database cannot be written. */
  ready: callSpec(ready, "public")
}

export const channel = operation("GET /api/v1/channel", { onlyOurEngine: true })

export const sockets = {
  /** Many calls on one connection; `src/Protocol/Http/Channel.ts` describes the protocol. */
  channel: callSpec(channel, "key")
}

export const descriptions = {
  /** Returns metrics for Prometheus. */
  metrics: callSpec("GET /metrics", readRule, {
    answer: text,
    type: "text/plain; version=0.0.4; charset=utf-8"
  }),
  /** Returns the OpenAPI document of all calls. */
  openApi: callSpec("GET /openapi.json", readRule, { answer: object })
}
