/**
 * What a worker and an engine say to each other about turns, independent of how it travels.
 *
 * The engine hands out a {@link Job}: a lease on one run together with everything a turn needs. The worker runs the
 * handler from the top and reports {@link TurnOp}s in the order in which the handler saw them; the engine applies the
 * ops of one report atomically and in order, and answers when they are durable. While a turn lives the engine sends
 * {@link Notice}s: a sleep that is due, an event that arrived, a cancellation.
 *
 * The order of the journal is the worker's order. When a wait of a run with a live turn fires, the engine stores the
 * outcome beside the wait and sends a notice; the entry enters the journal when the worker reports `Settle`, so that
 * a replay settles steps in exactly the order that the handler saw. When the lease ends first, the engine moves what
 * has fired into the journal itself.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { NewStreamEvent, StoredStreamEvent, StreamAppend } from "../EntityStream.ts"
import type { AccessError, ConnectionError, SerializedError, ValidationError } from "../Errors.ts"
import type { EventEntity } from "../Event.ts"
import type { JsonText } from "../Json.ts"
import type { CarriedValue } from "../KvValue.ts"
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
      /** What the step returned, as JSON text. */ readonly value: JsonText | undefined
    }
  | {
      /** How it ended. */ readonly _tag: "Failure"
      /** What the step failed with. */ readonly error: SerializedError
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
   * The entry answers a step of any kind: the step was patched, or the server does not keep kinds, and `kind` means nothing.
   */
  readonly anyKind?: true
  /** How the step ended. */
  readonly outcome: Outcome
  /** Executions of the step, the last one included. */
  readonly attempt: number
}

/** A step that has begun and has not finished: it waits for a time, an event, a child run or a retry. */
export interface OpenStep {
  /** The step id without the leading `<run id>:`. */
  readonly stepKey: string
  /** Name of the step. */
  readonly name: string
  /** What kind of step it is. */
  readonly kind: StepKind
  /**
   * Failed executions so far, for a step between two attempts; 0 otherwise. `pending` says that its delay has not
   * passed yet: the engine sends a `Fired` notice when it has.
   */
  readonly failures: number
  /** The delay before its next attempt has not passed. */
  readonly pending: boolean
}

/** The triggering event of a run. */
export interface JobEvent {
  readonly id: string
  readonly name: string
  readonly version: number
  readonly data: JsonText
  readonly metadata?: JsonText
  /** Epoch milliseconds. */
  readonly timestamp: number
  readonly source?: string
  readonly idempotencyKey?: string
  /** Of an event that was appended to an entity stream. */
  readonly entity?: EventEntity
  /** The W3C `traceparent` of what has caused it, if that was traced. */
  readonly trace?: string
}

/** A lease on a run, with all that its next turn needs. */
export interface Job {
  /** Unique per dispatch; it is the lease token, and every report of the turn carries it. */
  readonly jobId: string
  /** Id of the run. */
  readonly runId: string
  /** Id of the function. */
  readonly functionId: string
  /** The environment to work in. */
  readonly environment: string
  /** Turns started because something outside steps failed, the first included. */
  readonly attempt: number
  /** 0, and one more after every retry or resume that followed a compensation. */
  readonly generation: number
  /** The event that started the run. */
  readonly event: JobEvent
  /** Steps that are finished. */
  readonly journal: ReadonlyArray<JournalEntry>
  /** Steps that wait. */
  readonly open: ReadonlyArray<OpenStep>
  /** Present while the run is compensating: the failure, and the compensations registered, in registration order. */
  readonly compensating?: { readonly error: SerializedError; readonly compensations: ReadonlyArray<string> }
  /** How long a turn with suspended steps stays alive after the last sign of life of its handler. */
  readonly lingerMs: number
  /** When the run was created, epoch milliseconds. */
  readonly createdAt: number
  /** The engine carries out `Transact` ops. */
  readonly transactions?: true
  /** Values of the secrets that the function asked for. */
  readonly secrets?: { readonly [name: string]: string }
}

/** When something is due: a delay in milliseconds by the engine's clock, or a point in time in epoch milliseconds. */
export type Due = { readonly afterMs: number } | { readonly at: number }

/** What a `step.tx` writes. */
export type TxWrite =
  | ({ readonly _tag: "append" } & Omit<StreamAppend, "idempotencyKey">)
  | ({ readonly _tag: "emit" } & NewStreamEvent)
  | TxKvWrite

