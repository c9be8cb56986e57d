/** Projections for users and operators: their messages and calls. */
import { EventNotFoundError, InvalidStateError, ProjectionNotFoundError } from "../Errors.ts"
import type { RunError } from "../RunError.ts"
import {
  oneOfList,
  nonNullJson,
  merge,
  camelOrSnake,
  exact,
  fields,
  nonEmptyText,
  flag,
  integer,
  json,
  lenientList,
  list,
  oneOf,
  optional,
  orElse,
  snaked,
  struct,
  text,
  time
} from "./Codec.ts"
import { inBody, inPath, operation, callSpec, waiting } from "./CallSpec.ts"

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** `managed`: the engine stores the state. `external`: the handler itself does something outside, and the engine stores no state. */
export type ProjectionMode = "managed" | "external"

/** `error` while a failed event is being retried; dead letters do not make the status `error`. */
export const projectionStatuses = ["active", "rebuilding", "paused", "error"] as const
/** Status of a projection. */
export type ProjectionStatus = (typeof projectionStatuses)[number]

/** The state of one partition. Times are ISO strings. */
// oxlint-disable-next-line typescript/no-explicit-any -- what the state is depends on the projection
export interface ProjectionStateResult<S = any> {
  /** Name of the projection. */
  readonly name: string
  /** Name of the partition; `__global__` for a projection without partitions. */
  readonly partition: string
  /**
   * The state. For an external projection it is `{}`. As long as nothing was projected in the partition, `version` is 0, and
   * the state is what the option `initialState` of `get` returns, or `{}` without this option. `{}` may not be of type `S`.
   */
  readonly state: S
  /** Id of the last event in the state; absent when there is none. */
  readonly lastEventId?: string
  /** When that event was stored. */
  readonly lastEventTime?: string
  /** Position of that event; 0 when there is none. For an external projection, everything up to this position is done. */
  readonly lastEventSeq: number
  /** Number of saves of the state. */
  readonly version: number
  /** Whether the projection is managed or external. */
  readonly mode: ProjectionMode
  /** Status of the projection. */
  readonly status: ProjectionStatus
  /** Message of the last error of the projection. */
  readonly errorMessage?: string
  /** When the state was last saved. */
  readonly updatedAt: string
}

/** Status of a projection: a sentence, and the facts behind it. Times are ISO strings. */
export interface ProjectionStatusInfo {
  /** Name of the projection. */
  readonly name: string
  /** Whether the projection is managed or external. */
  readonly mode: ProjectionMode
  /** Status of the projection. */
  readonly status: ProjectionStatus
  /** The status as a sentence. */
  readonly message: string
  /** Names and patterns of its events. */
  readonly events: ReadonlyArray<string>
  /** Dotted path of the value that names the partition; absent without partitions, or when a function returns their names. */
  readonly partitionKey?: string
  /** Everything up to this position is projected. */
  readonly lastEventSeq: number
  /** Number of events of the projection that are stored and not projected yet. */
  readonly lag: number
  /** Id of the worker that owns the projection; absent when no worker owns it. */
  readonly owner?: string
  /** Generation; it grows with every claim and every rebuild. */
  readonly generation: number
  /** Who paused it; absent unless it is paused. */
  readonly pausedBy?: string
  /** When it was paused. */
  readonly pausedAt?: string
  /** Why it was paused. */
  readonly pauseReason?: string
  /** The position at which the rebuild is complete; absent when the projection is not being rebuilt. */
  readonly rebuildTo?: number
  /** Message of the last error, even if a retry has succeeded since. */
  readonly errorMessage?: string
  /** The last error, with its position in the log and its time. */
  readonly lastError?: RunError & { readonly position: number; readonly at: string }
  /** The failed event that is being retried, and its number of failures. */
  readonly failing?: { readonly position: number; readonly failures: number }
  /** Number of dead letters. */
  readonly deadLetters: number
  /** Number of saves that were refused, for example because their worker was no longer the owner. */
  readonly refusedSaves: number
  /** When it was first registered. */
  readonly createdAt: string
  /** When any of this last changed. */
  readonly updatedAt: string
}

