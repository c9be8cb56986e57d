/**
 * The ConnectRPC service `ProjectionService`: the calls of legacy programs that run projections (here called runners), and of
 * legacy programs that operate projections.
 */
import { ProjectionNotFoundError, ProjectionSaveRefusedError } from "../Errors.ts"
import {
  oneOfList,
  merge,
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
  eventNotFound,
  Pause,
  Position,
  type ProjectionStatusInfo,
  projectionStatuses,
  type Rebuild,
  RebuildRequest,
  Timeout
} from "./Projections.ts"
import { each, inBody, operation, callSpec, waiting } from "./CallSpec.ts"

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** Status of a projection, with fewer fields than over REST. */
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
  status: oneOfList(projectionStatuses),
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
export const NamedProjection = struct({ name: text })
const PositionWait = merge(Position, Timeout)

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
/** The state that a runner continues from. */
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
/** The next events for a runner, with the current state. Data and state are embedded in their stored form. */
const RunnerBatch = struct({
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
  notFoundError: ProjectionNotFoundError,
  repeats: true
})
export const pollProjectionEvents = operation("ProjectionService/PollProjectionEvents", {
  answer: RunnerBatch,
  notFoundError: ProjectionNotFoundError
})
export const saveProjectionState = operation("ProjectionService/SaveProjectionState", {
  answer: Saved,
  notFoundError: ProjectionNotFoundError
})
export const ackProjectionEvents = operation("ProjectionService/AckProjectionEvents", {
  answer: Saved,
  notFoundError: ProjectionNotFoundError
})

const runnerRule = inBody("projection:run", "projection", "name")
const saveRefused = { 409: ProjectionSaveRefusedError } as const

export const callSpecs = {
  /** Lists the status of all projections, sorted by name. */
  connectListProjections: callSpec(
    "ProjectionService/ListProjections",
    each("projection:read", "projection"),
    {
      answer: ConnectProjections,
      page: "projections",
      repeats: true
    }
  ),
  /** Returns the status of a projection. */
  getProjectionStatus: callSpec(
    "ProjectionService/GetProjectionStatus",
    inBody("projection:read", "projection", "name"),
    { body: NamedProjection, answer: ConnectStatus, notFoundError: ProjectionNotFoundError, repeats: true }
  ),
  /** Rebuilds a projection from the start of the log: resets its position and deletes its dead letters. With `dryRun` it only returns the progress. */
  connectRebuildProjection: callSpec(
    "ProjectionService/RebuildProjection",
    inBody("projection:manage", "projection", "name"),
    {
      body: merge(NamedProjection, RebuildRequest),
      answer: ConnectRebuild,
      notFoundError: ProjectionNotFoundError
    }
  ),
  /** Pauses a projection; the worker may still save its current batch. */
  connectPauseProjection: callSpec(
    "ProjectionService/PauseProjection",
    inBody("projection:manage", "projection", "name"),
    { body: merge(NamedProjection, Pause), answer: ConnectStatus, notFoundError: ProjectionNotFoundError }
  ),
  /** Resumes a projection where it stopped. */
  connectResumeProjection: callSpec(
    "ProjectionService/ResumeProjection",
    inBody("projection:manage", "projection", "name"),
    { body: NamedProjection, answer: ConnectStatus, notFoundError: ProjectionNotFoundError }
  ),
  /** Answers when the projection has reached `minSeq`, or after `timeoutMs`, at most 30 s. */
  waitProjectionCatchup: callSpec(
    "ProjectionService/WaitProjectionCatchup",
    waiting(inBody("projection:read", "projection", "name")),
    {
      body: PositionWait,
      answer: ConnectCatchup,
      notFoundError: ProjectionNotFoundError,
      repeats: true
    }
  ),
  /** Answers when the projection has processed the event, or after `timeoutMs`, at most 30 s. */
  waitForEvent: callSpec(
    "ProjectionService/WaitForEvent",
    waiting(inBody("projection:read", "projection", "projection")),
    {
      body: EventWait,
      answer: ConnectCatchup,
      notFoundError: ProjectionNotFoundError,
      errors: eventNotFound,
      repeats: true
    }
  ),

  /** Registers the projection of a legacy runner, which does not claim it. */
  registerProjection: callSpec(registerProjection, runnerRule, { body: RunnerRegistration }),
  /** Returns the state of a `partition`. */
  getProjection: callSpec(getProjection, inBody("projection:read", "projection", "name"), {
    body: struct({ name: text, partition: optional(text) })
  }),
  /** Returns the next events, and the state to which the runner applies them. */
  pollProjectionEvents: callSpec(pollProjectionEvents, runnerRule, { body: Poll }),
  /** Saves the state after an event. */
  saveProjectionState: callSpec(saveProjectionState, runnerRule, {
    body: RunnerSave,
    errors: saveRefused,
    fromWorker: true
  }),
  /** Confirms that everything up to an event is done. */
  ackProjectionEvents: callSpec(ackProjectionEvents, runnerRule, { body: RunnerAck, errors: saveRefused })
}
