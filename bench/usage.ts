/** What `use.ts` counts in processes that preload it, and where it writes the figures. */

export interface EngineUse {
  readonly statements: number
  /** How often the engine waited for an answer of Postgres. */
  readonly roundTrips?: number
  /** Committed transactions. A write outside of a transaction counts too, because SQLite makes it one. */
  readonly commits: number
  /** The size of all pages in use at the end, also of those that are still in the write-ahead log. */
  readonly bytes: number
  /** HTTP requests answered, and WebSocket messages received. */
  readonly requests: number
}

/** The file to which every process adds a line with its CPU time, in milliseconds. */
export const cpuFile = (useFile: string): string => `${useFile}.cpu`