/** A change of a key, without a value its deletion. No two writes of a step change the same key. */
export interface TxKvWrite {
  readonly _tag: "kv"
  readonly bucket: string
  readonly key: string
  readonly value?: CarriedValue
  /** The revision that the key must have; 0: it must not exist. */
  readonly expected?: number
}

/** What came of a {@link TxWrite}. Positions are those of the log. */
export type TxWriteResult =
  | {
      /** Which kind of write it was. */
      readonly _tag: "append"
      /** Id of the entity. */
      readonly entityId: string
      /** The version of the stream after the append. */
      readonly entityVersion: number
      /** Position of the last event in the log. */
      readonly position: number
      /** The events, as they are stored. */
      readonly events: ReadonlyArray<StoredStreamEvent>
    }
  | {
      /** Which kind of write it was. */
      readonly _tag: "emit"
      /** Id of the event. */
      readonly eventId: string
      /** Position of the last event in the log. */
      readonly position: number
      /** Runs that the event has started. */
      readonly runIds: ReadonlyArray<string>
    }
  | {
      /** Which kind of write it was. */
      readonly _tag: "kv"
      /** Name of the bucket. */
      readonly bucket: string
      /** The key. */
      readonly key: string
      /** Of the key after the write; 0 when a key was deleted that was never there. */
      readonly revision: number
    }

/** The result of a `step.tx`: what its code returned, and what came of its writes, in their order. */
export interface TxOutcome {
  readonly value?: unknown
  readonly writes: ReadonlyArray<TxWriteResult>
}

