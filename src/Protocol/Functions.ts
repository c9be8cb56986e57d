/** Functions that an engine knows: how they travel, and the calls about them. */
import type { RetryConfig } from "../Backoff.ts"
import { FunctionNotFoundError, InvalidStateError } from "../Errors.ts"
import type { KeptRuns } from "../KeepRuns.ts"
import { type Overlap, overlaps } from "../Overlap.ts"
import {
  among,
  anyOf,
  eitherCase,
  fields,
  filled,
  flag,
  integer,
  json,
  list,
  number,
  object,
  oneOf,
  optional,
  orElse,
  some,
  struct,
  text
} from "./Codec.ts"
import { each, inBody, operation, row } from "./Row.ts"
import { RunAnswer } from "./Runs.ts"
import { type Versioning, versionings } from "../Versioning.ts"

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** A function as it is registered. Times are ISO strings. */
export interface FunctionInfo {
  /** Id of the function. */
  readonly id: string
  /** What it is called. */
  readonly name: string
  /** What starts it. */
  readonly triggers: ReadonlyArray<FunctionTrigger>
  /** One more with every change of configuration or code. */
  readonly version: number
  /** Made of its code: another one when that has changed. */
  readonly codeHash: string
  /** What the code is called: the `version` of its configuration, or else its hash. */
  readonly codeVersion: string
  /** With which code runs go on: with the latest, or with that which they began with. */
  readonly versioning: Versioning
  /** Paths by whose values its runs are found; absent when there are none. */
  readonly searchBy?: ReadonlyArray<string>
  /** Absent unless it is paused: then new runs wait. */
  readonly paused?: FunctionPause
  /** When it was registered for the first time. */
  readonly createdAt: string
  /** When its registration changed last. */
  readonly updatedAt: string
}

/** Since when a function is paused, and by whom. */
export interface FunctionPause {
  /** ISO string. */
  readonly at: string
  /** Who has paused it. */
  readonly by: string
  /** Why, as they have said. */
  readonly reason?: string
}

/** A function as it was registered at some time. */
export interface FunctionVersion {
  /** Which one it is, from 1 up. */
  readonly version: number
  /** Since when, ISO string. */
  readonly at: string
  /** What the code was called. */
  readonly codeVersion: string
  /** What was another in the version before: names of members of `registration`; absent for the first that is kept. */
  readonly changed?: ReadonlyArray<string>
  /** Unfinished runs that are pinned to its `codeVersion`. */
  readonly liveRuns: number
  /** What it was registered with. */
  readonly registration: RegisteredAs
}

/** The configuration of a function, with its defaults, as it is registered: `triggers`, `retry`, `timeoutMs` and so on. */
export interface RegisteredAs {
  readonly [member: string]: unknown
}

/** A version of the code of a function that has unfinished runs, or live workers. */
export interface LiveVersion {
  /** Id of the function. */
  readonly functionId: string
  /** What the code is called. */
  readonly codeVersion: string
  /** Whether it is the one that was registered last, with which new runs begin. */
  readonly isLatest: boolean
  /** Unfinished runs that are pinned to it. */
  readonly liveRuns: number
  /** One of those, the oldest that is known. */
  readonly oldestRunId?: string
  /** The workers that have it now. */
  readonly workerIds: ReadonlyArray<string>
}

export interface FunctionTrigger {
  readonly event?: string
  readonly expression?: string
  readonly cron?: string
  readonly timezone?: string
  readonly overlap?: Overlap
  /** What the data of the event is like, as JSON Schema, where a schema of the function says it; lists leave it out. */
  readonly schema?: { readonly [member: string]: unknown }
  /** The version of the data that `schema` is about; 1 when absent. */
  readonly version?: number
}

/** Where workers put the hash of a function's code in its metadata. */
export const CODE_HASH_KEY = "__ironflow_code_hash"

/** What legacy workers and clients register. */
export interface FunctionRequest {
  readonly id: string
  readonly name?: string
  readonly triggers?: Array<FunctionTrigger>
  readonly retry?: RetryConfig
  readonly timeoutMs?: number
  readonly concurrency?: { readonly limit: number; readonly key?: string }
  readonly preferredMode?: string
  readonly endpointUrl?: string
  readonly actorKey?: string
  readonly searchBy?: Array<string>
  readonly secrets?: Array<string>
  readonly recording?: boolean
  readonly recordingRetention?: string
  readonly version?: string
  readonly versioning?: Versioning
  readonly keepRuns?: KeptRuns
  readonly metadata?: { readonly [name: string]: unknown }
}

/** Legacy servers say the code's hash in the metadata. */
export type FunctionAnswer = FunctionInfo & { readonly metadata?: { readonly [name: string]: unknown } }

