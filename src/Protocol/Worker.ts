/**
 * The protocol between workers and engines for turns, whatever the transport. A turn is one execution of a handler, from the top
 * until the run ends or has to wait.
 *
 * The engine dispatches a {@link Job}: a lease on one run, with everything that a turn needs. The worker runs the handler from
 * the top and reports {@link TurnOp}s in the order in which the handler saw them. The engine applies the ops of a report
 * atomically and in order, and answers when they are durable. During a turn the engine sends {@link Notice}s: a sleep that is
 * due, an event that arrived, a cancellation.
 *
 * The worker determines the order of the journal. When a wait fires (its time comes, its event arrives, its child run ends)
 * during a turn, the engine stores the outcome in the row of the wait and sends a notice. The outcome is added to the journal
 * when the worker reports `Settle`, so that a replay settles steps in exactly the order that the handler saw. If the lease ends
 * first, the engine moves the outcomes of fired waits to the journal itself.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { NewStreamEvent, StoredStreamEvent, StreamAppend } from "../EntityStream.ts"
import type { AccessError, ConnectionError, SerializedError, ValidationError } from "../Errors.ts"
import type { EventEntity } from "../Event.ts"
import type { JsonText } from "../Json.ts"
import type { ValueInJson } from "../KvValue.ts"
import type { LineLevel } from "../LogFields.ts"
import type { StepKind } from "../StepKind.ts"
import type { ProjectionFeed } from "./ProjectionOwners.ts"
import type { RunningTurn } from "./RunningSteps.ts"
import type { KeptRuns } from "../KeepRuns.ts"
import type { Overlap } from "../Overlap.ts"
import type { Versioning } from "../Versioning.ts"

export type { SerializedError } from "../Errors.ts"

/** How a step ended. */
export type Outcome =
  | {
      /** How it ended. */ readonly _tag: "Success"
      /** The step's result, as JSON. */ readonly value: JsonText | undefined
    }
  | {
      /** How it ended. */ readonly _tag: "Failure"
      /** The step's error. */ readonly error: SerializedError
    }

/** A finished step. A journal lists entries in the order in which the handler saw them. */
export interface JournalEntry {
  /** The step id without the leading `<run id>:`, unique within the run. */
  readonly stepKey: string
  /** Name of the step. */
  readonly name: string
  /** What kind of step it is. */
  readonly kind: StepKind
  /**
   * Set when the entry answers a step of any kind, and `kind` has no meaning: the step was patched, or the server does
   * not store kinds.
   */
  readonly anyKind?: true
  /** How the step ended. */
  readonly outcome: Outcome
  /** Number of attempts, the last one included. */
  readonly attempt: number
}

/** A step that has begun and not finished: it waits for a time, an event, a child run or a retry. */
export interface OpenStep {
  /** The step id without the leading `<run id>:`. */
  readonly stepKey: string
  /** Name of the step. */
  readonly name: string
  /** What kind of step it is. */
  readonly kind: StepKind
  /**
   * For a step between two attempts, how many attempts have failed; 0 for other steps. The engine sends a `Fired` notice
   * when the delay before the next attempt has passed.
   */
  readonly failures: number
  /** For a step between two attempts, whether the delay before the next attempt has not passed. */
  readonly pending: boolean
}

/** The triggering event of a run. */
export interface JobEvent {
  readonly id: string
  readonly name: string
  readonly version: number
  readonly data: JsonText
  readonly metadata?: JsonText
  /** In epoch milliseconds. */
  readonly timestamp: number
  readonly source?: string
  readonly idempotencyKey?: string
  /** The entity and its version, for an event that was appended to an entity stream. */
  readonly entity?: EventEntity
  /** The W3C `traceparent` of what caused the event, such as a step, if that was traced. */
  readonly trace?: string
}

