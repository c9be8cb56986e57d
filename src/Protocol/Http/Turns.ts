/**
 * How a worker and an engine of this package exchange turns over HTTP: the protocol of `Protocol/Worker.ts` as JSON requests.
 *
 * The worker registers and receives a session. From then on it always has one poll open, even when it has no room for jobs, since
 * the answer to a poll also brings cancellations. Beside the poll, the worker sends its reports.
 *
 * - **A lost response loses no delivery.** Deliveries of a session are numbered. A poll acknowledges the last one received
 *   (`seen`); later ones are sent again until they are acknowledged. The worker skips numbers that it already has.
 * - **Room is counted in totals.** `asked` counts all jobs that the worker has asked for in the session, `withdrawn` those that
 *   it no longer wants; dispatched jobs count against the difference. Neither total ever shrinks, so repeated and reordered
 *   requests are safe.
 * - **A report is applied once.** The worker numbers its batches and sends one at a time; a repeated batch gets the first answer
 *   again. The numbers continue across sessions of one `instance`. Only an engine that was restarted in between does not remember
 *   them: applying a batch again then changes nothing, and a turn that had ended is answered with `LEASE_LOST`.
 * - **The lease bounds everything.** The engine dispatches the runs of a worker to others after `leaseMs` without a renewal. The
 *   worker aborts its turns before that: {@link safeTermMs} after it *sent* the last renewal that was answered. So two workers do
 *   not run a step at the same time, whatever happens to the connection. Only a process that was frozen in the middle of a step
 *   may go on with this step until it notices.
 * - **Renewals name jobs.** A request with `holding` extends the leases of the jobs that `holding` lists, and no others; the
 *   answer comes once the new leases are stored. The worker does not list a job that it is not working on, so that this job goes
 *   to another worker. For workers without the capability `renewals`, every request extends all of their leases.
 * - **A revoked run goes to others once its worker has dropped it.** The engine sends a notice (`Cancelled`, `LeaseLost`) for a
 *   job whose run was cancelled, patched, or resumed from a step. The run goes to others when the worker has acknowledged the
 *   notice (`seen`) and a request's `holding` no longer names the job. Otherwise the engine waits until the lease expires.
 * - **The engine detects at once when a process on its own machine ends.** The worker identifies its process (`process`). When
 *   its connection closes, the engine checks whether that process has ended. A closed connection alone proves nothing: it may
 *   have broken while the worker continues.
 * - **After `WORKER_UNKNOWN`** (404: the engine was restarted, or has dropped the worker), the worker registers again with its
 *   running turns (`jobs`), drops those in `lost`, and continues the others in the new session: `seen` and `withdrawn` are 0, and
 *   `asked` is the number of jobs that it has room for.
 *
 * - **A registration counts once.** The registrations of an `instance` have increasing numbers (`number`). A duplicate, such as
 *   one repeated by a proxy, gets the first answer again; a registration that arrives after one with a higher number is refused
 *   with `STALE_REGISTRATION` (409). Neither has an effect: otherwise it would end the session of the worker, and dispatch the
 *   worker's newer turns to others. Without numbers every registration counts.
 * - **Jobs from before an instance are not its own.** They may belong to another worker with the same id behind a broken network.
 *   The answer to the first registration contains `since`, and all later registrations repeat it, so that a restarted engine
 *   knows it too. A job that the worker does not list in `jobs` goes to others at once if the id of the job sorts after `since`,
 *   otherwise when the lease on the job expires.
 * - **Damaged messages are refused.** A worker with the capability `seals` seals everything that it sends (`Protocol/Seal.ts`),
 *   including its registrations. A message with a wrong checksum, or without one, has no effect: it is answered with
 *   `MESSAGE_DAMAGED` (503, retryable), and a stream ends. A flipped bit in `jobs` of a registration would dispatch the run of a
 *   job to others while the worker is still running it. From workers without seals, any valid message is accepted. An engine with
 *   `seals` in its answer to the registration seals its answers and pushes to a worker with seals. On a damaged message the
 *   worker repeats the request, or closes the stream, instead of using a wrong `leaseMs` or running a job with wrong data.
 *
 * Values stay JSON text (`JsonText`) inside these messages, as strings. Fields that are `undefined` are absent; `undefined`
 * in an array becomes `null`.
 */
import type {
  Job,
  Notice,
  Outcome,
  RefusalReason,
  TurnAck,
  TurnReport,
  WorkerRegistration
} from "../Worker.ts"

/** The protocol version in `capabilities.turns`. */
export const TURNS_VERSION = 1

/** Code of the 404 after which a worker registers again. */
export const WORKER_UNKNOWN = "WORKER_UNKNOWN"

/** Maximum duration of a poll in milliseconds. */
export const MAX_WAIT_MS = 30_000

/**
 * How long a worker may continue after it has sent the last renewal that was answered: two seconds less than
 * the lease, or four fifths of a short lease. The rest of the time is for aborting.
 */
export const safeTermMs = (leaseMs: number): number => leaseMs - Math.min(2000, leaseMs / 5)

/**
 * Registers a worker and its functions. Every Ironflow worker sends the fields before `capabilities`. So legacy servers,
 * which do not exchange turns, can answer too; their answer has no `capabilities`.
 *
 * Answered with 400 and `VALIDATION_ERROR` when the registration is invalid, or when another instance with this id is
 * present.
 */
