/** What a client does to many runs at once. */
import type * as HKT from "effect/HKT"
import type { BulkNotFoundError, InvalidStateError } from "../Errors.ts"
import type { BulkAction, BulkOperation } from "../Protocol/Bulk.ts"
import type { EraseTarget } from "../Protocol/Erase.ts"
import { filterNames, type RunFilters } from "../RunFilters.ts"
import type { CallArgs, ClientError, EffectKind, Kind, Options, PromiseKind } from "./Kinds.ts"
import { byId, call, type Methods } from "./Methods.ts"

/** Which runs something is to be done to: those that fit all of the filters, or those with the ids. */
export interface BulkRuns extends RunFilters {
  /** At most 10,000; nothing else may be given besides. */
  readonly ids?: ReadonlyArray<string>
}

/** Options of `bulk`. */
export interface BulkOptions {
  /** Only counts: nothing is changed. */
  readonly dryRun?: boolean
  /** Why, for `cancel` and `pause`; it is kept with each run. */
  readonly reason?: string
  /** For `retry`, `resume` and `fork`: the step, by name, from which each run goes on, or each new run begins. */
  readonly fromStep?: string
  /** For `move`: the version of the function to which each run is moved; the latest by default. */
  readonly version?: string
}

/** Options of `erase`. */
export interface EraseOptions {
  /** Only counts: nothing is changed. */
  readonly dryRun?: boolean
  /** Cancels the runs among them that go on, and waits until they have ended. Without this nothing is erased while there are any. */
  readonly cancel?: boolean
  /**
   * Rewrites a SQLite file of any size afterwards, while everything waits, so that no free part of it holds what was deleted earlier.
   * Small ones are rewritten anyway.
   */
  readonly compact?: boolean
}

/** Options of `waitForBulk`. */
export interface WaitForBulkOptions {
  /** Give up after this many milliseconds with a `TimeoutError`; the operation goes on. No limit by default. */
  readonly timeout?: number
}

/** The methods, in the reading `F`. */
export interface BulkApi<F extends HKT.TypeLambda> {
  /**
   * Begins to do one thing to all runs that fit filters, or have one of the ids. The server carries it on in small transactions, also when
   * it is restarted in between and whoever has begun it is gone. It touches each run once at most, of those that were there when it
   * began and that the key could see and do this to by itself. With `dryRun` it only counts. Fails with `ValidationError` without any
   * filter, with `InvalidStateError` when 20 operations are going on already.
   *
   * ```ts
   * const { id } = await client.bulk("retry", { functionId: "process-order", status: "failed" }, { reason: "the bank is back" })
   * await client.waitForBulk(id)
   * ```
   */
  bulk(
    action: BulkAction,
    runs: BulkRuns,
    options?: Options<F, BulkOptions>
  ): Kind<F, BulkOperation, InvalidStateError | ClientError>
  /**
   * Begins to erase what belongs to one person: the data of events and messages that are named, of the runs that they have started or that
   * have received them, and of what has come of those, is replaced by a mark (`isErased`), and keys are purged. Ids, times and statuses stay.
   * It is a bulk operation, which `getBulk`, `waitForBulk` and `cancelBulk` take, with `kinds` of what was erased. It cannot be undone, and
   * backups keep the data. Fails with `ValidationError` when nothing is named, with `UnauthorizedError` for a key that is denied
   * to read some of what is looked through.
   */
  erase(
    target: EraseTarget,
    options?: Options<F, EraseOptions>
  ): Kind<F, BulkOperation, InvalidStateError | ClientError>
  /** The newest 100 bulk operations, the newest first: those that the key has begun, and for one that may read all runs those of others. */
  listBulk(...options: CallArgs<F>): Kind<F, Array<BulkOperation>, ClientError>
  /** How far a bulk operation has come. */
  getBulk(id: string, ...options: CallArgs<F>): Kind<F, BulkOperation, BulkNotFoundError | ClientError>
  /** Ends a bulk operation: it touches no more runs. One that has ended stays as it is. */
  cancelBulk(id: string, ...options: CallArgs<F>): Kind<F, BulkOperation, BulkNotFoundError | ClientError>
  /** Waits until a bulk operation has ended, and returns it. */
  waitForBulk(
    id: string,
    options?: Options<F, WaitForBulkOptions>
  ): Kind<F, BulkOperation, BulkNotFoundError | ClientError>
}

const ofBulk = { BulkNotFoundError: true } as const

export const bulkMethods: Methods<BulkApi<PromiseKind>, BulkApi<EffectKind>> = {
  bulk: [
    [
      null,
      { ...filterNames, ids: true },
      { ...call, dryRun: true, reason: true, fromStep: true, version: true }
    ],
    { InvalidStateError: true }
  ],
  erase: [
    [
      { events: true, runs: true, streams: true, keys: true, configs: true },
      { ...call, dryRun: true, cancel: true, compact: true }
    ],
    { InvalidStateError: true }
  ],
  listBulk: [[call]],
  getBulk: [byId, ofBulk],
  cancelBulk: [byId, ofBulk],
  waitForBulk: [[null, { ...call, timeout: true }], ofBulk]
}