/** A lease on a run, with everything that its next turn needs. */
export interface Job {
  /** Id of the job, unique for each dispatch. It is the lease token, and every report of the turn contains it. */
  readonly jobId: string
  /** Id of the run. */
  readonly runId: string
  /** Id of the function. */
  readonly functionId: string
  /** The environment of the run. */
  readonly environment: string
  /** The attempt of the run, from 1. It grows when the handler fails outside of steps and is retried. */
  readonly attempt: number
  /**
   * 0 at first. It grows with every retry after compensations: the steps that the compensations undid run again, with new
   * idempotency keys.
   */
  readonly generation: number
  /** The event that started the run. */
  readonly event: JobEvent
  /** Finished steps. */
  readonly journal: ReadonlyArray<JournalEntry>
  /** Steps that have begun and not finished. */
  readonly open: ReadonlyArray<OpenStep>
  /** Present while the run is compensating: the error, and the registered compensations, in registration order. */
  readonly compensating?: { readonly error: SerializedError; readonly compensations: ReadonlyArray<string> }
  /** How long a turn with suspended steps stays alive after the last activity of its handler, in milliseconds. */
  readonly lingerMs: number
  /** When the run was created, in epoch milliseconds. */
  readonly createdAt: number
  /** Whether the engine supports `Transact` ops. */
  readonly transactions?: true
  /** Values of the secrets that the function names. */
  readonly secrets?: { readonly [name: string]: string }
}

/** When something is due: a delay in milliseconds by the engine's clock, or a time in epoch milliseconds. */
export type Due = { readonly afterMs: number } | { readonly at: number }

/** A write of a `step.tx`. */
export type TxWrite =
  | ({ readonly _tag: "append" } & Omit<StreamAppend, "idempotencyKey">)
  | ({ readonly _tag: "emit" } & NewStreamEvent)
  | TxKvWrite

/** A change of a key in a bucket; without `value`, the deletion of the key. Two writes of a step cannot change the same key. */
export interface TxKvWrite {
  readonly _tag: "kv"
  readonly bucket: string
  readonly key: string
  readonly value?: ValueInJson
  /** The revision that the key must have; 0 if it must not exist. */
  readonly expected?: number
}

/** The result of a {@link TxWrite}. */
export type TxWriteResult =
  | {
      /** Kind of the write. */
      readonly _tag: "append"
      /** Id of the entity. */
      readonly entityId: string
      /** The version of the stream after the append. */
      readonly entityVersion: number
      /** Position of the last event in the log. */
      readonly position: number
      /** The stored events. */
      readonly events: ReadonlyArray<StoredStreamEvent>
    }
  | {
      /** Kind of the write. */
      readonly _tag: "emit"
      /** Id of the event. */
      readonly eventId: string
      /** Position of the event in the log. */
      readonly position: number
      /** Ids of the runs that the event started. */
      readonly runIds: ReadonlyArray<string>
    }
  | {
      /** Kind of the write. */
      readonly _tag: "kv"
      /** Name of the bucket. */
      readonly bucket: string
      /** The key. */
      readonly key: string
      /** Revision of the key after the write; 0 when a key was deleted that never existed. */
      readonly revision: number
    }

/** The outcome of a `step.tx`: the result of its code, and the results of its writes, in order. */
export interface TxOutcome {
  readonly value?: unknown
  readonly writes: ReadonlyArray<TxWriteResult>
}

/**
 * An operation ("op") that a worker reports during a turn. `trace` is the `traceparent` of the step; events that the
 * step emits and runs that it starts get this `traceparent`.
 */
