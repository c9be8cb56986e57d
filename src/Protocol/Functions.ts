/** Registered functions: their messages and calls. */
import type { RetryConfig } from "../Backoff.ts"
import { FunctionNotFoundError, InvalidStateError } from "../Errors.ts"
import type { KeptRuns } from "../KeepRuns.ts"
import { type Overlap, overlaps } from "../Overlap.ts"
import {
  oneOfList,
  anyOf,
  camelOrSnake,
  fields,
  nonEmptyText,
  flag,
  integer,
  json,
  lenientList,
  list,
  number,
  object,
  oneOf,
  optional,
  orElse,
  struct,
  text
} from "./Codec.ts"
import { each, inBody, operation, callSpec } from "./CallSpec.ts"
import { RunAnswer } from "./Runs.ts"
import { type Versioning, versionings } from "../Versioning.ts"

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** A registered function. Times are ISO strings. */
export interface FunctionInfo {
  /** Id of the function. */
  readonly id: string
  /** Display name. */
  readonly name: string
  /** The triggers of the function. */
  readonly triggers: ReadonlyArray<FunctionTrigger>
  /** Number of the registration. It grows with every change of the configuration or the code. */
  readonly version: number
  /** Hash of its code; it changes with the code. */
  readonly codeHash: string
  /** Version of the code: the `version` in its configuration, or else the hash. */
  readonly codeVersion: string
  /** Whether runs continue with the latest code, or with the version that they began with. */
  readonly versioning: Versioning
  /** Paths of searchable values; absent when there are none. */
  readonly searchBy?: ReadonlyArray<string>
  /** The pause of the function; absent when it is not paused. New runs wait until the function is resumed. */
  readonly paused?: FunctionPause
  /** When it was first registered. */
  readonly createdAt: string
  /** When its registration last changed. */
  readonly updatedAt: string
}

/** The pause of a function: when, by whom and why. */
export interface FunctionPause {
  /** When it was paused, as an ISO string. */
  readonly at: string
  /** Who paused it. */
  readonly by: string
  /** Why it was paused, if a reason was given. */
  readonly reason?: string
}

/** A former or current registration of a function. */
export interface FunctionVersion {
  /** Number of the registration, from 1. */
  readonly version: number
  /** When it was registered, as an ISO string. */
  readonly at: string
  /** Version of the code. */
  readonly codeVersion: string
  /**
   * Members of `registration` that differ from the version before; absent for the first version that is kept.
   */
  readonly changed?: ReadonlyArray<string>
  /** Number of unfinished runs pinned to its `codeVersion`. */
  readonly liveRuns: number
  /** The registered configuration. */
  readonly registration: RegisteredAs
}

/** The registered configuration of a function, with defaults: `triggers`, `retry`, `timeoutMs` and so on. */
export interface RegisteredAs {
  readonly [member: string]: unknown
}

/** A version of a function's code that has unfinished runs or live workers. */
export interface LiveVersion {
  /** Id of the function. */
  readonly functionId: string
  /** Version of the code. */
  readonly codeVersion: string
  /** Whether it is the version that was registered last, with which new runs begin. */
  readonly isLatest: boolean
  /** Number of unfinished runs pinned to this version. */
  readonly liveRuns: number
  /** Id of the oldest of these runs, as far as known. */
  readonly oldestRunId?: string
  /** Ids of the live workers that have this version. */
  readonly workerIds: ReadonlyArray<string>
}

export interface FunctionTrigger {
  readonly event?: string
  readonly expression?: string
  readonly cron?: string
  readonly timezone?: string
  readonly overlap?: Overlap
  /** JSON Schema of the event's data, if a schema of the function describes it; lists leave it out. */
  readonly schema?: { readonly [member: string]: unknown }
  /** The schema version of the data that `schema` describes; 1 when absent. */
  readonly version?: number
}

/** The metadata key in which workers send the hash of a function's code. */
export const CODE_HASH_KEY = "__ironflow_code_hash"

/** A registration by legacy workers and clients. */
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

/** A function in an answer. Legacy servers send the hash of its code in `metadata`, under {@link CODE_HASH_KEY}. */
export type FunctionAnswer = FunctionInfo & { readonly metadata?: { readonly [name: string]: unknown } }

