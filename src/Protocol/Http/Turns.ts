/**
 * How our worker and our engine exchange turns over HTTP: what `Protocol/Worker.ts` says, as JSON requests.
 *
 * The worker registers and is answered with a session. It then always holds one poll open (also when it can take no
 * more jobs: cancellations come with it) and sends its reports beside it.
 *
 * - **Nothing that was handed out can be lost in a response.** Deliveries of a session are numbered. A poll says the
 *   number of the last one received (`seen`); what comes after it is sent again until it is. The worker skips numbers
 *   that it has had.
 * - **Room is told in totals.** `asked` counts all jobs that the worker has ever asked for in the session, `withdrawn`
 *   those that it does not want any more; what was handed out counts against the difference. Neither ever shrinks, so
 *   repeated and reordered requests do no harm.
 * - **A report is applied once.** Batches are numbered by the worker, one in flight at a time; a batch that is sent again
 *   is answered with the first answer. The numbers go on over sessions of one `instance`. Only an engine that was
 *   restarted in between does not remember: what it applies again changes nothing, and a turn that had ended answers
 *   `LEASE_LOST`.
 * - **One term bounds everything.** The engine gives away the runs of a worker that it has not heard of for `leaseMs`. The
 *   worker aborts what it runs before that: {@link safeTermMs} after it has *sent* the last renewal that was answered. So
 *   one step is never run by two workers at once, whatever became of the connection between them.
 * - **Renewals name jobs.** A request with `holding` extends the leases of the jobs in it, and of no others; the answer
 *   comes after that is stored. A job that nobody works on is not named, and goes to another worker. Workers that do not
 *   say `renewals` among their capabilities have all their leases extended by whatever they send.
 * - **What is taken back is handed out when it is known to be dropped.** A job whose run was cancelled, patched, or resumed from a step
 *   is told of (`Cancelled`, `LeaseLost`), and the next request says `holding` without it: the run goes to others then. A worker that
 *   has seen the notice (`seen`) and does not name the job is not at it; one that says nothing is waited for until its lease is over.
 * - **The end of a process shows at once** on the engine's own machine: the worker says which process it is (`process`), and
 *   when its connection closes the engine looks whether that process has ended. A closed connection alone says nothing: it
 *   may have been cut while the worker goes on.
 * - **After `WORKER_UNKNOWN`** (404: the engine was restarted, or has given the worker up) it registers again with the
 *   turns in flight (`jobs`), drops those in `lost`, and goes on with the others in the new session: `seen` and
 *   `withdrawn` are 0 and `asked` is the number of jobs that it can take now.
 *
 * - **A registration counts once.** The registrations of an `instance` are numbered, and the numbers grow (`number`). One that
 *   comes again, because somebody between the two sent it twice, is answered as it was; one that comes after a later one is
 *   refused with `STALE_REGISTRATION` (409). Neither has an effect: it would end the session of the worker, and hand the turns
 *   that it was given since then to others. Without numbers every registration counts.
 * - **What an instance has never held is not its own.** Under its id there may be jobs of another worker, which lives behind a network
 *   that is cut. The answer to the first registration says `since`, and all later ones repeat it, so that an engine which was restarted
 *   knows it too: a job that the worker does not name goes to others at once when its id sorts after `since`, and when its lease is
 *   over otherwise.
 * - **What is damaged is not believed.** A worker that says `seals` among its capabilities seals everything that it sends
 *   (`Protocol/Seal.ts`), its registrations too. What comes with another sum than it says, or without any, has no effect:
 *   `MESSAGE_DAMAGED` (503, to be sent again), and a stream ends. A bit that was turned over in the jobs of a registration would
 *   give their runs to others while they are worked on. Of workers without seals whatever makes sense is believed.
 *   An engine that says `seals` in its answer to the registration seals what it answers such a worker and pushes to it. The worker
 *   asks again instead of believing another `leaseMs` or running a job with other data: a request is sent once more, and a stream
 *   is given up.
 *
 * Values stay JSON text (`JsonText`) inside these messages. Fields that are `undefined` are absent; in arrays they are
 * `null`.
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

/** The version of this protocol that `capabilities.turns` names. */
export const TURNS_VERSION = 1

/** Code of the 404 that makes a worker register again. */
export const WORKER_UNKNOWN = "WORKER_UNKNOWN"

/** The longest that a poll may stay open, milliseconds. */
export const MAX_WAIT_MS = 30_000

/**
 * How long after sending its last answered renewal a worker may go on: two seconds less than the lease holds, or four
 * fifths of it when it is short. What is left is for aborting.
 */
export const safeTermMs = (leaseMs: number): number => leaseMs - Math.min(2000, leaseMs / 5)

/**
 * Registers a worker and its functions. The fields in snake case are those of every Ironflow worker, so that a server
 * without turns can answer it too: its answer has no `capabilities`.
 *
 * 400 with `VALIDATION_ERROR` for what the engine does not accept; also when another instance with this id is present.
 */