/** One thing that happened in a turn. `trace` is the `traceparent` of the step, for what comes of it. */
export type TurnOp =
  /** A step finished: its result, or a failure that is not retried. */
  | {
      /** What happened. */
      readonly _tag: "StepDone"
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** Name of the step. */
      readonly name: string
      /** What kind of step it is. */
      readonly kind: StepKind
      /** How the step ended. */
      readonly outcome: Outcome
      /** Executions of the step, this one included. */
      readonly attempt: number
      /** When it began, epoch milliseconds. */
      readonly startedAt: number
      /** When it ended, epoch milliseconds. */
      readonly endedAt: number
    }
  /**
   * The code of a `step.tx` has returned `value`: its writes and the step's result are stored in the transaction of the
   * report, or none of them. The answer's outcome is a {@link TxOutcome} as JSON text, which is in the journal at the op's
   * own place. A `Failure` says that a write was refused (a conflict of versions or revisions): nothing of the op was stored, and the
   * worker decides by the step's policy whether the code runs again.
   */
  | {
      /** What happened. */
      readonly _tag: "Transact"
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** Name of the step. */
      readonly name: string
      /** What the code returned, as JSON text. */
      readonly value: JsonText | undefined
      /** What to write, in this order. */
      readonly writes: ReadonlyArray<TxWrite>
      /** The W3C `traceparent` of the step, if it is traced. */
      readonly trace?: string
      /** Executions of the step, this one included. */
      readonly attempt: number
      /** When it began, epoch milliseconds. */
      readonly startedAt: number
      /** When it ended, epoch milliseconds. */
      readonly endedAt: number
    }
  /** An execution of a step failed and the next one is due later. `failures` counts failed executions, this included. */
  | {
      /** What happened. */
      readonly _tag: "StepRetry"
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** Name of the step. */
      readonly name: string
      /** What kind of step it is. */
      readonly kind: StepKind
      /** Executions that have failed, this one included. */
      readonly failures: number
      /** What it failed with. */
      readonly error: SerializedError
      /** When it goes on. */
      readonly due: Due
    }
  /** Wait for a time. The first due time reported for a step key stands. */
  | {
      /** What happened. */ readonly _tag: "Sleep"
      /** The step id without the leading `<run id>:`. */ readonly stepKey: string
      /** Name of the step. */ readonly name: string
      /** When it goes on. */ readonly due: Due
    }
  /**
   * Wait for an event. `scope` is the branch of the step (`""` at the root). `match` is a dotted path whose values in
   * the candidate and in the triggering event must be equal, or a CEL expression over `event` and `trigger`. `unseen` are
   * steps of the run that waited for the same and whose event the handler has not seen: they do not move what this one looks back to.
   */
  | {
      /** What happened. */
      readonly _tag: "WaitForEvent"
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** Name of the step. */
      readonly name: string
      /** The branch of the step; `""` outside of branches. */
      readonly scope: string
      /** Name or pattern of the event. */
      readonly event: string
      /** What the event has to have in common with the one that started the run. */
      readonly match?: string
      /** Steps that waited for the same, and whose event the handler has not seen. */
      readonly unseen?: ReadonlyArray<string>
      /** When the wait ends without an event. */
      readonly timeout: Due
      /** How long to wait, in milliseconds. */
      readonly timeoutMs: number
    }
  /** Start a child run and wait for its result. */
  | {
      /** What happened. */
      readonly _tag: "Invoke"
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** Name of the step. */
      readonly name: string
      /** Id of the function. */
      readonly functionId: string
      /** The data of the child's event, as JSON text. */
      readonly input: JsonText | undefined
      /** How long to wait, in milliseconds. */
      readonly timeoutMs: number
      /** The W3C `traceparent` of the step, if it is traced. */
      readonly trace?: string
    }
  /** Start a child run and go on. The answer's outcome is `{"runId": ...}`. */
  | {
      /** What happened. */
      readonly _tag: "InvokeAsync"
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** Name of the step. */
      readonly name: string
      /** Id of the function. */
      readonly functionId: string
      /** The data of the child's event, as JSON text. */
      readonly input: JsonText | undefined
      /** The W3C `traceparent` of the step, if it is traced. */
      readonly trace?: string
    }
  /** Publish to a topic, in the transaction of the report. The answer's outcome is `{"eventId", "sequence"}`. */
  | {
      /** What happened. */
      readonly _tag: "Publish"
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** Name of the step. */
      readonly name: string
      /** Name of the topic. */
      readonly topic: string
      /** The message, as JSON text. */
      readonly data: JsonText
      /** The W3C `traceparent` of the step, if it is traced. */
      readonly trace?: string
    }
  /** The handler has seen the outcome of a wait that fired: it takes its place in the journal. */
  | {
      /** What happened. */ readonly _tag: "Settle"
      /** The step id without the leading `<run id>:`. */ readonly stepKey: string
    }
  /** A suspended step is no longer wanted (its branch was cancelled, its fiber interrupted). */
  | {
      /** What happened. */ readonly _tag: "Withdraw"
      /** The step id without the leading `<run id>:`. */ readonly stepKey: string
    }
  /** The handler returned. Ends the turn. */
  | {
      /** What happened. */ readonly _tag: "Complete"
      /** What the handler returned, as JSON text. */ readonly output: JsonText | undefined
    }
  /** Something outside steps failed and the run has attempts left. Ends the turn. */
  | {
      /** What happened. */ readonly _tag: "RetryRun"
      /** What it failed with. */ readonly error: SerializedError
      /** When it goes on. */ readonly due: Due
    }
  /** The run failed for good and has compensations: they run next, in this turn. */
  | {
      /** What happened. */
      readonly _tag: "Compensate"
      /** What it failed with. */
      readonly error: SerializedError
      /** Names of the steps to take back, in the order in which they were registered. */
      readonly compensations: ReadonlyArray<string>
    }
  /** The run failed for good, and its compensations, if any, have run. Ends the turn. */
  | {
      /** What happened. */ readonly _tag: "Fail"
      /** What it failed with. */ readonly error: SerializedError
    }
  /** Nothing runs and these steps are open. Ends the turn. */
  | {
      /** What happened. */ readonly _tag: "Suspend"
      /** Steps that wait. */ readonly open: ReadonlyArray<string>
    }
  /** The turn cannot go on until somebody looks at it (nondeterminism). Ends the turn. */
  | {
      /** What happened. */ readonly _tag: "Pause"
      /** Why, in a word. */ readonly code: string
      /** Why, in a sentence for a person. */ readonly message: string
      /** The facts. */ readonly details?: unknown
    }
  /** The worker gives the run back unharmed (forced stop). Ends the turn. */
  | { /** What happened. */ readonly _tag: "Release" }

/** The ops that end a turn. */
export const endsTurn = (op: TurnOp): boolean =>
  op._tag === "Complete" ||
  op._tag === "RetryRun" ||
  op._tag === "Fail" ||
  op._tag === "Suspend" ||
  op._tag === "Pause" ||
  op._tag === "Release"

/** A line that the code of a run has logged. */
export interface LogLine {
  /** Epoch milliseconds, by the worker's clock. */
  readonly at: number
  readonly level: LineLevel
  readonly message: string
  readonly data?: JsonText
  /** The step in whose code it was logged; absent outside of steps. */
  readonly step?: string
  /** Of the step, else of the run. */
  readonly attempt?: number
  /** Absent for lines of push handlers. */
  readonly worker?: string
}

