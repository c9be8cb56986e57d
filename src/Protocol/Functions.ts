/** Functions that an engine knows: how they travel, and the calls about them. */
import type { RetryConfig } from "../Backoff.ts"
import { FunctionNotFoundError, InvalidStateError } from "../Errors.ts"
import { type Overlap, overlaps } from "../Overlap.ts"
import {
  among,
  eitherCase,
  fields,
  filled,
  flag,
  integer,
  list,
  number,
  object,
  optional,
  orElse,
  some,
  struct,
  text
} from "./Codec.ts"
import { each, inBody, operation, row } from "./Row.ts"

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

export interface FunctionInfo {
  readonly id: string
  readonly name: string
  readonly triggers: ReadonlyArray<FunctionTrigger>
  /** One more with every change of configuration or code. */
  readonly version: number
  readonly codeHash: string
  readonly createdAt: string
  readonly updatedAt: string
}

export interface FunctionTrigger {
  readonly event?: string
  readonly expression?: string
  readonly cron?: string
  readonly timezone?: string
  readonly overlap?: Overlap
}

/** Where workers put the hash of a function's code in its metadata. */
export const CODE_HASH_KEY = "__ironflow_code_hash"

/** What existing workers and clients register. */
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
  readonly metadata?: { readonly [name: string]: unknown }
}

/** Other servers say the code's hash in the metadata. */
type FunctionAnswer = FunctionInfo & { readonly metadata?: { readonly [name: string]: unknown } }

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
          overlap: optional(among(overlaps))
        })
      ),
      []
    ),
    version: orElse(number, 0),
    codeHash: said,
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
const Nothing = fields<object>({})

const OneFunction = struct({ id: text })
export const Trigger = fields<FunctionTrigger>({
  event: optional(text),
  expression: optional(text),
  cron: optional(text),
  timezone: optional(text),
  overlap: optional(among(overlaps))
})
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
  metadata: optional(object)
})

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
  deleteFunction: row(deleteFunction, "function:delete", { errors: { 409: InvalidStateError } })
}
