/**
 * The connection that writes. Whoever holds the tables has a lock of its session, which is gone with the session, and its name in
 * the row of `engine`, which every transaction that writes updates first: a holder that was replaced writes nothing any more.
 */
import type { Client } from "pg"
import { hostname } from "node:os"
import { setTimeout as sleep } from "node:timers/promises"
import { StoreError } from "../../../Errors.ts"
import { configOf, type Driver, type Settings } from "./Driver.ts"
import { isMigrated, LOCK_CLASS, migrate } from "./Migrate.ts"
import { Session, type Traffic } from "./Session.ts"

/** How long the end of a session is waited for whose connection was lost, milliseconds. */
const MOST_WAIT_MS = 5000
const LOOK_MS = 50

export interface HolderOptions {
  readonly driver: Driver
  readonly settings: Settings
  readonly traffic: Traffic
  /** This engine's own. */
  readonly nonce: string
}

interface Open {
  readonly session: Session
  readonly pid: number
}

export class Holder {
  readonly #options: HolderOptions
  #open: Open | undefined
  #opening: Promise<Open> | undefined
  #lastPid: number | undefined
  #isTaken = false

  constructor(options: HolderOptions) {
    this.#options = options
  }

  /** The session, which is made anew when it was lost. Fails with `STORE_LOCKED` when another engine holds the tables. */
  async session(): Promise<Session> {
    if (this.#open !== undefined) return this.#open.session
    this.#opening ??= this.#connect().finally(() => (this.#opening = undefined))
    this.#open = await this.#opening
    return this.#open.session
  }

  /** The connection is of no use any more. */
  drop(): void {
    const open = this.#open
    if (open === undefined) return
    this.#open = undefined
    this.#lastPid = open.pid
    end(open.session.client)
  }

  /** Whether a transaction was committed whose answer did not come: asked once its session has ended. */
  async wasCommitted(batch: number): Promise<boolean> {
    const session = await this.session()
    const { rows } = await session.wait(session.send({ name: "", text: "SELECT batch, holder FROM engine" }))
    return rows[0]?.holder === this.#options.nonce && rows[0]?.batch === batch
  }

  async close(): Promise<void> {
    const open = this.#open
    if (open === undefined) return
    this.#open = undefined
    const { session } = open
    try {
      await session.wait(
        session.send(
          { name: "", text: "UPDATE engine SET holder = NULL, holder_name = NULL WHERE holder = $1" },
          [this.#options.nonce]
        )
      )
    } finally {
      await session.client.end().catch(() => undefined)
    }
  }

  async #connect(): Promise<Open> {
    const { driver, settings, traffic } = this.#options
    const client = new driver.Client(configOf(settings))
    // an error of the connection comes to the statements that are sent, or to the next one
    client.on("error", () => {
      if (this.#open?.session.client === client) this.drop()
    })
    try {
      await client.connect()
      const session = new Session(client, traffic)
      const { rows } = await session.wait(session.send({ name: "", text: "SELECT pg_backend_pid() AS pid" }))
      const pid = Number(rows[0]?.pid)
      if (!(await isMigrated(session, settings))) await migrate(driver, settings)
      await this.#endLast(session)
      await this.#hold(session)
      return { session, pid }
    } catch (error) {
      end(client)
      throw error
    }
  }

  /** A session whose connection was lost may be alive, with a transaction that is open or about to be committed. */
  async #endLast(session: Session): Promise<void> {
    if (this.#lastPid === undefined) return
    const isThere = async (text: string) =>
      (await session.wait(session.send({ name: "", text }, [this.#lastPid ?? 0]))).rows.length > 0
    const where = "FROM pg_stat_activity WHERE pid = $1 AND application_name = 'ironflow'"
    if (await isThere(`SELECT pg_terminate_backend(pid) ${where}`)) {
      const until = performance.now() + MOST_WAIT_MS
      while (await isThere(`SELECT 1 ${where}`)) {
        if (performance.now() > until) {
          throw new StoreError(
            `The last session of this engine with Postgres (pid ${this.#lastPid}) does not end: whether its transaction was committed is not known`,
            { code: "STORE_UNAVAILABLE", retryable: true }
          )
        }
        await sleep(LOOK_MS)
      }
    }
    this.#lastPid = undefined
  }

  async #hold(session: Session): Promise<void> {
    const { nonce, settings } = this.#options
    const ask = (text: string, values: ReadonlyArray<string | number> = []) =>
      session.wait(session.send({ name: "", text }, values))
    const [lock] = (
      await ask("SELECT pg_try_advisory_lock($1, hashtext($2)) AS mine", [
        LOCK_CLASS,
        `hold ${settings.schema}`
      ])
    ).rows
    const [engine] = (await ask("SELECT holder, holder_name FROM engine")).rows
    const isMine = engine?.holder === nonce
    if (lock?.mine !== 1 || (this.#isTaken && !isMine)) {
      const who = isMine
        ? "another engine"
        : `another engine (${engine?.holder_name ?? "it does not say which"})`
      throw new StoreError(
        `The tables at ${settings.shown} are in use by ${who}: one engine at a time may use a schema. Stop the other one, or give this one a schema of its own`,
        { code: "STORE_LOCKED" }
      )
    }
    this.#isTaken = true
    await ask("UPDATE engine SET holder = $1, holder_name = $2", [
      nonce,
      `${hostname()}, process ${process.pid}`
    ])
  }
}

/** Ends a connection that may be dead: nobody waits for it. */
const end = (client: Client): void => {
  client.end().catch(() => undefined)
}