/** What a turn has logged since its last report, oldest first. */
export interface TurnLogs {
  readonly lines: ReadonlyArray<LogLine>
  /** Lines before these for which there was no room. */
  readonly dropped?: number
}

/** Ops of one turn, applied in order and all or none. */
export interface TurnReport {
  /** The job that it is about. */
  readonly jobId: string
  /** Id of the run. */
  readonly runId: string
  /** What happened, in this order. */
  readonly ops: ReadonlyArray<TurnOp>
  /** Absent when nothing was logged. Engines of earlier versions leave it aside. */
  readonly logs?: TurnLogs
}

/**
 * The engine's answer, after the commit.
 *
 * `outcomes` has one place for every op: for `Transact`, `Publish` and `InvokeAsync` the outcome, which is in the journal at the
 * op's own place; for `Sleep`, `WaitForEvent` and `Invoke` the outcome if it is already there (then `Settle` follows
 * when the handler has seen it), else `undefined`. `paused` says what the notice `Paused` does.
 */
export type TurnAck =
  | {
      /** Whether the report was taken. */
      readonly _tag: "Accepted"
      /** One for each op, as above. */
      readonly outcomes: ReadonlyArray<Outcome | undefined>
      /** The run is to be paused. */
      readonly paused?: true
    }
  | {
      /** Whether the report was taken. */ readonly _tag: "Refused"
      /** Why not, in a word. */ readonly reason: RefusalReason
      /** Why not, in a sentence for a person. */ readonly message: string
    }

/**
 * Why a report changed nothing. `LEASE_LOST`: somebody else has the run, or the run has ended. `CANCELLED`: the run was
 * cancelled. `LIMIT`: it would pass a limit (steps or bytes of a run); the engine has failed the run.
 */
export type RefusalReason = "LEASE_LOST" | "CANCELLED" | "LIMIT"

/** What the engine tells a worker about a turn in flight. */
export type Notice =
  /**
   * A wait is over. For a step between two attempts `outcome` is absent: the one after `failures` failed attempts may start.
   * A notice may come twice, and then late: when that attempt has failed too.
   */
  | {
      /** What happened. */
      readonly _tag: "Fired"
      /** The job that it is about. */
      readonly jobId: string
      /** The step id without the leading `<run id>:`. */
      readonly stepKey: string
      /** What came of the wait. */
      readonly outcome?: Outcome
      /** Failed attempts of the step that goes on. */
      readonly failures?: number
    }
  | {
      /** What happened. */ readonly _tag: "Cancelled"
      /** The job that it is about. */ readonly jobId: string
      /** Why, in words. */ readonly reason: string
    }
  | {
      /** What happened. */ readonly _tag: "LeaseLost"
      /** The job that it is about. */ readonly jobId: string
      /** Why, in words. */ readonly reason: string
    }
  /**
   * The run is to be paused: the turn keeps its lease, begins no step any more, and ends when the steps that run have
   * ended. This and the next are for workers that know them (`WorkerRegistration.pauses`).
   */
  | { /** What happened. */ readonly _tag: "Paused"; /** The job that it is about. */ readonly jobId: string }
  /** The run is not to be paused any more: a turn that has not ended yet goes on. */
  | {
      /** What happened. */ readonly _tag: "Resumed"
      /** The job that it is about. */ readonly jobId: string
    }

/** The notices after which the worker does not hold the lease. */
export const endsLease = ({ _tag }: Notice): boolean => _tag === "Cancelled" || _tag === "LeaseLost"

