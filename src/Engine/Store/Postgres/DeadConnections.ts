/**
 * Finds connections that are dead without an error, on which an answer will never come. It asks the server about its sessions, on
 * another connection. A session that waits for a request has already answered, or has never got the request.
 */
import { APPLICATION, configOf, type Driver, type PostgresSettings } from "./Driver.ts"
import { pidOf, type Session } from "./Session.ts"

/** How long a connection may be silent before the server is asked, milliseconds. */
const SILENT_MS = 4000
/** How long the server may take to answer that question, milliseconds. */
const ANSWER_MS = 3000
/** For a session that a pooler may hide: how much longer than the statement timeout to wait, milliseconds. */
const MARGIN_MS = 5000

/** The last row has the server process of the session that asks. */
const LIST_STATES = `SELECT pid, state LIKE 'idle%' OR wait_event = 'ClientWrite' AS waits FROM pg_stat_activity
  WHERE pid = ANY ($1) AND application_name = '${APPLICATION}' UNION ALL SELECT pg_backend_pid(), NULL`

interface Seen {
  readonly progress: number
  readonly at: number
  /** How often the server has said that the session waits for a request, or does not exist. */
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
      .catch((error: unknown) => this.#judge(silent, new Map(), isRefusal(error)))
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
      const own = Number(rows.pop()?.pid)
      const waits = new Map(rows.map(({ pid, waits }) => [Number(pid), waits === 1]))
      // behind a pooler the server has other process ids for the sessions
      if (own === pidOf(client)) {
        for (const { pid } of silent) if (!waits.has(pid)) waits.set(pid, true)
      }
      this.#judge(silent, waits)
    } finally {
      client.end().catch(() => undefined)
    }
  }

  /** Breaks the sessions that are dead. `waits` says of server processes whether they wait for a request, or have ended. */
  #judge(silent: ReadonlyArray<Session>, waits: ReadonlyMap<number, boolean>, isReachable = true): void {
    const { now, settings } = this.#options
    // no answer comes from a server that takes no new connections for as long as one may take to open
    const mostMs = isReachable ? settings.statementTimeoutMs + MARGIN_MS : settings.connectTimeoutMs
    for (const session of silent) {
      const seen = this.#seen.get(session)
      // an answer has arrived meanwhile
      if (seen === undefined || seen.progress !== session.progress) continue
      if (waits.get(session.pid) === true) seen.waits++
      const isOverdue = !waits.has(session.pid) && now() - seen.at > mostMs
      // when the server says so for the first time, the answer may be in flight
      if (seen.waits > 1 || isOverdue) session.break()
    }
  }
}

/** Whether the server itself has refused the question, such as for lack of connections: then it can be reached. */
const isRefusal = (error: unknown): boolean => Object(error).severity !== undefined