export type TurnOp =
  /** A step finished: with its result, or with an error that is not retried. */
  | {
      /** Kind of the op. */
      readonly _tag: "StepDone"
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** Name of the step. */
      readonly name: string
      /** What kind of step it is. */
      readonly kind: StepKind
      /** How the step ended. */
      readonly outcome: Outcome
      /** Number of attempts of the step, this one included. */
      readonly attempt: number
      /** When this attempt began, in epoch milliseconds. */
      readonly startedAt: number
      /** When this attempt ended, in epoch milliseconds. */
      readonly endedAt: number
    }
  /**
   * The code of a `step.tx` returned `value`. Either all of its writes and the step's result are stored, in the
   * transaction of the report, or none of them. The outcome that the engine answers is a {@link TxOutcome} as JSON; the
   * journal holds it at the op's position. A `Failure` means that a write was refused (a version or revision conflict)
   * and nothing of the op was stored. The worker then decides by the step's retry policy whether the code runs again.
   */
  | {
      /** Kind of the op. */
      readonly _tag: "Transact"
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** Name of the step. */
      readonly name: string
      /** The result of the code, as JSON. */
      readonly value: JsonText | undefined
      /** The writes, in order. */
      readonly writes: ReadonlyArray<TxWrite>
      /** The W3C `traceparent` of the step, if it is traced. */
      readonly trace?: string
      /** Number of attempts of the step, this one included. */
      readonly attempt: number
      /** When this attempt began, in epoch milliseconds. */
      readonly startedAt: number
      /** When this attempt ended, in epoch milliseconds. */
      readonly endedAt: number
    }
  /** An attempt of a step failed, and the next one is due later. `failures` counts failed attempts, including this one. */
  | {
      /** Kind of the op. */
      readonly _tag: "StepRetry"
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** Name of the step. */
      readonly name: string
      /** What kind of step it is. */
      readonly kind: StepKind
      /** Number of failed attempts, this one included. */
      readonly failures: number
      /** The error of this attempt. */
      readonly error: SerializedError
      /** When the next attempt is due. */
      readonly due: Due
    }
  /** Waits for a time. If a step key is reported with several due times, only the first one applies. */
  | {
      /** Kind of the op. */ readonly _tag: "Sleep"
      /** The step id without the leading `<run id>:`. */ readonly stepKey: string
      /** Name of the step. */ readonly name: string
      /** When the sleep ends. */ readonly due: Due
    }
  /**
   * Waits for an event. `match` is a dotted path whose values in the awaited event and in the triggering event must be
   * equal, or a CEL expression over `event` (the awaited one) and `trigger`. The wait also accepts events that were
   * emitted before the wait began, provided that they come after the triggering event, and after the last event that a
   * previous wait of the same branch (`scope`) has received for the same `event` and `match`. Waits of the steps in
   * `unseen` do not count as previous waits.
   */
  | {
      /** Kind of the op. */
      readonly _tag: "WaitForEvent"
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** Name of the step. */
      readonly name: string
      /** The branch of the step; `""` outside branches. */
      readonly scope: string
      /** Name or pattern of the event. */
      readonly event: string
      /** Path or expression that relates the event to the triggering one. */
      readonly match?: string
      /** Keys of steps that waited for the same `event` and `match`, and whose outcome the handler has not seen. */
      readonly unseen?: ReadonlyArray<string>
      /** When the wait times out. */
      readonly timeout: Due
      /** The timeout in milliseconds. */
      readonly timeoutMs: number
    }
  /** Starts a child run and waits for its result. */
  | {
      /** Kind of the op. */
      readonly _tag: "Invoke"
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** Name of the step. */
      readonly name: string
      /** Id of the function. */
      readonly functionId: string
      /** Data of the child's event, as JSON. */
      readonly input: JsonText | undefined
      /** The timeout in milliseconds. */
      readonly timeoutMs: number
      /** The W3C `traceparent` of the step, if it is traced. */
      readonly trace?: string
    }
  /** Starts a child run without waiting. The outcome that the engine answers is `{"runId": ...}`. */
  | {
      /** Kind of the op. */
      readonly _tag: "InvokeAsync"
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** Name of the step. */
      readonly name: string
      /** Id of the function. */
      readonly functionId: string
      /** Data of the child's event, as JSON. */
      readonly input: JsonText | undefined
      /** The W3C `traceparent` of the step, if it is traced. */
      readonly trace?: string
    }
  /** Publishes to a topic, in the transaction of the report. The outcome that the engine answers is `{"eventId", "sequence"}`. */
  | {
      /** Kind of the op. */
      readonly _tag: "Publish"
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** Name of the step. */
      readonly name: string
      /** Name of the topic. */
      readonly topic: string
      /** The message, as JSON. */
      readonly data: JsonText
      /** The W3C `traceparent` of the step, if it is traced. */
      readonly trace?: string
    }
  /** The handler sees the outcome of a wait that has fired: the engine adds the outcome to the journal at this place. */
  | {
      /** Kind of the op. */ readonly _tag: "Settle"
      /** The step id without the leading `<run id>:`. */ readonly stepKey: string
    }
  /** A suspended step is no longer needed (its branch was cancelled, its fiber interrupted). */
  | {
      /** Kind of the op. */ readonly _tag: "Withdraw"
      /** The step id without the leading `<run id>:`. */ readonly stepKey: string
    }
  /** The handler returned. Ends the turn. */
  | {
      /** Kind of the op. */ readonly _tag: "Complete"
      /** The handler's result, as JSON. */ readonly output: JsonText | undefined
    }
  /** Something failed outside steps, and the run has attempts left. Ends the turn. */
  | {
      /** Kind of the op. */ readonly _tag: "RetryRun"
      /** The error. */ readonly error: SerializedError
      /** When the next attempt is due. */ readonly due: Due
    }
  /** The run failed permanently and has compensations: they run next, in this turn. */
  | {
      /** Kind of the op. */
      readonly _tag: "Compensate"
      /** The error of the run. */
      readonly error: SerializedError
      /** Names of the steps to compensate, in registration order. */
      readonly compensations: ReadonlyArray<string>
    }
  /** The run failed permanently, and its compensations, if any, have run. Ends the turn. */
  | {
      /** Kind of the op. */ readonly _tag: "Fail"
      /** The error of the run. */ readonly error: SerializedError
    }
  /** No step is running, and the run waits for the steps in `open`. Ends the turn. */
  | {
      /** Kind of the op. */ readonly _tag: "Suspend"
      /** Keys of the steps that wait. */ readonly open: ReadonlyArray<string>
    }
  /** The turn cannot continue before somebody acts (nondeterminism, a damaged record, a bug). Ends the turn. */
  | {
      /** Kind of the op. */ readonly _tag: "Pause"
      /** Code of the reason. */ readonly code: string
      /** The reason as a sentence. */ readonly message: string
      /** Details. */ readonly details?: unknown
    }
  /**
   * The worker returns the run as it is, because the worker stops or because the turn may begin no further step. Ends the turn.
   */
  | { /** Kind of the op. */ readonly _tag: "Release" }