export interface RegisterTurnsRequest {
  readonly worker_id: string
  readonly hostname: string
  readonly function_ids: ReadonlyArray<string>
  readonly max_concurrent_jobs: number
  readonly labels: { readonly [key: string]: string }
  readonly version: { readonly sdk: string; readonly runtime: string }
  /** `seals`: the worker seals everything that it sends. */
  readonly capabilities: { readonly turns: number; readonly renewals?: boolean; readonly seals?: boolean }
  readonly registration: WorkerRegistration
  /** The worker's process; absent where its end cannot be detected. */
  readonly process?: ProcessIdentity
  /**
   * A new id for every worker object. It distinguishes a worker that registers again from another worker with the same
   * `worker_id`.
   */
  readonly instance: string
  /** Job ids of the running turns that the worker wants to keep. */
  readonly jobs: ReadonlyArray<string>
  /**
   * Number of the registration, from 1. It grows with each registration of the instance, also with those that
   * failed. Older workers send none.
   */
  readonly number?: number
  /** `since` in the answer to the first registration of this instance, repeated in all later ones. */
  readonly since?: string
}

/** Identifies a process. */
export interface ProcessIdentity {
  /** Identifies the machine since its boot, and the namespace of `pid`. */
  readonly host: string
  readonly pid: number
  /** When the process was started, as the machine counts it: another process may get the same `pid` later. */
  readonly startedAt: string
}

export interface RegisterTurnsResponse {
  /**
   * What the engine supports. With `renewals`, only `holding` extends leases; without it, every request
   * extends all of them.
   */
  readonly capabilities: {
    readonly turns: number
    readonly renewals?: boolean
    /** Whether the engine seals its answers and pushes, from this answer on, except for answers to failed requests. */
    readonly seals?: boolean
  }
  readonly session: string
  /** Duration of a lease without a renewal, in milliseconds. */
  readonly leaseMs: number
  /** How long a worker with a closed connection may be away, in milliseconds: as long as its leases. */
  readonly presenceMs: number
  /** How long a poll should stay open, in milliseconds. */
  readonly waitMs: number
  /** Maximum size of a request body of this worker, in bytes. */
  readonly maxBodyBytes: number
  /** The ids in `jobs` that the worker no longer holds: it must drop the turns of these jobs. */
  readonly lost: ReadonlyArray<string>
  /** The ids of all jobs of this instance sort after this text. Older engines do not send it. */
  readonly since?: string
}

/** The room of a worker for jobs, as totals since the start of the session. Absent totals are unchanged. */
export interface Room {
  readonly asked?: number
  readonly withdrawn?: number
}

/** The part of a request that may extend leases. */
export interface Renewal {
  /** Job ids of the turns that the worker is working on. Absent when no lease is to be extended. */
  readonly holding?: ReadonlyArray<string>
  /**
   * The steps of the turns in `holding` that have been running for a while: a list of `RunningTurn`s, see
   * `readRunningTurns`; absent when there are none. Only valid along with `holding`.
   */
  readonly running?: unknown
  /** Number of the last delivery received; 0 at first. Older workers with a stream do not send it. */
  readonly seen?: number
}

/**
 * Asks for deliveries. Answered as soon as there is one, or else after `waitMs`. A newer poll ends the older
 * one at once.
 */
export interface PollRequest extends Room, Renewal {
  readonly session: string
  /** Number of the last delivery received; 0 at first. */
  readonly seen: number
  readonly waitMs: number
}

/** A job or a notice. A notice about a job comes after the job. */
export type Delivery =
  { readonly seq: number; readonly job: Job } | { readonly seq: number; readonly notice: Notice }

export interface PollResponse {
  /** Deliveries in the order of their numbers. */
  readonly deliveries: ReadonlyArray<Delivery>
  /**
   * Set when the engine is about to stop. The worker keeps its turns, and tries to reconnect until its leases
   * expire.
   */
  readonly closing?: boolean
}

/** Reports, with the room that they free, so that no new poll is needed. */
export interface ReportsRequest extends Room {
  readonly session: string
  /**
   * Number of the batch, from 1. It grows with each batch of the instance. A batch with the number of an
   * earlier batch is that batch, sent again.
   */
  readonly batch: number
  readonly reports: ReadonlyArray<TurnReport>
}

/** One answer for each report, in order, after the commit. */
export interface ReportsResponse {
  readonly acks: ReadonlyArray<WireTurnAck>
}

/** A `TurnAck` as JSON, with `null` for `undefined` in `outcomes`. */
export type WireTurnAck =
  | {
      readonly _tag: "Accepted"
      readonly outcomes: ReadonlyArray<Outcome | null>
      readonly paused?: true
    }
  | { readonly _tag: "Refused"; readonly reason: RefusalReason; readonly message: string }

/** Restores a `TurnAck`. */
export const readAck = (ack: WireTurnAck): TurnAck =>
  ack._tag === "Refused" ? ack : { ...ack, outcomes: ack.outcomes.map((outcome) => outcome ?? undefined) }

/** See `WorkerSession.late`. */
export interface LateRequest {
  readonly session: string
  readonly runId: string
  readonly stepName: string
  readonly lingerMs: number
}
