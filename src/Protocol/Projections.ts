/** Projections as their users and operators see them: how they travel, and the calls about them. */
import { EventNotFoundError, InvalidStateError, ProjectionNotFoundError } from "../Errors.ts"
import type { RunError } from "../RunError.ts"
import {
  among,
  asItIs,
  both,
  eitherCase,
  exact,
  fields,
  filled,
  flag,
  integer,
  json,
  list,
  oneOf,
  optional,
  orElse,
  snaked,
  some,
  struct,
  text,
  time
} from "./Codec.ts"
import { inBody, inPath, operation, row, waiting } from "./Row.ts"

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** Whether the engine keeps the state (`managed`), or the handler does what it likes (`external`). */
export type ProjectionMode = "managed" | "external"

/** `error` while an event that has failed is tried again; dead letters are counted apart. */
export const projectionStatuses = ["active", "rebuilding", "paused", "error"] as const
/** Whether a projection goes on. */
export type ProjectionStatus = (typeof projectionStatuses)[number]

/** The state of one partition. Times are ISO strings. */
// oxlint-disable-next-line typescript/no-explicit-any -- what the state is depends on the projection
export interface ProjectionStateResult<S = any> {
  /** Name of the projection. */
  readonly name: string
  /** Which partition it is; `__global__` where there is one state for all. */
  readonly partition: string
  /** `{}` when nothing was projected yet, and for an external projection. */
  readonly state: S
  /** The last event in the state; absent when there is none. */
  readonly lastEventId?: string
  /** When that event was stored. */
  readonly lastEventTime?: string
  /** Position of that event; 0 when there is none. For an external projection, everything up to here is done. */
  readonly lastEventSeq: number
  /** How often the state was saved. */
  readonly version: number
  /** Whether it has a state. */
  readonly mode: ProjectionMode
  /** Whether it goes on. */
  readonly status: ProjectionStatus
  /** What went wrong last. */
  readonly errorMessage?: string
  /** When the state was saved last. */
  readonly updatedAt: string
}

/** How a projection does: one sentence, and the facts behind it. Times are ISO strings. */
export interface ProjectionStatusInfo {
  /** Name of the projection. */
  readonly name: string
  /** Whether it has a state. */
  readonly mode: ProjectionMode
  /** Whether it goes on. */
  readonly status: ProjectionStatus
  /** A sentence for a person. */
  readonly message: string
  /** Names and patterns of the events that it follows. */
  readonly events: ReadonlyArray<string>
  /** What of an event has a state of its own; absent when there is one state for all, or a function says. */
  readonly partitionKey?: string
  /** Everything up to here is projected. */
  readonly lastEventSeq: number
  /** Events in the log that wait to be projected. */
  readonly lag: number
  /** The worker that it belongs to; absent while there is none. */
  readonly owner?: string
  /** One more with every owner and every rebuild. */
  readonly generation: number
  /** Who has paused it; absent unless it is paused. */
  readonly pausedBy?: string
  /** When it was paused. */
  readonly pausedAt?: string
  /** Why it was paused. */
  readonly pauseReason?: string
  /** Where a rebuild will be done. */
  readonly rebuildTo?: number
  /** The last thing that went wrong, also when it has been got over. */
  readonly errorMessage?: string
  /** The same with its facts: at which position of the log, and when. */
  readonly lastError?: RunError & { readonly position: number; readonly at: string }
  /** The event that is tried again, and how often it has failed. */
  readonly failing?: { readonly position: number; readonly failures: number }
  /** Events that it has given up, and that are kept. */
  readonly deadLetters: number
  /** Saves that were refused because their worker was not the owner any more. */
  readonly refusedSaves: number
  /** When it was registered for the first time. */
  readonly createdAt: string
  /** When anything of this changed last. */
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
  /** What the handler failed with the last time. */
  readonly error: RunError
  /** How often it was tried. */
  readonly attempts: number
  /** ISO string. */
  readonly failedAt: string
  /** It was asked to be tried again, and waits for the worker. */
  readonly retrying: boolean
}

/** Options of `pause`. */
export interface PauseProjectionOptions {
  /** Who pauses it, for those who see it paused; "a client" by default. */
  readonly by?: string
  /** Why, for those who see it paused; none by default. */
  readonly reason?: string
}

/** The row of a partition in the store. */
interface StateRow {
  readonly partitionKey: string
  readonly state: unknown
  readonly lastEventId: string
  readonly lastEventSeq: number
  readonly lastEventTime: string
  readonly version: number
  /** Of changes: one more with each state of the projection that is saved. */
  readonly revision?: number
  readonly updatedAt: string
}

