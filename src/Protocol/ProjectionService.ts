/** `ProjectionService` of ConnectRPC: what legacy runners of projections ask, and who looks after them. */
import { ProjectionNotFoundError, ProjectionSaveRefusedError } from "../Errors.ts"
import {
  among,
  both,
  digits,
  fields,
  flag,
  integer,
  json,
  list,
  oneOf,
  optional,
  struct,
  text
} from "./Codec.ts"
import {
  type CatchupAnswer,
  EventWait,
  noEvent,
  Pause,
  Position,
  type ProjectionStatusInfo,
  projectionStatuses,
  type Rebuild,
  RebuildRequest,
  Timeout
} from "./Projections.ts"
import { each, inBody, operation, row, waiting } from "./Row.ts"

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** How a projection does, with less than over REST. */
const ConnectStatus = fields<
  Omit<
    ProjectionStatusInfo,
    | "events"
    | "partitionKey"
    | "pausedBy"
    | "pausedAt"
    | "pauseReason"
    | "rebuildTo"
    | "lastError"
    | "failing"
  >
>({
  name: text,
  status: among(projectionStatuses),
  mode: oneOf("managed", "external"),
  message: text,
  lastEventSeq: digits,
  lag: digits,
  generation: digits,
  owner: optional(text),
  errorMessage: optional(text),
  deadLetters: digits,
  refusedSaves: digits,
  createdAt: text,
  updatedAt: text
})

const ConnectProjections = struct({
  projections: list(ConnectStatus),
  nextCursor: optional(text)
})

const ConnectRebuild = fields<Rebuild>({
  projectionName: text,
  status: text,
  lastEventSeq: digits,
  targetSeq: optional(digits),
  remainingEvents: digits
})

const ConnectCatchup = fields<CatchupAnswer>({
  caughtUp: flag,
  timedOut: flag,
  currentSeq: digits,
  targetSeq: digits,
  behindByEvents: digits,
  rebuilding: optional(flag),
  mode: optional(oneOf("managed", "external")),
  message: optional(text)
})
export const Named = struct({ name: text })
const PositionWait = both(Position, Timeout)

const RunnerRegistration = struct({
  name: text,
  events: list(text),
  mode: optional(text),
  version: optional(integer),
  partitionKey: optional(text)
})
const Registered = struct({
  status: text,
  lastEventSeq: optional(digits)
})
/** The state that a runner goes on from. */
const RunnerState = struct({
  name: text,
  partition: text,
  state: optional(json),
  lastEventId: optional(text),
  lastEventTime: optional(text),
  version: optional(digits),
  mode: text
})
const RunnerSave = struct({
  name: text,
  partitionKey: optional(text),
  state: optional(json),
  lastEventId: optional(text),
  lastEventSeq: integer,
  lastEventTime: optional(text)
})
const RunnerAck = struct({
  name: text,
  lastEventId: optional(text),
  lastEventSeq: integer
})
const Poll = struct({
  name: text,
  batchSize: optional(integer),
  partition: optional(text)
})
/** What a runner is given; data and state go out as the text that they are stored as. */
const HandedOut = struct({
  events: optional(list(json)),
  currentState: optional(json),
  lastEventSeq: optional(digits)
})
const Saved = struct({ ok: flag })

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

export const registerProjection = operation("ProjectionService/RegisterProjection", {
  answer: Registered
})
export const getProjection = operation("ProjectionService/GetProjection", {
  answer: RunnerState,
  missing: ProjectionNotFoundError,
  repeats: true
})
export const pollProjectionEvents = operation("ProjectionService/PollProjectionEvents", {
  answer: HandedOut,
  missing: ProjectionNotFoundError
})
export const saveProjectionState = operation("ProjectionService/SaveProjectionState", {
  answer: Saved,
  missing: ProjectionNotFoundError
})
export const ackProjectionEvents = operation("ProjectionService/AckProjectionEvents", {
  answer: Saved,
  missing: ProjectionNotFoundError
})

const runsNamed = inBody("projection:run", "projection", "name")
const refused = { 409: ProjectionSaveRefusedError } as const

export const rows = {
  /** The projections and how they do, by name. */
  connectListProjections: row("ProjectionService/ListProjections", each("projection:read", "projection"), {
    answer: ConnectProjections,
    page: "projections",
    repeats: true
  }),
  /** How a projection does. */
  getProjectionStatus: row(
    "ProjectionService/GetProjectionStatus",
    inBody("projection:read", "projection", "name"),
    { body: Named, answer: ConnectStatus, missing: ProjectionNotFoundError, repeats: true }
  ),
  /** Projects everything again from the beginning of the log. `dryRun` changes nothing. */
  connectRebuildProjection: row(
    "ProjectionService/RebuildProjection",
    inBody("projection:manage", "projection", "name"),
    { body: both(Named, RebuildRequest), answer: ConnectRebuild, missing: ProjectionNotFoundError }
  ),
  /** Hands out no more events; what the worker has in hand is still saved. */
  connectPauseProjection: row(
    "ProjectionService/PauseProjection",
    inBody("projection:manage", "projection", "name"),
    { body: both(Named, Pause), answer: ConnectStatus, missing: ProjectionNotFoundError }
  ),
  /** Goes on where it was. */
  connectResumeProjection: row(
    "ProjectionService/ResumeProjection",
    inBody("projection:manage", "projection", "name"),
    { body: Named, answer: ConnectStatus, missing: ProjectionNotFoundError }
  ),
  /** Answers when the projection is as far as `minSeq`, or after `timeoutMs`, 30 s at most. */
  waitProjectionCatchup: row(
    "ProjectionService/WaitProjectionCatchup",
    waiting(inBody("projection:read", "projection", "name")),
    {
      body: PositionWait,
      answer: ConnectCatchup,
      missing: ProjectionNotFoundError,
      repeats: true
    }
  ),
  /** Answers when the projection has seen an event. */
  waitForEvent: row(
    "ProjectionService/WaitForEvent",
    waiting(inBody("projection:read", "projection", "projection")),
    {
      body: EventWait,
      answer: ConnectCatchup,
      missing: ProjectionNotFoundError,
      errors: noEvent,
      repeats: true
    }
  ),

  /** Registers a projection of a runner that knows no claims. */
  registerProjection: row(registerProjection, runsNamed, { body: RunnerRegistration }),
  /** The state of a `partition`. */
  getProjection: row(getProjection, inBody("projection:read", "projection", "name"), {
    body: struct({ name: text, partition: optional(text) })
  }),
  /** The events that come next, with the state that they are folded into. */
  pollProjectionEvents: row(pollProjectionEvents, runsNamed, { body: Poll }),
  /** Saves the state after an event. */
  saveProjectionState: row(saveProjectionState, runsNamed, {
    body: RunnerSave,
    errors: refused,
    fromWorker: true
  }),
  /** Says that everything up to an event is done. */
  ackProjectionEvents: row(ackProjectionEvents, runsNamed, { body: RunnerAck, errors: refused })
}
