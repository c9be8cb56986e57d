/** The shape of one run's input: about 200 bytes of JSON. */
export interface Input {
  readonly i: number
  readonly id: string
  readonly customer: string
  readonly note: string
  readonly amount: number
}

/** A system under measurement. Kinds are `s1`, `s3`, `s10` (so many steps one after another) and `sleep` (one second). */
export interface Adapter<Handle> {
  readonly name: string
  boot(): Promise<void>
  /** Resolves when the run is durably accepted. */
  start(kind: string, input: Input): Promise<Handle>
  /** Resolves when the run has completed. */
  result(handle: Handle): Promise<unknown>
  /** Starts a run and resolves when it has completed, in one call; by default `start`, then `result`. */
  run?(kind: string, input: Input): Promise<unknown>
  /**
   * Runs `n` runs with `inFlight` of them at a time, and resolves when all have completed. For processes that have their clients in
   * them, each of which then starts its share itself; by default this process starts all of them.
   */
  many?(kind: string, n: number, inFlight: number): Promise<unknown>
  /** Resolves when all of them have; by default `result` of all at once. */
  waitAll?(handles: ReadonlyArray<Handle>): Promise<unknown>
  /** Further processes whose memory counts. */
  procs(): Array<{ readonly name: string; readonly pid: number }>
  disk?(): Promise<{ readonly bytes: number }>
  shutdown?(): Promise<void>
}

/** The input of the next run. */
export function input(): Input

/** Calls `call` with 0 to `n - 1`, at most `inFlight` at once. */
export function pool<A>(n: number, inFlight: number, call: (i: number) => Promise<A>): Promise<Array<A>>

/** Runs the workloads that `ONLY` names, prints one JSON line, and ends the process. `n3`: how many runs of three steps, 2,000 by default; the variable `N3` wins. */
export function main<Handle>(adapter: Adapter<Handle>, options?: { readonly n3?: number }): Promise<never>

/** Calls `fn` with 0 to `n - 1`, at most `concurrency` at a time. */
export function pool<A>(n: number, concurrency: number, fn: (i: number) => Promise<A>): Promise<Array<A>>