/** An event that a projection has given up. */
export interface DeadLetter {
  /** Position of the event in the log; what `retryDeadLetter` takes. */
  readonly position: number
  /** The event. Its `timestamp` is an ISO string. */
  readonly event: {
    readonly id: string
    readonly name: string
    readonly version: number
    readonly data: unknown
    readonly timestamp: string
  }
  /** The error of the last attempt. */
  readonly error: RunError
  /** Number of attempts. */
  readonly attempts: number
  /** When it became a dead letter, as an ISO string. */
  readonly failedAt: string
  /** Whether a retry was requested that the worker has not made yet. */
  readonly retrying: boolean
}

/** Options of `pause`. */
export interface PauseProjectionOptions {
  /** Who pauses the projection, shown with its status; "a client" by default. */
  readonly by?: string
  /** Why the projection is paused, shown with its status; none by default. */
  readonly reason?: string
}

/** The stored row of a partition. */
interface StateRow {
  readonly partitionKey: string
  readonly state: unknown
  readonly lastEventId: string
  readonly lastEventSeq: number
  readonly lastEventTime: string
  readonly version: number
  /** Only in a list of changes. The number grows with each saved state of the projection. */
  readonly revision?: number
  readonly updatedAt: string
}

/** The state of a partition in an answer; `state` is absent when nothing was saved. */
interface Envelope {
  readonly name: string
  readonly version: number
  readonly mode: ProjectionMode
  readonly status: ProjectionStatus
  readonly lastEventSeq: number
  readonly updatedAt: string
  readonly errorMessage?: string
  readonly state?: RowAddress & StateRow
}

/** Where a stored row belongs. Legacy servers leave these fields out. */
interface RowAddress {
  readonly projectionName?: string
  readonly environmentId?: string
}

/** A page of the states that have changed since a cursor, with their current values. */
interface Changes extends Pick<Envelope, "mode" | "status" | "errorMessage"> {
  readonly cursor: string
  /** The partition after which the next page begins; absent on the last page. */
  readonly next?: string
  readonly states: ReadonlyArray<StateRow>
}

/** Progress of a rebuild. */
export interface Rebuild {
  readonly projectionName: string
  readonly status: string
  readonly lastEventSeq: number
  readonly targetSeq?: number
  readonly remainingEvents: number
}

/** Whether a projection has reached the position `targetSeq`. */
export interface CatchupAnswer {
  readonly caughtUp: boolean
  readonly timedOut: boolean
  readonly currentSeq: number
  readonly targetSeq: number
  readonly behindByEvents: number
  readonly rebuilding?: boolean
  readonly mode?: ProjectionMode
  /** The status of the projection as a sentence; only if the projection has not reached the position. */
  readonly message?: string
}

/** A number; 0 when a legacy server leaves it out. */
const count = orElse(integer, 0)
const timeOrEmpty = orElse(time, "")
const mode = orElse(oneOf<ProjectionMode>("managed", "external"), "managed")
const status = orElse(oneOfList(projectionStatuses), "active")

export const Status = camelOrSnake(
  snaked<ProjectionStatusInfo>({
    name: nonEmptyText,
    mode,
    status,
    message: orElse(nonEmptyText, ""),
    events: orElse(lenientList(text), []),
    partitionKey: optional(text),
    lastEventSeq: exact(count),
    lag: count,
    owner: optional(nonEmptyText),
    generation: count,
    pausedBy: optional(nonEmptyText),
    pausedAt: optional(time),
    pauseReason: optional(nonEmptyText),
    rebuildTo: optional(integer),
    errorMessage: optional(nonEmptyText),
    lastError: optional(nonNullJson<NonNullable<ProjectionStatusInfo["lastError"]>>()),
    failing: optional(nonNullJson<NonNullable<ProjectionStatusInfo["failing"]>>()),
    deadLetters: count,
    refusedSaves: count,
    createdAt: timeOrEmpty,
    updatedAt: exact(timeOrEmpty)
  })
)
const StateRowAnswer = snaked<StateRow>({
  partitionKey: orElse(nonEmptyText, ""),
  state: json,
  lastEventId: orElse(nonEmptyText, ""),
  lastEventSeq: count,
  lastEventTime: timeOrEmpty,
  version: count,
  revision: optional(integer),
  updatedAt: timeOrEmpty
})
export const ProjectionState = snaked<Envelope>({
  name: orElse(nonEmptyText, ""),
  version: count,
  mode,
  status,
  lastEventSeq: count,
  updatedAt: timeOrEmpty,
  errorMessage: optional(nonEmptyText),
  state: optional(
    merge(
      snaked<RowAddress>({ projectionName: optional(text), environmentId: optional(text) }),
      StateRowAnswer
    )
  )
})
/** The state in the data of `system.projection.<name>.<partition>.updated`, as our engine emits it. */
export const StateUpdated = snaked<ProjectionStateResult>({
  name: text,
  partition: text,
  state: json,
  lastEventId: optional(text),
  lastEventTime: optional(text),
  lastEventSeq: count,
  version: count,
  mode,
  status,
  errorMessage: optional(text),
  updatedAt: orElse(text, "")
})
export const ProjectionChanges = snaked<Changes>({
  mode,
  status,
  errorMessage: optional(nonEmptyText),
  cursor: text,
  next: optional(text),
  states: lenientList(StateRowAnswer)
})