/** Whether an op ends the turn. */
export const endsTurn = (op: TurnOp): boolean =>
  op._tag === "Complete" ||
  op._tag === "RetryRun" ||
  op._tag === "Fail" ||
  op._tag === "Suspend" ||
  op._tag === "Pause" ||
  op._tag === "Release"

/** A log line of a run. */
export interface LogLine {
  /** In epoch milliseconds, by the worker's clock. */
  readonly at: number
  readonly level: LineLevel
  readonly message: string
  readonly data?: JsonText
  /** Name of the step that logged it; absent outside steps. */
  readonly step?: string
  /** Attempt of the step that logged the line; outside steps, attempt of the run. */
  readonly attempt?: number
  /** Id of the worker; absent for push handlers. */
  readonly worker?: string
}

/** Log lines of a turn since its last report, oldest first. The engine leaves invalid lines out. */
export interface TurnLogs {
  readonly lines: ReadonlyArray<LogLine>
  /** Number of earlier lines that were dropped because the lines exceeded the limits. */
  readonly dropped?: number
}

/** Ops of one turn, applied in order and atomically. */
export interface TurnReport {
  /** Id of the job. */
  readonly jobId: string
  /** Id of the run. */
  readonly runId: string
  /** The ops, in order. */
  readonly ops: ReadonlyArray<TurnOp>
  /** Log lines; absent when there are none. Older engines ignore them. */
  readonly logs?: TurnLogs
}

/**
 * The engine's answer, after the commit.
 *
 * `outcomes` has one entry for every op. For `Transact`, `Publish` and `InvokeAsync` the entry is the outcome,
 * which the journal holds at the op's position. For `Sleep`, `WaitForEvent` and `Invoke` the entry is the outcome
 * if there already is one; the journal holds it at the position of the `Settle` that the worker reports later.
 * For all other ops the entry is `undefined`. `paused` means the same as the notice `Paused`.
 */
export type TurnAck =
  | {
      /** Whether the report was accepted. */
      readonly _tag: "Accepted"
      /** One entry for each op, as above. */
      readonly outcomes: ReadonlyArray<Outcome | undefined>
      /** Whether the run is to be paused. */
      readonly paused?: true
    }
  | {
      /** Whether the report was accepted. */ readonly _tag: "Refused"
      /** Code of the reason. */ readonly reason: RefusalReason
      /** The reason as a sentence. */ readonly message: string
    }

