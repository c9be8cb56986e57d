/**
 * The engine's storage. It runs programs, each an atomic change or a read, and knows nothing of their content.
 *
 * A change is answered when it is durable. Changes that arrive together share a commit. The listeners of `onCommit` are told what a
 * commit means for the rest of the engine: a wait of a live turn is satisfied, a run became ready, a run ended, something is due.
 * The listeners are told once per commit, before the callers wake; or later, if a {@link Gate} is shut at that time.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { StoreError, ValidationError } from "../../Errors.ts"
import type { HistogramData } from "../../Histogram.ts"
import type { LeaseFreshness } from "../../Protocol/Worker.ts"

import type { BackupInfo } from "./Backup.ts"
import type * as Program from "./Program.ts"
import type { Announced, Changes, ChangeKind } from "./Changes.ts"
import type { WipedData } from "./SecureDelete.ts"

/** Runs programs on a database. */
export interface StoreService {
  /** Runs a program that writes. Returns its result after the commit. Fails with the program's refusals. */
  readonly write: <A, E = never>(call: Program.Call<A, E>) => Effect.Effect<A, E | StoreError>
  /** Runs a program that only reads. */
  readonly read: <A, E = never>(call: Program.Call<A, E>) => Effect.Effect<A, E | StoreError>
  /** As `read`, but each statement sees the current data. A damaged page that one statement meets does not spoil later statements. */
  readonly readApart: <A, E = never>(call: Program.Call<A, E>) => Effect.Effect<A, E | StoreError>
  /** Calls `listener` after every commit, also of other engines on the database. Returns a function that removes the listener. */
  readonly onCommit: (listener: (changes: Changes) => void, options?: ListenOptions) => () => void
  /**
   * Calls `listener` within a transaction that makes runs ready, before it commits, unless the transaction is full or repeats one
   * program of a failed group. Writes of the listener become part of that commit. The listeners of `onCommit` are then told only of
   * runs that are still ready. Returns a function that removes the listener.
   */
  readonly onReady: (listener: () => void) => () => void
  /**
   * Calls `listener` once, with the reason, when the store has stopped for good: another engine has taken the database over, its
   * tables have become too new for this engine, or the disk has refused a sync. Nothing is written from then on. Returns a function
   * that removes the listener.
   */
  readonly onLost: (listener: (error: StoreError) => void) => () => void
  /** Checks without writing whether another engine has taken the database over. Absent where that cannot happen. */
  readonly checkOwner?: Effect.Effect<void, StoreError>
  /** If the last write failed, tries to write something, so that `health` is up to date. Absent where `health` always is. */
  readonly tryAgain?: Effect.Effect<void>
  /**
   * Calls `listener` when this engine had no contact with the database for so long that other engines may take over its turns and
   * deliveries, or have taken them over. Returns a function that removes the listener. Absent where there are no other engines.
   */
  readonly onPossibleTakeover?: (listener: () => void) => () => void
  /**
   * Tells whether other engines have seen this engine so recently that a step which begins now ends before they may take the
   * step's turn over. Absent where there are no other engines.
   */
  readonly leaseFreshness?: LeaseFreshness
  /**
   * How long ago, in milliseconds of a monotonic clock, this engine last knew everything that other engines had committed. This time
   * grows while the engine is frozen, or cut off from the database. Absent where there are no other engines.
   */
  readonly sinceCurrentMs?: () => number
  /** Sets what must happen before the listeners are told of a commit. Absent where there are no other engines. */
  readonly setGate?: (gate: Gate) => void
  /**
   * The common clock of all engines on the database: the clocks of their machines may differ. Absent where there can be only one
   * engine.
   */
  readonly clock?: Clock.Clock
  /** The number of this engine among all engines that share the database. Absent where there can be only one engine. */
  readonly node?: number
  /**
   * Tells other engines on the same database of something that is not stored, if they want to hear of it. `make` builds what is
   * told. Absent where there are no other engines.
   */
  readonly announce?: (what: keyof Wants, make: () => Announced) => void
  /** Makes the listeners of other engines read everything of this kind again. Absent where there are no other engines. */
  readonly markStale?: (kind: ChangeKind) => void
  /** The file of the database. Absent where it is not a file. */
  readonly filename?: string
  /** Writes a backup to a new file. Absent where the database has its own backup tools. */
  readonly backup?: (filename: string) => Effect.Effect<BackupInfo, StoreError | ValidationError>
  /** Turns overwriting of deleted data on or off. Absent where `wipe` is absent. */
  readonly overwrite?: (isOn: boolean) => void
  /**
   * Overwrites deleted data in the files of the database. Blocks all other work for long only if `mayBlock` is `true`. Returns a
   * message that says what may still contain the data. Absent where the files belong to a database server.
   */
  readonly wipe?: (mayBlock: boolean, what: WipedData) => Effect.Effect<string, StoreError>
  /** Empties the write-ahead log. Returns `false` when another connection reads an older state. Absent where `wipe` is absent. */
  readonly cutLog?: Effect.Effect<boolean, StoreError>
  /** Figures of the commits since the start; absent where commits are not measured. */
  readonly commitFigures?: () => CommitFigures
  /** Whether the database can be read and written, and whether damage was found since the start. */
  readonly health: () => StoreHealth
}

