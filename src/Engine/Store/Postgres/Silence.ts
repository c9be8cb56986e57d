/**
 * Finds connections that are dead and seem to be there: nobody has told of their end, so that an answer is waited for that will not come.
 * A server that works on something says so on another connection; one whose session waits for us has answered, or was never asked.
 */
import { configOf, type Driver, type Settings } from "./Driver.ts"
import type { Session } from "./Session.ts"

/** How long nothing has come before it is asked, milliseconds. */
const SILENT_MS = 4000
const ANSWER_MS = 3000
/** How much longer than a statement may take an answer is waited for of a session that the server does not name. */
const MARGIN_MS = 5000

const STATES = `SELECT pid, state LIKE 'idle%' OR wait_event = 'ClientWrite' AS waits FROM pg_stat_activity
  WHERE pid = ANY ($1) AND application_name = 'ironflow'`

interface Seen {
  readonly progress: number
  readonly at: number
  /** How often the server has said that it waits for us. */
  waits: number
}

export interface SilenceOptions {
  readonly driver: Driver
  readonly settings: Settings
  /** A clock that only goes on, milliseconds. */
  readonly now: () => number
}

export class Silence {
  /** Those that wait for an answer. */
  readonly waiting = new Set<Session>()
  readonly #options: SilenceOptions
  readonly #seen = new Map<Session, Seen>()
  #isAsking = false

  constructor(options: SilenceOptions) {
    this.#options = options
  }

  /** Called again and again: breaks those that are dead. */
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
      // a server that cannot be reached at all says nothing of sessions
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
    // an error of the connection comes to the statement that is sent
    client.on("error", () => undefined)
    try {
      await client.connect()
      const { rows } = await client.query(STATES, [silent.map(({ pid }) => pid)])
      const waits = new Map(rows.map(({ pid, waits }) => [Number(pid), waits === 1]))
      this.#judge(silent, waits)
    } finally {
      client.end().catch(() => undefined)
    }
  }

  /** `waits` has the processes of the server that are known, and whether they wait for us. */
  #judge(silent: ReadonlyArray<Session>, waits: ReadonlyMap<number, boolean>): void {
    const { now, settings } = this.#options
    for (const session of silent) {
      const seen = this.#seen.get(session)
      // something has come meanwhile
      if (seen === undefined || seen.progress !== session.progress) continue
      if (waits.get(session.pid) === true) seen.waits++
      // behind a pooler the server has another number for it, or none
      const isOverdue = !waits.has(session.pid) && now() - seen.at > settings.statementTimeoutMs + MARGIN_MS
      // an answer may have been on its way the first time
      if (seen.waits > 1 || isOverdue) session.break()
    }
  }
}