/** The state of a partition as it is asked for; `state` is absent when nothing was saved for it. */
interface Envelope {
  readonly name: string
  readonly version: number
  readonly mode: ProjectionMode
  readonly status: ProjectionStatus
  readonly lastEventSeq: number
  readonly updatedAt: string
  readonly errorMessage?: string
  readonly state?: Where & StateRow
}

/** Legacy servers leave it out. */
interface Where {
  readonly projectionName?: string
  readonly environmentId?: string
}

/** States that have changed since a cursor, as they are now: a page of them. */
interface Changes extends Pick<Envelope, "mode" | "status" | "errorMessage"> {
  readonly cursor: string
  /** The partition after which to go on; absent on the last page. */
  readonly next?: string
  readonly states: ReadonlyArray<StateRow>
}

/** How far a rebuild is. */
export interface Rebuild {
  readonly projectionName: string
  readonly status: string
  readonly lastEventSeq: number
  readonly targetSeq?: number
  readonly remainingEvents: number
}

/** Whether a projection is as far as was asked for. */
export interface CatchupAnswer {
  readonly caughtUp: boolean
  readonly timedOut: boolean
  readonly currentSeq: number
  readonly targetSeq: number
  readonly behindByEvents: number
  readonly rebuilding?: boolean
  readonly mode?: ProjectionMode
  /** A sentence for a person, of one that is behind. */
  readonly message?: string
}

/** What answers of legacy servers may lack. */
const count = orElse(integer, 0)
const said = orElse(time, "")
const mode = orElse(oneOf<ProjectionMode>("managed", "external"), "managed")
const status = orElse(among(projectionStatuses), "active")

export const Status = eitherCase(
  snaked<ProjectionStatusInfo>({
    name: filled,
    mode,
    status,
    message: orElse(filled, ""),
    events: orElse(some(text), []),
    partitionKey: optional(text),
    lastEventSeq: exact(count),
    lag: count,
    owner: optional(filled),
    generation: count,
    pausedBy: optional(filled),
    pausedAt: optional(time),
    pauseReason: optional(filled),
    rebuildTo: optional(integer),
    errorMessage: optional(filled),
    lastError: optional(asItIs<NonNullable<ProjectionStatusInfo["lastError"]>>()),
    failing: optional(asItIs<NonNullable<ProjectionStatusInfo["failing"]>>()),
    deadLetters: count,
    refusedSaves: count,
    createdAt: said,
    updatedAt: exact(said)
  })
)
const StateRowAnswer = snaked<StateRow>({
  partitionKey: orElse(filled, ""),
  state: json,
  lastEventId: orElse(filled, ""),
  lastEventSeq: count,
  lastEventTime: said,
  version: count,
  revision: optional(integer),
  updatedAt: said
})
export const ProjectionState = snaked<Envelope>({
  name: orElse(filled, ""),
  version: count,
  mode,
  status,
  lastEventSeq: count,
  updatedAt: said,
  errorMessage: optional(filled),
  state: optional(
    both(snaked<Where>({ projectionName: optional(text), environmentId: optional(text) }), StateRowAnswer)
  )
})
/** The state in the data of `system.projection.<name>.<partition>.updated`, as our engine announces it. */
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
  errorMessage: optional(filled),
  cursor: text,
  next: optional(text),
  states: some(StateRowAnswer)
})

const RebuildAnswer = snaked<Rebuild>({
  projectionName: text,
  status: text,
  lastEventSeq: integer,
  targetSeq: optional(integer),
  remainingEvents: integer
})
/** How far it is, with all that the status says. */
const Rebuilding = both(RebuildAnswer, Status)
const CatchupResult = fields<CatchupAnswer>({
  caughtUp: flag,
  timedOut: orElse(flag, false),
  currentSeq: count,
  targetSeq: count,
  behindByEvents: count,
  rebuilding: optional(flag),
  mode: optional(oneOf("managed", "external")),
  message: optional(filled)
})
const CatchupResults = struct({
  results: list(
    struct({
      result: optional(CatchupResult),
      error: optional(struct({ code: text, message: text }))
    })
  )
})
const DeadLetters = snaked<{ deadLetters: Array<DeadLetter> }>({ deadLetters: list(asItIs<DeadLetter>()) })
const Retrying = struct({ retrying: count })