/** Figures of the groups of programs that were committed together. */
export interface CommitFigures {
  /** How many programs all groups together had. */
  readonly programs: number
  /** How many seconds the groups took. */
  readonly durations: HistogramData
}

/**
 * Holds commits back from the listeners. The gate is shut while this engine's copy of the API keys and policies may be out of date,
 * because another engine on the database may have changed them. So no subscriber is shown what its API key may not see any more.
 */
export interface Gate {
  /** Whether the next commit has to wait for {@link open}. */
  readonly isShut: () => boolean
  /** Resolves when the listeners may be told; never rejects. */
  readonly open: () => Promise<void>
}

/** Which of the optional changes a listener wants to be told of. */
export interface ListenOptions {
  /**
   * Activity of runs: of whole runs, or of their steps too. As long as one listener asks for steps, all listeners with this option
   * are told of steps. A listener with this option is an observer, and hears of a commit before other listeners.
   */
  readonly activity?: "runs" | "steps"
  /** Saves of projections. */
  readonly states?: boolean
  /** Whether a worker is connected to this engine. Then this listener gives the worker the notices for its turns. */
  readonly isConnectedHere?: (workerId: string) => boolean
}

/** Which optional changes at least one listener wants to be told of. Without such a listener, they are not gathered. */
export interface Wants {
  /** Activity of steps, and all other announcements. */
  readonly steps: boolean
  /** Saves of projections. */
  readonly states: boolean
}

export type StoreHealth =
  | { readonly status: "ok" }
  | {
      readonly status: "degraded" | "down"
      readonly message: string
      /** Set when nothing can be written, for now or for good. */
      readonly cannotWrite?: true
    }

/**
 * The health of a store. Each argument is a message that says what is wrong, if something is: `lost` when the store has stopped for
 * good, `outage` when writes fail at the moment, `damage` when stored data is damaged.
 */
export const healthOf = ({
  damage,
  lost,
  outage
}: {
  readonly lost: string | undefined
  readonly outage: string | undefined
  readonly damage: string | undefined
}): StoreHealth => {
  if (lost !== undefined) return { status: "down", message: lost, cannotWrite: true }
  if (outage !== undefined) return { status: "degraded", message: outage, cannotWrite: true }
  return damage === undefined ? { status: "ok" } : { status: "degraded", message: damage }
}

/**
 * The time for what is stored, epoch milliseconds: by the clock that all engines on the database share, or else by the clock of
 * this machine. Use it in effects that run in the fiber of a caller: `Clock` in such a fiber is always the clock of the machine.
 */
export const timeOf = ({ clock }: Pick<StoreService, "clock">): Effect.Effect<number> =>
  clock?.currentTimeMillis ?? Clock.currentTimeMillis

/** The engine's storage. */
export class Store extends Context.Service<Store, StoreService>()("@ironflow/node/Store") {}