/** A function as a worker registers it. */
export interface FunctionRegistration {
  readonly id: string
  readonly name: string
  readonly triggers: ReadonlyArray<{
    readonly event?: string
    readonly expression?: string
    readonly cron?: string
    readonly timezone?: string
    readonly overlap?: Overlap
    /** What the data of the event is like, as JSON Schema. */
    readonly schema?: { readonly [member: string]: unknown }
    /** The version of the data that `schema` is about. */
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
  /** Where the engine calls for turns, in push mode. */
  readonly endpointUrl?: string
  /** The endpoint has described itself as one that runs whole turns. */
  readonly endpointTurns?: true
  readonly actorKey?: string
  /** Paths whose values runs are found by. */
  readonly searchBy?: ReadonlyArray<string>
  readonly secrets: ReadonlyArray<string>
  readonly recording?: boolean
  readonly recordingRetention?: string
  readonly metadata?: { readonly [key: string]: unknown }
  /** First 16 hex digits of the SHA-256 of the handler's source text. */
  readonly codeHash: string
  /** What the code is called; `codeHash` unless given. */
  readonly version?: string
  /** `"latest"` unless given. */
  readonly versioning?: Versioning
  /** How long its runs are kept after their end; as long as the engine keeps runs unless given. */
  readonly keepRuns?: KeptRuns
}

/** A worker as it announces itself. */
export interface WorkerRegistration {
  /** How the worker is known. */
  readonly workerId: string
  /** The environment to work in. */
  readonly environment: string
  /** Somebody chose the environment; else an API key that is bound to one decides. */
  readonly namesEnvironment?: boolean
  /** The machine that it runs on. */
  readonly hostname: string
  /** The functions that it has. */
  readonly functions: ReadonlyArray<FunctionRegistration>
  /** Turns that it takes at once. */
  readonly maxConcurrentJobs: number
  /** Its labels, by name. */
  readonly labels: { readonly [key: string]: string }
  /** The versions of this package and of what runs it. */
  readonly version: { readonly sdk: string; readonly runtime: string }
  /** When the worker was started, epoch milliseconds: it does not take back what a younger one has registered. */
  readonly startedAt?: number
  /** It knows the notices `Paused` and `Resumed`, and `paused` in an answer. */
  readonly pauses?: boolean
}

/** What a transport calls when something arrives. None may throw. */
export interface WorkerHandlers {
  /** `isPaused` says that its run is to be paused already: it is given back, and nothing of it begins. */
  readonly onJob: (job: Job, isPaused?: boolean) => void
  /** Called with what the engine says about a turn in flight. */
  readonly onNotice: (notice: Notice) => void
  /** The engine refuses a worker that it had accepted. Nothing arrives any more, and no report is answered. */
  readonly onRefused?: (error: AccessError) => void
  /** Whether the engine answers now; said again whenever it may have changed. */
  readonly onConnected?: (connected: boolean) => void
  /** Whether the worker is at the turn of a job: the lease of one that it is not at is let go. */
  readonly holds?: (jobId: string) => boolean
  /** The steps whose code has run for so long or longer, as far as that is known. */
  readonly running?: (atLeastMs: number) => ReadonlyArray<RunningTurn>
}

/** What is known of when the engine has answered a renewal. */
export interface Touch {
  /** Whether it has so recently that leases hold while the code of a step keeps the process busy for half of the term. */
  readonly isRecent: () => boolean
  /** Renews, and calls `then` when the engine has answered. */
  readonly renew: (then: () => void) => void
}

/** A worker's connection to an engine. Closing its scope gives every lease back. */
export interface WorkerSession {
  /** Asks for `n` more jobs, or takes `-n` back; a job that is on its way then arrives all the same. */
  readonly credit: (n: number) => void
  /** Sends reports; answers in the same order, after the commit. */
  readonly report: (
    reports: ReadonlyArray<TurnReport>
  ) => Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError>
  /**
   * A step call came after its turn had ended: the run is dispatched again with a longer linger. `lingerMs` is that of
   * the turn that ended too early.
   */
  readonly late: (late: {
    readonly runId: string
    readonly stepName: string
    readonly lingerMs: number
  }) => Effect.Effect<void, ConnectionError>
  /**
   * Says whether the leases are sure to hold; if not, the turns are told that theirs are lost. Absent where leases do not
   * run out.
   */
  readonly checkLeases?: () => boolean
  /** When the engine has last answered a renewal. Absent where leases do not run out. */
  readonly touch?: Touch
  /** How the worker's projections get at their events; absent where they do not. */
  readonly projections?: ProjectionFeed
}

/** How a worker reaches an engine: in the same process, by polling, or by a stream. */
export class WorkerTransport extends Context.Service<
  WorkerTransport,
  {
    /**
     * Registers the worker and its functions and opens a session for the lifetime of the scope. `ValidationError` says
     * what the engine does not accept (a bad trigger, a bad expression), `AccessError` that it wants another API key. A
     * transport over a network does not fail because the engine cannot be reached: it tries again until it can.
     */
    readonly open: (
      registration: WorkerRegistration,
      handlers: WorkerHandlers
    ) => Effect.Effect<WorkerSession, ConnectionError | ValidationError | AccessError, Scope.Scope>
  }
>()("@ironflow/node/WorkerTransport") {}