const RebuildAnswer = snaked<Rebuild>({
  projectionName: text,
  status: text,
  lastEventSeq: integer,
  targetSeq: optional(integer),
  remainingEvents: integer
})
/** Progress of a rebuild, with the whole status. */
const Rebuilding = merge(RebuildAnswer, Status)
const CatchupResult = fields<CatchupAnswer>({
  caughtUp: flag,
  timedOut: orElse(flag, false),
  currentSeq: count,
  targetSeq: count,
  behindByEvents: count,
  rebuilding: optional(flag),
  mode: optional(oneOf("managed", "external")),
  message: optional(nonEmptyText)
})
const CatchupResults = struct({
  results: list(
    struct({
      result: optional(CatchupResult),
      error: optional(struct({ code: text, message: text }))
    })
  )
})
const DeadLetters = snaked<{ deadLetters: Array<DeadLetter> }>({
  deadLetters: list(nonNullJson<DeadLetter>())
})
const Retrying = struct({ retrying: count })

export const Pause = fields<PauseProjectionOptions>({ by: optional(text), reason: optional(text) })
/**
 * Options of a rebuild. Legacy servers can rebuild one `partition`, or begin at an event. The engine of this
 * package refuses both options: it rebuilds only whole projections.
 */
export interface RebuildOptions {
  readonly partition?: string
  readonly fromEventId?: string
  readonly dryRun?: boolean
}
export const RebuildRequest = fields<RebuildOptions>({
  partition: optional(text),
  fromEventId: optional(text),
  dryRun: optional(flag)
})
const RetryLetters = struct({ position: optional(integer) })
export interface WaitForPosition {
  readonly name: string
  readonly minSeq: number
  readonly partition?: string
}
export const Position = fields<WaitForPosition>({ name: text, minSeq: integer, partition: optional(text) })
export const Timeout = struct({ timeoutMs: optional(integer) })
const CatchupBatch = merge(struct({ items: list(Position) }), Timeout)
export interface WaitForEvent {
  readonly eventId: string
  readonly projection: string
  readonly timeoutMs?: number
  readonly partition?: string
}
export const EventWait = fields<WaitForEvent>({
  eventId: text,
  projection: text,
  timeoutMs: optional(integer),
  partition: optional(text)
})

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

export const listProjections = operation("GET /api/v1/projections", {
  answer: list(Status),
  page: "projections"
})
export const restGetProjection = operation("GET /api/v1/projections/:name", {
  answer: ProjectionState,
  notFoundError: ProjectionNotFoundError
})
export const deleteProjection = operation("DELETE /api/v1/projections/:name", {
  notFoundError: ProjectionNotFoundError
})
export const projectionStatus = operation("GET /api/v1/projections/:name/status", {
  answer: Status,
  notFoundError: ProjectionNotFoundError
})
export const rebuildProjection = operation("POST /api/v1/projections/:name/rebuild", {
  answer: Rebuilding,
  notFoundError: ProjectionNotFoundError
})
export const pauseProjection = operation("POST /api/v1/projections/:name/pause", {
  answer: Status,
  notFoundError: ProjectionNotFoundError
})
export const resumeProjection = operation("POST /api/v1/projections/:name/resume", {
  answer: Status,
  notFoundError: ProjectionNotFoundError
})
export const projectionCatchup = operation("GET /api/v1/projections/:name/catchup", {
  answer: CatchupResult,
  notFoundError: ProjectionNotFoundError
})
export const projectionChanges = operation("GET /api/v1/projections/:name/changes", {
  answer: ProjectionChanges,
  notFoundError: ProjectionNotFoundError,
  onlyOurEngine: true
})
export const deadLetters = operation("GET /api/v1/projections/:name/dead-letters", {
  answer: DeadLetters,
  notFoundError: ProjectionNotFoundError,
  onlyOurEngine: true
})
export const retryDeadLetters = operation("POST /api/v1/projections/:name/dead-letters/retry", {
  answer: Retrying,
  notFoundError: ProjectionNotFoundError,
  onlyOurEngine: true
})

