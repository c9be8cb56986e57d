/** What `use.ts` counts in processes that have it preloaded, and where it writes it. */

export interface EngineUse {
  readonly statements: number
  /** How often somebody waited for an answer; on Postgres. */
  readonly roundTrips?: number
  /** Transactions committed; a write outside of any counts as one, since SQLite makes it one. */
  readonly commits: number
  /** Pages in use at the end, whether they have come from the write-ahead log into the file or not. */
  readonly bytes: number
  /** HTTP requests answered, and WebSocket messages received. */
  readonly requests: number
}

/** Where every process adds a line: its CPU time, milliseconds. */
export const cpuFile = (useFile: string): string => `${useFile}.cpu`