export const Pause = fields<PauseProjectionOptions>({ by: optional(text), reason: optional(text) })
/** Legacy servers rebuild a `partition`, or from an event on; this one rebuilds a projection as a whole. */
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
const CatchupBatch = both(struct({ items: list(Position) }), Timeout)
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
  missing: ProjectionNotFoundError
})
export const deleteProjection = operation("DELETE /api/v1/projections/:name", {
  missing: ProjectionNotFoundError
})
export const projectionStatus = operation("GET /api/v1/projections/:name/status", {
  answer: Status,
  missing: ProjectionNotFoundError
})
export const rebuildProjection = operation("POST /api/v1/projections/:name/rebuild", {
  answer: Rebuilding,
  missing: ProjectionNotFoundError
})
export const pauseProjection = operation("POST /api/v1/projections/:name/pause", {
  answer: Status,
  missing: ProjectionNotFoundError
})
export const resumeProjection = operation("POST /api/v1/projections/:name/resume", {
  answer: Status,
  missing: ProjectionNotFoundError
})
export const projectionCatchup = operation("GET /api/v1/projections/:name/catchup", {
  answer: CatchupResult,
  missing: ProjectionNotFoundError
})
export const projectionChanges = operation("GET /api/v1/projections/:name/changes", {
  answer: ProjectionChanges,
  missing: ProjectionNotFoundError,
  ours: true
})
export const deadLetters = operation("GET /api/v1/projections/:name/dead-letters", {
  answer: DeadLetters,
  missing: ProjectionNotFoundError,
  ours: true
})
export const retryDeadLetters = operation("POST /api/v1/projections/:name/dead-letters/retry", {
  answer: Retrying,
  missing: ProjectionNotFoundError,
  ours: true
})

const noLetter = { 409: InvalidStateError } as const
export const noEvent = { 404: EventNotFoundError } as const

export const rows = {
  /** The projections and how they do, by name. */
  listProjections: row(listProjections, "projection:read"),
  /** The state of a `partition`. */
  restGetProjection: row(restGetProjection, "projection:read", { query: ["partition"] }),
  /** Deletes a projection and its states. A worker that still runs it begins anew. */
  deleteProjection: row(deleteProjection, "projection:manage"),
  /** How a projection does. */
  projectionStatus: row(projectionStatus, "projection:read"),
  /** Forgets position and dead letters, and projects everything again from the beginning of the log. `dryRun` changes nothing. */
  rebuildProjection: row(rebuildProjection, "projection:manage", { body: RebuildRequest }),
  /** How far a rebuild is. */
  projectionRebuild: row("GET /api/v1/projections/:name/rebuild", "projection:read", {
    answer: RebuildAnswer,
    missing: ProjectionNotFoundError
  }),
  /** Fails: what is rebuilt has forgotten its state. */
  cancelRebuild: row("POST /api/v1/projections/:name/cancel", "projection:manage", {
    answer: RebuildAnswer,
    errors: { 409: InvalidStateError }
  }),
  /** Hands out no more events; what the worker has in hand is still saved. */
  pauseProjection: row(pauseProjection, "projection:manage", { body: Pause }),
  /** Goes on where it was. */
  resumeProjection: row(resumeProjection, "projection:manage"),
  /** Answers when the projection is as far as `minSeq`, or after `timeout` milliseconds, 30 s at most. */
  projectionCatchup: row(projectionCatchup, waiting(inPath("projection:read", "projection", "name")), {
    query: ["minSeq", "timeout"]
  }),
  /** The same for several at once. */
  projectionCatchupBatch: row(
    "POST /api/v1/projections/catchup/batch",
    {
      action: "projection:read",
      subject: { from: "body", kind: "projection", members: ["name"], each: "items" },
      waits: true
    },
    { body: CatchupBatch, answer: CatchupResults, repeats: true }
  ),
  /** Answers when the projection has seen an event. */
  projectionWaitForEvent: row(
    "POST /api/v1/projections/wait-for-event",
    waiting(inBody("projection:read", "projection", "projection")),
    {
      body: EventWait,
      answer: CatchupResult,
      missing: ProjectionNotFoundError,
      errors: noEvent,
      repeats: true
    }
  ),
  /** The states that have changed `since` a cursor, as they are now; those `after` a partition. */
  projectionChanges: row(projectionChanges, "projection:read", {
    query: ["since", "partition", "after", "limit"]
  }),
  /** Events that the projection has given up, oldest first; those `after` a position. */
  deadLetters: row(deadLetters, "projection:read", { query: ["after", "limit"] }),
  /** Has a dead letter tried once more, or all of them without a `position`. */
  retryDeadLetters: row(retryDeadLetters, "projection:manage", { body: RetryLetters, errors: noLetter })
}