const letterNotFound = { 409: InvalidStateError } as const
export const eventNotFound = { 404: EventNotFoundError } as const

export const callSpecs = {
  /** Lists the status of all projections, sorted by name. */
  listProjections: callSpec(listProjections, "projection:read"),
  /** Returns the state of a `partition`. */
  restGetProjection: callSpec(restGetProjection, "projection:read", { query: ["partition"] }),
  /** Deletes a projection and its states. A worker that still runs the projection computes it again from the start of the log. */
  deleteProjection: callSpec(deleteProjection, "projection:manage"),
  /** Returns the status of a projection. */
  projectionStatus: callSpec(projectionStatus, "projection:read"),
  /** Rebuilds a projection from the start of the log: resets its position and deletes its dead letters. With `dryRun` it only returns the status. */
  rebuildProjection: callSpec(rebuildProjection, "projection:manage", { body: RebuildRequest }),
  /** Returns the progress of a rebuild. */
  projectionRebuild: callSpec("GET /api/v1/projections/:name/rebuild", "projection:read", {
    answer: RebuildAnswer,
    notFoundError: ProjectionNotFoundError
  }),
  /** Always fails: a rebuild resets the projection at its start, and so cannot be cancelled. */
  cancelRebuild: callSpec("POST /api/v1/projections/:name/cancel", "projection:manage", {
    answer: RebuildAnswer,
    errors: { 409: InvalidStateError }
  }),
  /** Pauses a projection; the worker may still save its current batch. */
  pauseProjection: callSpec(pauseProjection, "projection:manage", { body: Pause }),
  /** Resumes a projection where it stopped. */
  resumeProjection: callSpec(resumeProjection, "projection:manage"),
  /** Answers when the projection has reached `minSeq`, or after `timeout` milliseconds, at most 30 s. */
  projectionCatchup: callSpec(projectionCatchup, waiting(inPath("projection:read", "projection", "name")), {
    query: ["minSeq", "timeout"]
  }),
  /** Answers when each of several projections has reached its `minSeq`, or after `timeoutMs`, at most 30 s. */
  projectionCatchupBatch: callSpec(
    "POST /api/v1/projections/catchup/batch",
    {
      action: "projection:read",
      resource: { from: "body", kind: "projection", members: ["name"], each: "items" },
      mayWait: true
    },
    { body: CatchupBatch, answer: CatchupResults, repeats: true }
  ),
  /** Answers when the projection has processed the event, or after `timeoutMs`, at most 30 s. */
  projectionWaitForEvent: callSpec(
    "POST /api/v1/projections/wait-for-event",
    waiting(inBody("projection:read", "projection", "projection")),
    {
      body: EventWait,
      answer: CatchupResult,
      notFoundError: ProjectionNotFoundError,
      errors: eventNotFound,
      repeats: true
    }
  ),
  /** Lists the states that have changed `since` a cursor, with their current values, in pages; `after` is a partition. */
  projectionChanges: callSpec(projectionChanges, "projection:read", {
    query: ["since", "partition", "after", "limit"]
  }),
  /** Lists the dead letters by their position in the log; `after` is such a position. */
  deadLetters: callSpec(deadLetters, "projection:read", { query: ["after", "limit"] }),
  /** Retries the dead letter at `position` once; without `position`, all dead letters of the projection. */
  retryDeadLetters: callSpec(retryDeadLetters, "projection:manage", {
    body: RetryLetters,
    errors: letterNotFound
  })
}