/**
 * Why a report changed nothing. `LEASE_LOST`: another worker has the run, or the run has ended. `CANCELLED`: the run was
 * cancelled. `LIMIT`: the report would exceed a limit (steps or bytes of a run); the engine has failed the run.
 */
export type RefusalReason = "LEASE_LOST" | "CANCELLED" | "LIMIT"

/** What the engine tells a worker about a running turn. */
export type Notice =
  /**
   * A wait has ended. For a step between two attempts, `outcome` is absent: the attempt after `failures` failures may start. The
   * same notice may be delivered a second time, even after that attempt has failed too.
   */
  | {
      /** Kind of the notice. */
      readonly _tag: "Fired"
      /** Id of the job. */
      readonly jobId: string
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** The outcome of the wait. */
      readonly outcome?: Outcome
      /** Number of failed attempts of the step so far. */
      readonly failures?: number
    }
  | {
      /** Kind of the notice. */ readonly _tag: "Cancelled"
      /** Id of the job. */ readonly jobId: string
      /** The reason, in words. */ readonly reason: string
    }
  | {
      /** Kind of the notice. */ readonly _tag: "LeaseLost"
      /** Id of the job. */ readonly jobId: string
      /** The reason, in words. */ readonly reason: string
    }
  /**
   * The run is to be paused: the turn keeps its lease and starts no more steps. Once the running steps have ended, the turn ends
   * as soon as its handler ends or waits for a step. `Paused` and `Resumed` are sent only to workers that support these notices
   * (`WorkerRegistration.pauses`).
   */
  | {
      /** Kind of the notice. */ readonly _tag: "Paused"
      /** Id of the job. */ readonly jobId: string
    }
  /** The run is no longer to be paused: a turn that has not ended continues. */
  | {
      /** Kind of the notice. */ readonly _tag: "Resumed"
      /** Id of the job. */ readonly jobId: string
    }

/** Whether the worker loses the lease with this notice. */
export const endsLease = ({ _tag }: Notice): boolean => _tag === "Cancelled" || _tag === "LeaseLost"

/** A function to register. */
export interface FunctionRegistration {
  readonly id: string
  readonly name: string
  readonly triggers: ReadonlyArray<{
    readonly event?: string
    readonly expression?: string
    readonly cron?: string
    readonly timezone?: string
    readonly overlap?: Overlap
    /** JSON Schema of the event's data. */
    readonly schema?: { readonly [member: string]: unknown }
    /** The schema version of the data that `schema` describes. */
    readonly version?: number
  }>
  readonly retry: {
    readonly maxAttempts: number
    readonly initialDelayMs: number
    readonly backoffFactor: number
    readonly maxDelayMs: number
    readonly jitter?: number
  }
  readonly timeoutMs: number
  readonly concurrency?: { readonly limit: number; readonly key?: string }
  readonly mode: "push" | "pull"
  /** URL of the push endpoint, in push mode. */
  readonly endpointUrl?: string
  /** Whether the endpoint has described itself as one that runs whole turns. */
  readonly endpointTurns?: true
  readonly actorKey?: string
  /** Paths of searchable values. */
  readonly searchBy?: ReadonlyArray<string>
  readonly secrets: ReadonlyArray<string>
  readonly recording?: boolean
  readonly recordingRetention?: string
  readonly metadata?: { readonly [key: string]: unknown }
  /** First 16 hex digits of the SHA-256 of the handler's source. */
  readonly codeHash: string
  /** Version of the code; `codeHash` by default. */
  readonly version?: string
  /** `"latest"` by default. */
  readonly versioning?: Versioning
  /** How long its runs are kept after their end; the engine's setting by default. */
  readonly keepRuns?: KeptRuns
}

