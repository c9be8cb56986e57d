/**
 * Finds connections that are dead without an error, on which an answer will never come. It asks the server about its sessions, on
 * another connection. A session that waits for a request has already answered, or has never got the request.
 */
import { APPLICATION, configOf, type Driver, type PostgresSettings } from "./Driver.ts"
import type { Session } from "./Session.ts"

/** How long a connection may be silent before the server is asked, milliseconds. */
const SILENT_MS = 4000
const ANSWER_MS = 3000
/** How much longer than the statement timeout to wait for a session that the server does not list, milliseconds. */
const MARGIN_MS = 5000

const LIST_STATES = `SELECT pid, state LIKE 'idle%' OR wait_event = 'ClientWrite' AS waits FROM pg_stat_activity
  WHERE pid = ANY ($1) AND application_name = '${APPLICATION}'`

interface Seen {
  readonly progress: number
  readonly at: number
  /** How often the server has said that the session waits for a request. */
  waits: number
}

export interface DeadConnectionsOptions {
  readonly driver: Driver
  readonly settings: PostgresSettings
  /** A monotonic clock, milliseconds. */
  readonly now: () => number
}

export class DeadConnections {
  /** The sessions that wait for an answer. */
  readonly waiting = new Set<Session>()
  readonly #options: DeadConnectionsOptions
  readonly #seen = new Map<Session, Seen>()
  #isAsking = false

  constructor(options: DeadConnectionsOptions) {
    this.#options = options
  }

  /** Breaks the dead connections. Called periodically. */
  look(): void {
    const now = this.#options.now()
    for (const session of this.#seen.keys()) if (!this.waiting.has(session)) this.#seen.delete(session)
    const silent: Array<Session> = []
    for (const session of this.waiting) {
      const { progress } = session
      const seen = this.#seen.get(session)
      if (seen?.progress !== progress) this.#seen.set(session, { progress, at: now, waits: 0 })
      else if (now - seen.at >= SILENT_MS) silent.push(session)
    }
    if (silent.length === 0 || this.#isAsking) return
    this.#isAsking = true
    this.#ask(silent)
      // the server cannot be reached, so nothing is known of its sessions
      .catch(() => this.#judge(silent, new Map()))
      .finally(() => (this.#isAsking = false))
  }

  async #ask(silent: ReadonlyArray<Session>): Promise<void> {
    const { driver, settings } = this.#options
    const client = new driver.Client({
      ...configOf(settings),
      connectionTimeoutMillis: ANSWER_MS,
      query_timeout: ANSWER_MS
    })
    // an error of the connection also fails the sent statement
    client.on("error", () => undefined)
    try {
      await client.connect()
      const { rows } = await client.query(LIST_STATES, [silent.map(({ pid }) => pid)])
      const waits = new Map(rows.map(({ pid, waits }) => [Number(pid), waits === 1]))
      this.#judge(silent, waits)
    } finally {
      client.end().catch(() => undefined)
    }
  }

  /**
   * Breaks the sessions that are dead. `waits` has the server processes that the server lists, and whether they wait for a
   * request.
   */
  #judge(silent: ReadonlyArray<Session>, waits: ReadonlyMap<number, boolean>): void {
    const { now, settings } = this.#options
    for (const session of silent) {
      const seen = this.#seen.get(session)
      // an answer has arrived meanwhile
      if (seen === undefined || seen.progress !== session.progress) continue
      if (waits.get(session.pid) === true) seen.waits++
      // behind a pooler, the server has another process id for this session, or no process
      const isOverdue = !waits.has(session.pid) && now() - seen.at > settings.statementTimeoutMs + MARGIN_MS
      // when the server says so for the first time, the answer may be in flight
      if (seen.waits > 1 || isOverdue) session.break()
    }
  }
}
