/**
 * The connection over which a node writes. A node is an engine on these tables: it has a row in `nodes`, and the session of this
 * connection holds a lock on the schema. Nodes share this lock, but a node that uses the tables alone has it exclusively.
 */
import type { Client } from "pg"
import { hostname } from "node:os"
import { setTimeout as sleep } from "node:timers/promises"
import { StoreError } from "../../../Errors.ts"
import { APPLICATION, configOf, type Driver, type PostgresSettings } from "./Driver.ts"
import { type TimelineSource, timelineSourceOf } from "./LostCommits.ts"
import {
  beingFilledError,
  fitOf,
  hasImport,
  LOCK_CLASS,
  migrate,
  SCHEMA_LOCK,
  tooNewError
} from "./Migrate.ts"
import { NOW } from "./Nodes.ts"
import { Session, type Traffic } from "./Session.ts"

/** How long to wait for the end of a session whose connection was lost. */
const MAX_SESSION_WAIT_MS = 5000
/** How often to check whether a session has ended or a lock is free. */
const CHECK_MS = 50
/** How long to wait for the lock on the schema while another session holds it exclusively. */
const MAX_LOCK_WAIT_MS = 2000

/** Inserts the row of a node again, with its old number. Later nodes get higher numbers, so that no number is assigned twice. */
const RESTORE_ROW = {
  name: "",
  text: `WITH mine AS (
      INSERT INTO nodes (id, name, pid, started_at, last_seen, steady_since)
      VALUES ($1, $2, $3, ${NOW}, ${NOW}, NULL) ON CONFLICT (id) DO UPDATE SET id = excluded.id RETURNING name)
    SELECT name, setval(pg_get_serial_sequence('nodes', 'id'), greatest($1, (SELECT max(id) FROM nodes)) + 1000) FROM mine`
}

export interface WriteConnectionOptions {
  readonly driver: Driver
  readonly settings: PostgresSettings
  readonly traffic: Traffic
  /** Whether no other node may use the tables. */
  readonly isAlone: boolean
  /** The sessions from which this process waits for an answer. */
  readonly unanswered: Set<Session>
}

interface OpenConnection {
  readonly session: Session
  readonly pid: number
  readonly timelineSource: TimelineSource
}

export class WriteConnection {
  readonly #options: WriteConnectionOptions
  #open: OpenConnection | undefined
  #opening: Promise<OpenConnection> | undefined
  #lastPid: number | undefined
  #node: number | undefined

  constructor(options: WriteConnectionOptions) {
    this.#options = options
  }