export interface RegisterTurnsRequest {
  readonly worker_id: string
  readonly hostname: string
  readonly function_ids: ReadonlyArray<string>
  readonly max_concurrent_jobs: number
  readonly labels: { readonly [key: string]: string }
  readonly version: { readonly sdk: string; readonly runtime: string }
  /** `seals`: everything that the worker sends is sealed. */
  readonly capabilities: { readonly turns: number; readonly renewals?: boolean; readonly seals?: boolean }
  readonly registration: WorkerRegistration
  /** Absent where the end of a process cannot be told. */
  readonly process?: ProcessIdentity
  /** New for every worker object: tells a worker that comes back from another one with the same id. */
  readonly instance: string
  /** Job ids of the turns in flight that the worker wants to keep. */
  readonly jobs: ReadonlyArray<string>
  /** 1, and one more for every registration of the instance, those that failed included. Workers of earlier versions send none. */
  readonly number?: number
  /** As the answer to the first registration of this instance has it, in all later ones. */
  readonly since?: string
}

/** Tells a process from every other one. */
export interface ProcessIdentity {
  /** The machine since its start, and the namespace in which `pid` counts. */
  readonly host: string
  readonly pid: number
  /** When it was started, as the machine counts: another process may get the same `pid` later. */
  readonly startedAt: string
}

export interface RegisterTurnsResponse {
  /** `renewals`: leases are extended by `holding` only. Engines without it extend all of them by whatever they hear. */
  readonly capabilities: {
    readonly turns: number
    readonly renewals?: boolean
    /** What the engine answers and pushes is sealed, beginning with this, except for the answers to requests that failed. */
    readonly seals?: boolean
  }
  readonly session: string
  /** How long a lease holds without a renewal. */
  readonly leaseMs: number
  /** How long a worker whose connection is closed may be away: as long as its leases hold. */
  readonly presenceMs: number
  /** How long a poll should stay open. */
  readonly waitMs: number
  /** The largest body of a request of this worker. */
  readonly maxBodyBytes: number
  /** Those of `jobs` that the worker does not hold any more: their turns are to be dropped. */
  readonly lost: ReadonlyArray<string>
  /** The ids of the jobs that this instance is given sort after this. Engines of earlier versions do not say it. */
  readonly since?: string
}

/** How many jobs the worker takes, as totals since the session began. Absent totals are as they were. */
export interface Room {
  readonly asked?: number
  readonly withdrawn?: number
}

/** A request that may extend leases. */
export interface Renewal {
  /** Job ids of the turns that the worker is at. Absent when none is to be extended. */
  readonly holding?: ReadonlyArray<string>
  /**
   * What runs in these turns and has done so for a while: a list of `RunningTurn`s, see `readRunning`; absent when nothing has. It
   * means something beside `holding` only.
   */
  readonly running?: unknown
  /** Number of the last delivery received; 0 at first. Workers with a stream of earlier versions do not say it. */
  readonly seen?: number
}

/** Answered as soon as there is something, else after `waitMs`. A newer poll makes the engine answer the older at once. */
export interface PollRequest extends Room, Renewal {
  readonly session: string
  /** Number of the last delivery received; 0 at first. */
  readonly seen: number
  readonly waitMs: number
}

/** A job or a notice. A notice comes after the job that it is about. */
export type Delivery =
  { readonly seq: number; readonly job: Job } | { readonly seq: number; readonly notice: Notice }

export interface PollResponse {
  /** In the order of their numbers. */
  readonly deliveries: ReadonlyArray<Delivery>
  /** The engine is about to stop: the worker keeps its turns and looks for it until its leases end. */
  readonly closing?: boolean
}

/** Room that the reports make is known without a new poll. */
export interface ReportsRequest extends Room {
  readonly session: string
  /** 1, and one more for every new batch of the instance. The same number again is the same batch. */
  readonly batch: number
  readonly reports: ReadonlyArray<TurnReport>
}

/** One answer for every report, in their order, after the commit. */
export interface ReportsResponse {
  readonly acks: ReadonlyArray<WireTurnAck>
}

/** A `TurnAck` as JSON: `undefined` in `outcomes` is `null`. */
export type WireTurnAck =
  | {
      readonly _tag: "Accepted"
      readonly outcomes: ReadonlyArray<Outcome | null>
      readonly paused?: true
    }
  | { readonly _tag: "Refused"; readonly reason: RefusalReason; readonly message: string }

/** A `TurnAck` again. */
export const readAck = (ack: WireTurnAck): TurnAck =>
  ack._tag === "Refused" ? ack : { ...ack, outcomes: ack.outcomes.map((outcome) => outcome ?? undefined) }

/** See `WorkerSession.late`. */
export interface LateRequest {
  readonly session: string
  readonly runId: string
  readonly stepName: string
  readonly lingerMs: number
}
