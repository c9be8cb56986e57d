/**
 * Finds connections that are dead without an error, on which an answer will never come. It asks the server on another connection
 * what its sessions do. If the server says that a session is idle, while this process still waits for an answer from that session,
 * then the request or the answer is lost: the connection is dead.
 */
import { APPLICATION, configOf, type Driver, type PostgresSettings } from "./Driver.ts"
import { pidOf, type Session } from "./Session.ts"

/** After this long without an answer, the server is asked about the session. */
const ASK_AFTER_MS = 4000
/** How long the server may take to answer the question about its sessions. */
const ANSWER_MS = 3000
/**
 * How much longer than the statement timeout to wait for a session about which the server says nothing. A pooler may hide such a
 * session.
 */
const MARGIN_MS = 5000

/** SQL: which sessions are idle. The last row has the process id of the session that asks. */
const LIST_STATES = `SELECT pid, state LIKE 'idle%' OR wait_event = 'ClientWrite' AS idle FROM pg_stat_activity
  WHERE pid = ANY ($1) AND application_name = '${APPLICATION}' UNION ALL SELECT pg_backend_pid(), NULL`

/** What is known of a session whose answer is awaited. */
interface Observation {
  /** `Session.progress`, which grows when anything is received. */
  readonly progress: number
  /** Since when nothing was received. */
  readonly silentSince: number
  /** How often the server has said that the session is idle or has ended. */
  idleCount: number
}

export interface DeadConnectionsOptions {
  readonly driver: Driver
  readonly settings: PostgresSettings
  /** A monotonic clock, milliseconds. */
  readonly monotonicMs: () => number
}

export class DeadConnections {
  /** The sessions from which this process waits for an answer. */
  readonly unanswered = new Set<Session>()
  readonly #options: DeadConnectionsOptions
  readonly #observations = new Map<Session, Observation>()
  #isAsking = false

  constructor(options: DeadConnectionsOptions) {
    this.#options = options
  }

  /** Breaks the dead connections. Called periodically. */
  check(): void {
    const now = this.#options.monotonicMs()
    for (const session of this.#observations.keys())
      if (!this.unanswered.has(session)) this.#observations.delete(session)
    const silent: Array<Session> = []
    for (const session of this.unanswered) {
      const { progress } = session
      const observation = this.#observations.get(session)
      if (observation?.progress !== progress)
        this.#observations.set(session, { progress, silentSince: now, idleCount: 0 })
      else if (now - observation.silentSince >= ASK_AFTER_MS) silent.push(session)
    }
    if (silent.length === 0 || this.#isAsking) return
    this.#isAsking = true
    this.#ask(silent)
      // the question has failed, so nothing is known of the sessions; but if the server itself has refused the question, the server
      // can be reached
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
      const ownPid = Number(rows.pop()?.pid)
      const idleByPid = new Map(rows.map(({ idle, pid }) => [Number(pid), idle === 1]))
      // there is no pooler in between (it would tell other process ids than the server), so a session that is not listed has ended
      if (ownPid === pidOf(client)) {
        for (const { pid } of silent) if (!idleByPid.has(pid)) idleByPid.set(pid, true)
      }
      this.#judge(silent, idleByPid)
    } finally {
      client.end().catch(() => undefined)
    }
  }

  /**
   * Breaks the sessions that are dead. `idleByPid` says by process id what is known of the sessions: `true` for a session that is
   * idle or has ended, `false` for a session that works.
   */
  #judge(silent: ReadonlyArray<Session>, idleByPid: ReadonlyMap<number, boolean>, isReachable = true): void {
    const { monotonicMs, settings } = this.#options
    // a server that accepts no new connection within the connect timeout will not answer on an old connection either
    const maxMs = isReachable ? settings.statementTimeoutMs + MARGIN_MS : settings.connectTimeoutMs
    for (const session of silent) {
      const observation = this.#observations.get(session)
      // something has arrived meanwhile
      if (observation === undefined || observation.progress !== session.progress) continue
      if (idleByPid.get(session.pid) === true) observation.idleCount++
      const isOverdue = !idleByPid.has(session.pid) && monotonicMs() - observation.silentSince > maxMs
      // the server must say twice that the session is idle: at the first time, the answer may still be in flight
      if (observation.idleCount > 1 || isOverdue) session.break()
    }
  }
}

/** Whether the server itself has refused the question, for example for lack of connections. */
const isRefusal = (error: unknown): boolean => Object(error).severity !== undefined
