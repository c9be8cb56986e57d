/** Bulk operations: one action on many runs. */
import type * as HKT from "effect/HKT"
import type { BulkNotFoundError, InvalidStateError } from "../Errors.ts"
import type { BulkAction, BulkOperation } from "../Protocol/Bulk.ts"
import type { EraseTarget } from "../Protocol/Erase.ts"
import { filterNames, type RunFilters } from "../RunFilters.ts"
import type { CallArgs, ClientError, EffectKind, Kind, Options, PromiseKind } from "./ApiKinds.ts"
import { checkAllKeys } from "../OptionKeys.ts"
import { idArguments, callKeys, type Methods } from "./Methods.ts"

/** The runs of a bulk operation: those that match all filters, or those with the given ids. */
export interface BulkRuns extends RunFilters {
  /** At most 10,000 ids; not together with filters. */
  readonly ids?: ReadonlyArray<string>
}

/** Options of `bulk`. */
export interface BulkOptions {
  /** Whether to only count the runs, without changing anything. */
  readonly dryRun?: boolean
  /** The reason for `cancel` or `pause`, stored with each run. */
  readonly reason?: string
  /** For `retry`, `resume` and `fork`: name of the step from which each run, or the fork of each run, continues. */
  readonly fromStep?: string
  /** For `move`: the version of the function to move each run to; the latest by default. */
  readonly version?: string
}

/** Options of `erase`. */
export interface EraseOptions {
  /** Whether to only count what would be erased, without changing anything. */
  readonly dryRun?: boolean
  /**
   * Whether to cancel the unfinished runs among those with data to erase, and to wait until they have ended.
   * Without this option, nothing is erased while one of these runs is unfinished.
   */
  readonly cancel?: boolean
  /**
   * Whether to rewrite even a large SQLite file afterwards, so that its free pages hold no deleted data. Other work waits
   * meanwhile. Small files are always rewritten.
   */
  readonly compact?: boolean
}

/** Options of `waitForBulk`. */
export interface WaitForBulkOptions {
  /** Timeout in milliseconds. The call then fails with `TimeoutError`; the operation continues. No limit by default. */
  readonly timeout?: number
}

/** The methods, for the API kind `F` (Effects or Promises). */
export interface BulkApi<F extends HKT.TypeLambda> {
  /**
   * Starts one action on all runs that match the filters or have one of the ids. The server performs it in small transactions,
   * and continues after a restart or when the caller disconnects. The action is applied to each run at most once, and only to runs
   * that existed at the start and that the API key may see and change. `dryRun` only counts. Fails with `ValidationError` when neither
   * filters nor ids are given, and with `InvalidStateError` when 20 operations are already running.
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
   * Starts erasing the data of one person. This replaces the data of the named events and messages with a mark (`isErased`), also
   * in the runs that were started by these events or have received them, and in what those runs produced. Named KV keys are purged. Ids, times
   * and statuses stay. This is a bulk operation: `getBulk`, `waitForBulk` and `cancelBulk` accept its id, and its `kinds` counts
   * what was erased. An erasure cannot be undone, and backups keep the data. Fails with `ValidationError` when `target` names
   * nothing, and with `UnauthorizedError` when the API key may not read some of the data that has to be searched.
   */
  erase(
    target: EraseTarget,
    options?: Options<F, EraseOptions>
  ): Kind<F, BulkOperation, InvalidStateError | ClientError>
  /**
   * Lists the latest 100 bulk operations, newest first: those that were started with the API key of this
   * client, or all if this key may read all runs.
   */
  listBulk(...options: CallArgs<F>): Kind<F, Array<BulkOperation>, ClientError>
  /** Returns a bulk operation and its progress. */
  getBulk(id: string, ...options: CallArgs<F>): Kind<F, BulkOperation, BulkNotFoundError | ClientError>
  /** Cancels a bulk operation: it changes no more runs. An operation that has ended is returned unchanged. */
  cancelBulk(id: string, ...options: CallArgs<F>): Kind<F, BulkOperation, BulkNotFoundError | ClientError>
  /** Waits until a bulk operation has ended, and returns it. */
  waitForBulk(
    id: string,
    options?: Options<F, WaitForBulkOptions>
  ): Kind<F, BulkOperation, BulkNotFoundError | ClientError>
}

const bulkErrors = { BulkNotFoundError: true } as const

export const bulkMethods: Methods<BulkApi<PromiseKind>, BulkApi<EffectKind>> = {
  bulk: [
    [
      null,
      { ...filterNames, ids: true },
      checkAllKeys({ ...callKeys, dryRun: true, reason: true, fromStep: true, version: true })
    ],
    { InvalidStateError: true }
  ],
  erase: [
    [
      checkAllKeys({ events: true, runs: true, streams: true, keys: true, configs: true }),
      checkAllKeys({ ...callKeys, dryRun: true, cancel: true, compact: true })
    ],
    { InvalidStateError: true }
  ],
  listBulk: [[callKeys]],
  getBulk: [idArguments, bulkErrors],
  cancelBulk: [idArguments, bulkErrors],
  waitForBulk: [[null, { ...callKeys, timeout: true }], bulkErrors]
}