  /** The number of this node. No other node ever gets it. */
  get node(): number {
    if (this.#node === undefined)
      throw new Error("The number of this node is known only after its first connection")
    return this.#node
  }

  /**
   * Returns the session. Opens a new session when there is none, or when the last one was lost. Fails with `STORE_LOCKED` when this
   * node may not use the tables, and with other errors when it cannot reach them.
   */
  async session(): Promise<Session> {
    if (this.#open !== undefined) return this.#open.session
    this.#opening ??= this.#connect().finally(() => (this.#opening = undefined))
    this.#open = await this.#opening
    return this.#open.session
  }

  /** The process id of the session at the server; `undefined` without a session. */
  get pid(): number | undefined {
    return this.#open?.pid
  }

  /** Which member of `timelineSql` this node uses. */
  get timelineSource(): TimelineSource {
    return this.#open?.timelineSource ?? "timeline"
  }

  /**
   * Restores the row of this node, which a promoted server may lack. Call it within a transaction. Returns whether this node
   * still has its number.
   */
  async restoreRow(session: Session): Promise<boolean> {
    const { rows } = await session.wait(
      session.send(RESTORE_ROW, [this.node, nodeName(), this.#open?.pid ?? null])
    )
    return rows[0]?.name === nodeName()
  }

  /** Ends the connection without waiting. */
  drop(): void {
    const open = this.#open
    if (open === undefined) return
    this.#open = undefined
    this.#lastPid = open.pid
    end(open.session.client)
  }

  /**
   * Whether transaction `batch` was committed. Called when the connection was lost during the commit. The session of that
   * connection is ended first, so that the answer is final.
   */
  async wasCommitted(batch: number): Promise<boolean> {
    const session = await this.session()
    const { rows } = await session.wait(
      session.send({ name: "", text: "SELECT batch FROM nodes WHERE id = $1" }, [this.node])
    )
    const [row] = rows
    if (row === undefined) {
      throw new StoreError(
        "It is unknown whether a transaction was committed: this engine was cut off from Postgres for so long that the other engines have removed it",
        { code: "STORE_UNAVAILABLE" }
      )
    }
    return row.batch === batch
  }

  async close(): Promise<void> {
    const open = this.#open
    if (open === undefined) return
    this.#open = undefined
    const { session } = open
    try {
      await session.wait(
        session.send(
          {
            name: "",
            text: "WITH gone AS (DELETE FROM nodes WHERE id = $1 RETURNING id) DELETE FROM node_workers WHERE node IN (SELECT id FROM gone)"
          },
          [this.#node ?? null]
        )
      )
    } finally {
      await session.client.end().catch(() => undefined)
    }
  }

  async #connect(): Promise<OpenConnection> {
    const { driver, settings, traffic, unanswered } = this.#options
    const client = new driver.Client(configOf(settings))
    // an error of the connection also fails the sent statements, or the next one
    client.on("error", () => {
      if (this.#open?.session.client === client) this.drop()
    })
    try {
      await client.connect()
      const session = new Session(client, traffic, unanswered)
      const { rows } = await session.wait(session.send({ name: "", text: "SELECT pg_backend_pid() AS pid" }))
      const pid = Number(rows[0]?.pid)
      const fit = await fitOf(session, settings)
      // the tables were changed while this node was away: it cannot use them, and stops for good
      if (fit === "too new" && this.#node !== undefined) {
        throw new StoreError(
          `${tooNewError(settings).message}. This engine stops, and has written nothing since`,
          {
            code: "STORE_LOCKED"
          }
        )
      }
      if (fit !== "fit") await migrate(driver, settings)
      await this.#endLast(session)
      await this.#joinNodes(session, pid)
      return { session, pid, timelineSource: await timelineSourceOf(session) }
    } catch (error) {
      end(client)
      throw error
    }
  }

  /**
   * Ends the last session at the server. Although the connection was lost, the session may still live at the server, with a
   * transaction that is open or about to be committed.
   */
  async #endLast(session: Session): Promise<void> {
    if (this.#lastPid === undefined) return
    const findsSession = async (text: string) =>
      (await session.wait(session.send({ name: "", text }, [this.#lastPid ?? 0]))).rows.length > 0
    const where = `FROM pg_stat_activity WHERE pid = $1 AND application_name = '${APPLICATION}'`
    if (await findsSession(`SELECT pg_terminate_backend(pid) ${where}`)) {
      const until = performance.now() + MAX_SESSION_WAIT_MS
      while (await findsSession(`SELECT 1 ${where}`)) {
        if (performance.now() > until) {
          throw new StoreError(
            `The last session of this engine with Postgres (pid ${this.#lastPid}) does not end: it is unknown whether its transaction was committed`,
            { code: "STORE_UNAVAILABLE", retryable: true }
          )
        }
        await sleep(CHECK_MS)
      }
    }
    this.#lastPid = undefined
  }

  /** Takes the lock on the schema, and inserts or updates the row of this node. */
  async #joinNodes(session: Session, pid: number): Promise<void> {
    const { isAlone, settings } = this.#options
    const ask = async (text: string, values: ReadonlyArray<string | number> = []) =>
      (await session.wait(session.send({ name: "", text }, values))).rows
    const takeLock = async (): Promise<boolean> => {
      const [lock] = await ask(
        `SELECT pg_try_advisory_lock${isAlone ? "" : "_shared"}($1, hashtext($2)) AS mine`,
        [LOCK_CLASS, `${SCHEMA_LOCK} ${settings.schema}`]
      )
      return lock?.mine === 1
    }
    const otherName = async (): Promise<string> => {
      const rows = await ask("SELECT name FROM nodes WHERE id <> $1 ORDER BY last_seen DESC LIMIT 1", [
        this.#node ?? -1
      ])
      return String(rows[0]?.name ?? "with an unknown name")
    }
    // waits a moment: a migration that has the lock will release it soon
    const until = performance.now() + (isAlone ? 0 : MAX_LOCK_WAIT_MS)
    while (!(await takeLock())) {
      if (performance.now() >= until) {
        throw (await hasImport(ask, settings.schema))
          ? beingFilledError(settings)
          : lockedError(settings, await otherName())
      }
      await sleep(CHECK_MS)
    }
    if (this.#node === undefined) {
      if (isAlone) await ask("DELETE FROM nodes")
      const [row] = await ask(
        `INSERT INTO nodes (name, pid, started_at, last_seen, steady_since) VALUES ($1, $2, ${NOW}, ${NOW}, ${NOW}) RETURNING id`,
        [nodeName(), pid]
      )
      this.#node = Number(row?.id)
      return
    }
    const ownRows = await ask("UPDATE nodes SET pid = $1 WHERE id = $2 RETURNING id", [pid, this.#node])
    if (isAlone && ownRows.length === 0) throw lockedError(settings, await otherName())
  }
}

const nodeName = (): string => `${hostname()}, process ${process.pid}`

const lockedError = (settings: PostgresSettings, who: string): StoreError =>
  new StoreError(
    `The tables at ${settings.displayName} are in use by another engine (${who}), and one of the two engines needs the schema for itself: stop the other engine, or give this engine a schema of its own`,
    { code: "STORE_LOCKED" }
  )

/** Ends a connection without waiting, since it may be dead. */
const end = (client: Client): void => {
  client.end().catch(() => undefined)
}