const textOrEmpty = orElse(text, "")
const Function = camelOrSnake(
  fields<FunctionAnswer>({
    id: text,
    name: textOrEmpty,
    triggers: orElse(
      lenientList(
        fields<FunctionTrigger>({
          event: optional(nonEmptyText),
          expression: optional(nonEmptyText),
          cron: optional(nonEmptyText),
          timezone: optional(nonEmptyText),
          overlap: optional(oneOfList(overlaps)),
          schema: optional(object),
          version: optional(integer)
        })
      ),
      []
    ),
    version: orElse(number, 0),
    codeHash: textOrEmpty,
    codeVersion: textOrEmpty,
    versioning: orElse(oneOf(...versionings), "latest"),
    searchBy: optional(lenientList(text)),
    paused: optional(fields<FunctionPause>({ at: text, by: text, reason: optional(text) })),
    createdAt: textOrEmpty,
    updatedAt: textOrEmpty,
    metadata: optional(object)
  })
)
const Functions = camelOrSnake(
  struct({
    functions: orElse(lenientList(Function), []),
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
const History = camelOrSnake(
  struct({
    versions: orElse(
      lenientList(
        fields<FunctionVersion>({
          version: integer,
          at: text,
          codeVersion: textOrEmpty,
          changed: optional(list(text)),
          liveRuns: orElse(integer, 0),
          registration: object
        })
      ),
      []
    )
  })
)
const LiveVersions = camelOrSnake(
  struct({
    versions: orElse(
      lenientList(
        fields<LiveVersion>({
          functionId: text,
          codeVersion: textOrEmpty,
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
  overlap: optional(oneOfList(overlaps)),
  schema: optional(object),
  version: optional(integer)
})
const keptFor = optional(anyOf(integer, oneOf("forever")))
/** How long runs are kept after their end, by status: milliseconds, or `forever`. */
export const KeptRunsCodec = fields<KeptRuns>({ completed: keptFor, failed: keptFor, cancelled: keptFor })
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
  keepRuns: optional(KeptRunsCodec),
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
  notFoundError: FunctionNotFoundError
})
export const deleteFunction = operation("DELETE /api/v1/functions/:id", {
  answer: Nothing,
  onlyOurEngine: true,
  notFoundError: FunctionNotFoundError
})

export const pauseFunction = operation("POST /api/v1/functions/:id/pause", {
  answer: Function,
  onlyOurEngine: true,
  notFoundError: FunctionNotFoundError
})
export const resumeFunction = operation("POST /api/v1/functions/:id/resume", {
  answer: Function,
  onlyOurEngine: true,
  notFoundError: FunctionNotFoundError
})
export const runFunction = operation("POST /api/v1/functions/:id/run", {
  answer: RunAnswer,
  onlyOurEngine: true,
  notFoundError: FunctionNotFoundError
})

export const functionHistory = operation("GET /api/v1/functions/:id/history", {
  answer: History,
  onlyOurEngine: true,
  notFoundError: FunctionNotFoundError
})
export const liveVersions = operation("GET /api/v1/function-versions", {
  answer: LiveVersions,
  onlyOurEngine: true,
  notFoundError: FunctionNotFoundError
})
/** The query for the live versions of one function. */
export const liveVersionsOf = (functionId: string) => ({ function_id: functionId })

export const callSpecs = {
  /** Registers or updates a function. */
  registerFunction: callSpec(registerFunction, inBody("function:register", "function", "id"), {
    body: RegisterFunction
  }),
  /** Returns a function. */
  getFunction: callSpec(getFunction, inBody("function:read", "function", "id"), { body: OneFunction }),
  /** Lists the functions. */
  listFunctions: callSpec("IronflowService/ListFunctions", each("function:read", "function"), {
    body: Nothing,
    answer: ConnectFunctions,
    repeats: true
  }),
  /** Lists the functions. */
  restFunctions: callSpec(restFunctions, "function:read"),
  /** Unregisters a function: nothing starts it until a worker registers it again. */
  deleteFunction: callSpec(deleteFunction, "function:delete", { errors: { 409: InvalidStateError } }),
  /** Pauses a function: new runs wait, and the schedules of the function start no runs. Runs that have started continue. */
  pauseFunction: callSpec(pauseFunction, "function:pause", { body: Pause }),
  /** Resumes a paused function; the runs that have waited start. */
  resumeFunction: callSpec(resumeFunction, "function:resume"),
  /** Starts a run of the function, without an event. */
  runFunction: callSpec(runFunction, "function:run", { body: Start }),
  /** Returns the registration history of a function, newest first. */
  functionHistory: callSpec(functionHistory, "function:read"),
  /** Lists each version that still has unfinished runs or live workers, of all functions or of one (`function_id`). */
  liveVersions: callSpec(liveVersions, each("function:read", "function"), { query: ["function_id"] })
}