const said = orElse(text, "")
const Function = eitherCase(
  fields<FunctionAnswer>({
    id: text,
    name: said,
    triggers: orElse(
      some(
        fields<FunctionTrigger>({
          event: optional(filled),
          expression: optional(filled),
          cron: optional(filled),
          timezone: optional(filled),
          overlap: optional(among(overlaps)),
          schema: optional(object),
          version: optional(integer)
        })
      ),
      []
    ),
    version: orElse(number, 0),
    codeHash: said,
    codeVersion: said,
    versioning: orElse(oneOf(...versionings), "latest"),
    searchBy: optional(some(text)),
    paused: optional(fields<FunctionPause>({ at: text, by: text, reason: optional(text) })),
    createdAt: said,
    updatedAt: said,
    metadata: optional(object)
  })
)
const Functions = eitherCase(
  struct({
    functions: orElse(some(Function), []),
    nextCursor: optional(text)
  })
)
const ConnectFunctions = struct({
  functions: optional(list(Function)),
  totalCount: optional(integer)
})
const Registered = struct({
  function: Function,
  created: optional(flag)
})
const History = eitherCase(
  struct({
    versions: orElse(
      some(
        fields<FunctionVersion>({
          version: integer,
          at: text,
          codeVersion: said,
          changed: optional(list(text)),
          liveRuns: orElse(integer, 0),
          registration: object
        })
      ),
      []
    )
  })
)
const LiveVersions = eitherCase(
  struct({
    versions: orElse(
      some(
        fields<LiveVersion>({
          functionId: text,
          codeVersion: said,
          isLatest: orElse(flag, false),
          liveRuns: orElse(integer, 0),
          oldestRunId: optional(text),
          workerIds: orElse(list(text), [])
        })
      ),
      []
    )
  })
)
const Nothing = fields<object>({})

const OneFunction = struct({ id: text })
export const Trigger = fields<FunctionTrigger>({
  event: optional(text),
  expression: optional(text),
  cron: optional(text),
  timezone: optional(text),
  overlap: optional(among(overlaps)),
  schema: optional(object),
  version: optional(integer)
})
const keptFor = optional(anyOf(integer, oneOf("forever")))
/** How long runs are kept after their end, in milliseconds. */
export const Kept = fields<KeptRuns>({ completed: keptFor, failed: keptFor, cancelled: keptFor })
export const Concurrency = struct({ limit: integer, key: optional(text) })
export const RegisterFunction = fields<FunctionRequest>({
  id: text,
  name: optional(text),
  triggers: optional(list(Trigger)),
  retry: optional(
    fields<RetryConfig>({
      maxAttempts: optional(integer),
      initialDelayMs: optional(number),
      backoffFactor: optional(number),
      maxDelayMs: optional(number),
      jitter: optional(number)
    })
  ),
  timeoutMs: optional(integer),
  concurrency: optional(Concurrency),
  preferredMode: optional(text),
  endpointUrl: optional(text),
  actorKey: optional(text),
  searchBy: optional(list(text)),
  secrets: optional(list(text)),
  recording: optional(flag),
  recordingRetention: optional(text),
  version: optional(text),
  versioning: optional(oneOf(...versionings)),
  keepRuns: optional(Kept),
  metadata: optional(object)
})
const Pause = struct({ reason: optional(text), by: optional(text) })
const Start = struct({ data: optional(json), idempotencyKey: optional(text) })

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

export const registerFunction = operation("IronflowService/RegisterFunction", { answer: Registered })
export const restFunctions = operation("GET /api/v1/functions", { answer: Functions, page: "functions" })
export const getFunction = operation("IronflowService/GetFunction", {
  answer: Function,
  repeats: true,
  missing: FunctionNotFoundError
})
export const deleteFunction = operation("DELETE /api/v1/functions/:id", {
  answer: Nothing,
  ours: true,
  missing: FunctionNotFoundError
})

export const pauseFunction = operation("POST /api/v1/functions/:id/pause", {
  answer: Function,
  ours: true,
  missing: FunctionNotFoundError
})
export const resumeFunction = operation("POST /api/v1/functions/:id/resume", {
  answer: Function,
  ours: true,
  missing: FunctionNotFoundError
})
export const runFunction = operation("POST /api/v1/functions/:id/run", {
  answer: RunAnswer,
  ours: true,
  missing: FunctionNotFoundError
})

export const functionHistory = operation("GET /api/v1/functions/:id/history", {
  answer: History,
  ours: true,
  missing: FunctionNotFoundError
})
export const liveVersions = operation("GET /api/v1/function-versions", {
  answer: LiveVersions,
  ours: true,
  missing: FunctionNotFoundError
})
/** What asks for the live versions of one function. */
export const liveVersionsOf = (functionId: string) => ({ function_id: functionId })

export const rows = {
  /** Registers a function, or changes what it is. */
  registerFunction: row(registerFunction, inBody("function:register", "function", "id"), {
    body: RegisterFunction
  }),
  /** One function. */
  getFunction: row(getFunction, inBody("function:read", "function", "id"), { body: OneFunction }),
  /** The functions. */
  listFunctions: row("IronflowService/ListFunctions", each("function:read", "function"), {
    body: Nothing,
    answer: ConnectFunctions,
    repeats: true
  }),
  /** The functions. */
  restFunctions: row(restFunctions, "function:read"),
  /** Nothing starts the function any more, until a worker registers it. */
  deleteFunction: row(deleteFunction, "function:delete", { errors: { 409: InvalidStateError } }),
  /** New runs of the function wait from now on, and its schedules start none; runs that have begun go on. */
  pauseFunction: row(pauseFunction, "function:pause", { body: Pause }),
  /** Lets the runs of a paused function begin. */
  resumeFunction: row(resumeFunction, "function:resume"),
  /** Starts a run of the function, without an event. */
  runFunction: row(runFunction, "function:run", { body: Start }),
  /** How a function was registered, newest first. */
  functionHistory: row(functionHistory, "function:read"),
  /** The versions of functions that have unfinished runs, or live workers. */
  liveVersions: row(liveVersions, each("function:read", "function"), { query: ["function_id"] })
}
