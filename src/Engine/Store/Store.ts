/**
 * Where the engine keeps everything. It runs programs, each one atomic change or one read, and knows nothing of what they are
 * about.
 *
 * One that changes something is answered after its change is durable. Changes that arrive together share a
 * commit. What a commit means for the rest of the engine (a wait of a live turn fired, a run became ready, a run
 * ended, something is due) is told once per commit to the listeners of `onCommit`, before the callers wake.
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { StoreError, ValidationError } from "../../Errors.ts"
import type { HistogramData } from "../../Histogram.ts"
import type { Touch } from "../../Protocol/Worker.ts"

import type { BackupInfo } from "./Backup.ts"
import type * as Program from "./Program.ts"
import type { Announced, Changes, Subject } from "./Changes.ts"

export interface StoreService {
  /** Runs a program that writes, and answers after the commit. Fails with what the program refuses with. */
  readonly write: <A, E = never>(call: Program.Call<A, E>) => Effect.Effect<A, E | StoreError>
  /** Runs a program that only reads. */
  readonly read: <A, E = never>(call: Program.Call<A, E>) => Effect.Effect<A, E | StoreError>
  /** As `read`, on what is there statement by statement: a damaged page that one of them meets does not spoil the others. */
  readonly readApart: <A, E = never>(call: Program.Call<A, E>) => Effect.Effect<A, E | StoreError>
  /** Calls `listener` after every commit; returns the way to stop that. */
  readonly onCommit: (listener: (changes: Changes) => void, options?: ListenOptions) => () => void
  /**
   * Calls `listener` within every commit that makes runs ready, before it is written: what the listener writes is part of that
   * commit. What is left ready after it is told to those who listen to commits. Returns the way to stop that.
   */
  readonly onReady: (listener: () => void) => () => void
  /**
   * Calls `listener` once, with why, when another engine is found to have taken the database over: nothing is written from then on.
   * Returns the way to stop that.
   */
  readonly onLost: (listener: (error: StoreError) => void) => () => void
  /** Looks whether that has happened, without writing. Absent where it cannot happen. */
  readonly checkOwner?: Effect.Effect<void, StoreError>
  /** Tries to write something, if that has failed the last time: `health` knows then. Absent where writing is what tells. */
  readonly tryAgain?: Effect.Effect<void>
  /**
   * Calls `listener` when this engine was out of touch with the database for so long that others take back what it held, or have done
   * so: its turns, and what it was to deliver. Returns the way to stop that. Absent where there are no others.
   */
  readonly onAway?: (listener: () => void) => () => void
  /**
   * Whether other engines have seen this one so recently that what its turns begin now is theirs alone. Absent where there are no
   * others.
   */
  readonly touch?: Touch
  /** The clock that all engines on the database go by, where there may be several: their own may be apart. */
  readonly clock?: Clock.Clock
  /** The number of this engine among those that use the database at the same time. Absent where it is the only one. */
  readonly node?: number
  /**
   * Tells other engines on the same database of something that is not stored, if they want to hear of it: `make` says what it is.
   * Absent where there are none.
   */
  readonly announce?: (what: keyof Wants, make: () => Announced) => void
  /** Has other engines look at something again. Absent where there are none. */
  readonly callOthers?: (subject: Subject) => void
  /** The file of the database, where it is one. */
  readonly filename?: string
  /** Writes all that is there now to a new file. Absent where the database has tools of its own for that. */
  readonly backup?: (filename: string) => Effect.Effect<BackupInfo, StoreError | ValidationError>

  /** What was committed since the start: absent where nobody counts it. */
  readonly commits?: () => CommitFigures
  /** Whether the database can be read and written, and nothing in it was found damaged since the start. */
  readonly health: () => StoreHealth
}

/** Groups of programs that were committed together, and how long that took. */
export interface CommitFigures {
  /** Programs in all of them. */
  readonly programs: number
  readonly durations: HistogramData
}

/** What a listener wants to be told of that is told only while somebody does. */
export interface ListenOptions {
  /**
   * What happens to runs: to each as a whole, or to its steps too, which are told to everybody as long as somebody wants them. Who
   * asks for this looks on, and hears of a commit before those who act on it.
   */
  readonly activity?: "runs" | "steps"
  /** What is saved of projections. */
  readonly states?: boolean
  /** Says which workers hear of their turns from this listener: of those that nobody names other engines are told. */
  readonly isHere?: (workerId: string) => boolean
}

/** What is told while somebody wants to hear of it. */
export interface Wants {
  /** What happens to steps, and all else that is announced. */
  readonly steps: boolean
  /** What projections save. */
  readonly states: boolean
}

export type StoreHealth =
  | { readonly status: "ok" }
  | {
      readonly status: "degraded" | "down"
      readonly message: string
      /** Nothing can be written at the moment, or ever. */
      readonly cannotWrite?: true
    }

/** The engine's storage. */
export class Store extends Context.Service<Store, StoreService>()("@ironflow/node/Store") {}