/** A worker to register. */
export interface WorkerRegistration {
  /** Id of the worker. */
  readonly workerId: string
  /** The environment of the worker. */
  readonly environment: string
  /** Whether the environment was configured. If not, and the API key is bound to an environment, that environment applies. */
  readonly namesEnvironment?: boolean
  /** Hostname of its machine. */
  readonly hostname: string
  /** Its functions. */
  readonly functions: ReadonlyArray<FunctionRegistration>
  /** Maximum number of concurrent turns. */
  readonly maxConcurrentJobs: number
  /** Its labels, by name. */
  readonly labels: { readonly [key: string]: string }
  /** The versions of this package and of the runtime. */
  readonly version: { readonly sdk: string; readonly runtime: string }
  /**
   * When the worker was started, in epoch milliseconds. An older worker does not override what a newer one
   * has registered.
   */
  readonly startedAt?: number
  /** Whether the worker supports the notices `Paused` and `Resumed`, and `paused` in a {@link TurnAck}. */
  readonly pauses?: boolean
}

/** Callbacks of a transport. None may throw. */
export interface WorkerHandlers {
  /**
   * Called for each job. `isPaused` means that the run of the job is already to be paused: the worker returns the job without
   * starting anything.
   */
  readonly onJob: (job: Job, isPaused?: boolean) => void
  /** Called for each notice about a running turn. */
  readonly onNotice: (notice: Notice) => void
  /** Called when the engine refuses a worker that it had accepted. Nothing arrives after that, and no report is answered. */
  readonly onRefused?: (error: AccessError) => void
  /** Called whenever the engine may have begun or ceased to answer. `connected` says whether the engine answers. */
  readonly onConnected?: (connected: boolean) => void
  /** Whether the worker works on a job. The leases of other jobs are released. */
  readonly holds?: (jobId: string) => boolean
  /** The steps that have been running for at least this long, as far as known. */
  readonly running?: (atLeastMs: number) => ReadonlyArray<RunningTurn>
}

/** How recently the engine has answered a renewal. */
export interface LeaseFreshness {
  /**
   * Whether the last renewal that was answered is so recent that the leases outlast a step that blocks the
   * process for half of the duration of a lease.
   */
  readonly isRecent: () => boolean
  /** Renews the leases, and calls `then` when the engine has answered. */
  readonly renew: (then: () => void) => void
}

/** A worker's connection to an engine. Closing its scope returns all leases. */
export interface WorkerSession {
  /** Asks for `n` more jobs; a negative `n` withdraws `-n` of them. A job that is already on its way still arrives. */
  readonly makeRoom: (n: number) => void
  /** Sends reports. The answers are in the same order, after the commit. */
  readonly report: (
    reports: ReadonlyArray<TurnReport>
  ) => Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError>
  /**
   * Reports that a handler has gone on after its turn was suspended: the turn ended too early. The run is
   * dispatched again, and its next turn lingers longer. `stepName` is the name of the step that the handler
   * called, or a phrase that says that the handler ended. `lingerMs` is the `lingerMs` of the job of the turn.
   */
  readonly late: (late: {
    readonly runId: string
    readonly stepName: string
    readonly lingerMs: number
  }) => Effect.Effect<void, ConnectionError>
  /**
   * Whether it is certain that the worker still has its leases. If not, its turns are told that their leases are lost.
   * Absent where leases do not expire.
   */
  readonly checkLeases?: () => boolean
  /** How recently the engine has answered a renewal. Absent where leases do not expire. */
  readonly leaseFreshness?: LeaseFreshness
  /** The events of the worker's projections; absent where projections are not supported. */
  readonly projections?: ProjectionFeed
}

/** The transport between worker and engine: within one process, by polling over HTTP, or by a stream. */
export class WorkerTransport extends Context.Service<
  WorkerTransport,
  {
    /**
     * Registers the worker and its functions, and opens a session for the lifetime of the scope. Fails with `ValidationError` for
     * what the engine does not accept (an invalid trigger or expression), and with `AccessError` when the engine requires
     * another API key. A network transport does not fail when the engine is unreachable: it retries until the engine answers.
     */
    readonly open: (
      registration: WorkerRegistration,
      handlers: WorkerHandlers
    ) => Effect.Effect<WorkerSession, ConnectionError | ValidationError | AccessError, Scope.Scope>
  }
>()("@ironflow/node/WorkerTransport") {}
