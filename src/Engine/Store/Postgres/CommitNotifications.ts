/**
 * How the engines on one schema tell each other of their commits.
 *
 * After a commit, an engine notifies the others on a separate connection: of the numbers of its commits, and of what others may
 * be waiting for. A notification within the transaction would make all commits of the cluster wait for each other. Notifications may be
 * lost, with the engine that committed or with a connection. So commits are numbered, and each engine checks the highest number
 * once a second: when the news of a commit are missing, it makes its listeners look at everything.
 */
import { hash } from "node:crypto"
import type { Client, Pool } from "pg"
import type { ScheduleTimeout } from "../../../Execution/Alarm.ts"
import type { Announced, Changes, ChangeKind } from "../Changes.ts"
import type { Wants } from "../Store.ts"
import { Commits } from "./Commits.ts"
import { configOf, type Driver, type PostgresSettings } from "./Driver.ts"
import { socketOf, type Traffic } from "./Session.ts"
import { RENEW_AND_READ, NOW } from "./Nodes.ts"
import {
  type Hello,
  allStale,
  readNotification,
  readRow,
  type ReceivedNotification,
  NotificationBuilder
} from "./NotificationText.ts"

/** How often the highest commit number is checked, unless it is known, milliseconds. */
const LOOK_MS = 1000
/** How long news of a commit may be in flight before they count as lost, milliseconds. */
const GRACE_MS = 150
/** How long an answer may take before the connection counts as lost, milliseconds. */
const ANSWER_MS = 2000
/** The first and the longest delay before reconnecting, milliseconds; it doubles in between. */
const FIRST_WAIT_MS = 100
const LONGEST_WAIT_MS = 5000
/** How often an engine announces itself, and after what silence it is no longer told anything, milliseconds. */
const HELLO_MS = 10_000
const SILENT_MS = 35_000
/** How long the row beside a notification is kept, milliseconds. */
const KEEP_MS = 60_000

export interface CommitNotificationsOptions {
  readonly driver: Driver
  readonly settings: PostgresSettings
  readonly traffic: Traffic
  /** The connections for reads. */
  readonly pool: Pool
  /** The number of this engine. */
  readonly node: () => number
  readonly after: ScheduleTimeout
  /** A monotonic clock, milliseconds. */
  readonly now: () => number
  /** What the listeners of this engine want to hear from others. */
  readonly wants: () => Wants
  /** Whether a listener of this engine tells the worker about its turns. */
  readonly isHere: (workerId: string) => boolean
  /** Called when the wants of other engines have changed. */
  readonly wanted: (wants: Wants) => void
  readonly warn: (message: string) => void
}

export interface CommitWatcher {
  /** Called with what other engines have changed. */
  tell(changes: Changes): void
  /** Called once a second, before this engine looks at the commits and the nodes, which it leaves out after a commit. */
  beforeLook(): void
  /** Called with what was seen of the nodes, and the time by `now` when the query was sent. */
  looked(around: Around, askedAt: number): void
  /** Called with the error when the query failed. */
  lookFailed(error: unknown): void
}

/** What {@link RENEW_AND_READ} finds. */
export interface Around {
  readonly now: number
  readonly sequence: number
  /** 1 when there is a node to be declared dead. */
  readonly hasLapsed: number
  /** 0 when this node was declared dead. */
  readonly isThere: number
}

interface Other {
  readonly wants: Wants
  readonly heardAt: number
}

export class CommitNotifications {
  readonly #options: CommitNotificationsOptions
  readonly #channel: string
  readonly #others = new Map<number, Other>()
  /** Absent at first: nobody listens yet. */
  #watcher: CommitWatcher | undefined
  #commits = new Commits(0)
  /** The highest commit known to exist. */
  #seen = 0
  /** When this engine last committed. */
  #committedAt = Number.NEGATIVE_INFINITY
  #isChecking = false
  /** When news were last missed. */
  #missedAt = Number.NEGATIVE_INFINITY
  #isAsked = false
  #client: Client | undefined
  #waitMs = FIRST_WAIT_MS
  #toTell: NotificationBuilder | undefined
  #isSending = false
  #asks = false
  #saidAt = Number.NEGATIVE_INFINITY
  #hearing: Promise<void> = Promise.resolve()
  /** The last written rows, and when they were written: oldest first. */
  #rows: Array<{ readonly id: number; readonly at: number }> = []
  #isClosed = false
  #isDown = false
  readonly #stops = new Set<() => void>()

  constructor(options: CommitNotificationsOptions) {
    this.#options = options
    this.#channel = channelOf(options.settings.schema)
  }

  /** Listens from now on: changes to what is read after this are known. */
  async start(): Promise<void> {
    const client = await this.#connect()
    const { rows } = await client.query("SELECT sequence FROM engine")
    this.#commits = new Commits(Number(rows[0]?.sequence))
    this.#saw(this.#commits.upTo)
  }

  /** Tells `watcher` of commits from now on, and checks whether news of some were missed. */
  watch(watcher: CommitWatcher): void {
    this.#watcher = watcher
    this.#every(LOOK_MS, () => this.#look())
  }

  /** Ends, and tells the others so. */
  async close(): Promise<void> {
    this.#isClosed = true
    for (const stop of this.#stops) stop()
    const client = this.#client
    if (client === undefined) return
    this.#client = undefined
    const leaving = this.#toTell ?? new NotificationBuilder()
    const hello: Hello = { wants: { steps: false, states: false }, leaves: true }
    const last = this.#others.size === 0 ? Promise.resolve() : this.#notify(client, leaving, hello)
    // engines that do not hear it find out by themselves
    await Promise.race([last.catch(() => undefined), this.#pause(ANSWER_MS)])
    end(client)
  }

  /** Whether other engines were heard of lately. */
  get hasOthers(): boolean {
    return this.#others.size > 0
  }

  /** Whether all commits before this one have been told. */
  isInOrder(commit: number): boolean {
    return this.#commits.upTo >= commit - 1
  }

  /** The highest known commit, of any engine. */
  get sequence(): number {
    return Math.max(this.#seen, this.#commits.last)
  }

  /** Tells of a commit of this engine. */
  committed(commit: number, changes: Changes): void {
    this.#committedAt = this.#options.now()
    this.#commits.add([commit, commit])
    this.#saw(commit)
    if (this.#others.size === 0) return
    this.#pending().add(commit, changes, this.#options.isHere)
    this.#send()
  }

  /** Tells of something that is not stored. */
  announce(announced: Announced): void {
    if (this.#others.size === 0) return
    this.#pending().announce(announced)
    this.#send()
  }

  /** Makes the other engines look at something. */
  markStale(kind: ChangeKind): void {
    if (this.#others.size === 0) return
    this.#pending().markStale(kind)
    this.#send()
  }

  /** Tells that the listeners of this engine want something else than before. */
  wantsChanged(): void {
    this.#pending()
    this.#send()
  }

  #pending(): NotificationBuilder {
    return (this.#toTell ??= new NotificationBuilder())
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Telling
  // -------------------------------------------------------------------------------------------------------------------

  /** Sends what is to be told. More is gathered while the last answer is pending. */
  #send(): void {
    if (this.#isSending || this.#toTell === undefined || this.#isClosed) return
    const client = this.#client
    // engines that are not told find out by themselves
    if (client === undefined) return void (this.#toTell = undefined)
    this.#isSending = true
    // the commits of one turn of the event loop are told together
    queueMicrotask(() => void this.#sendOn(client))
  }

  async #sendOn(client: Client): Promise<void> {
    const toTell = this.#pending()
    this.#toTell = undefined
    const hello: Hello = { wants: this.#options.wants(), ...(this.#asks ? { asks: true } : {}) }
    this.#asks = false
    this.#saidAt = this.#options.now()
    const giveUp = this.#later(ANSWER_MS, () => this.#drop(client))
    try {
      await this.#notify(client, toTell, hello)
    } catch (error) {
      this.#complain(error)
      this.#drop(client)
    } finally {
      giveUp()
      this.#isSending = false
    }
    this.#send()
  }

  async #notify(client: Client, toTell: NotificationBuilder, hello: Hello): Promise<void> {
    const { node, traffic } = this.#options
    const text = toTell.notification(node(), hello)
    const { row } = toTell
    traffic.statements++
    if (row === undefined) {
      await client.query({
        name: "notify",
        text: "SELECT pg_notify($1, ' ' || $2)",
        values: [this.#channel, text]
      })
      return
    }
    const { rows } = await client.query({
      name: "notifyWithRow",
      text: `WITH told AS (INSERT INTO news (body, at) VALUES ($3, ${NOW}) RETURNING id)
        SELECT id, pg_notify($1, id || ' ' || $2) FROM told`,
      values: [this.#channel, text, row]
    })
    await this.#forgetRows(client, Number(rows[0]?.id))
  }

  /** Deletes rows that others have read, or never will. */
  async #forgetRows(client: Client, id: number): Promise<void> {
    const now = this.#options.now()
    const [oldest] = this.#rows
    if (oldest === undefined || now - oldest.at > KEEP_MS / 10) {
      this.#rows.push({ id, at: now })
    }
    const old = this.#rows.findLast(({ at }) => now - at > KEEP_MS)
    if (old === undefined) return
    this.#rows = this.#rows.filter(({ at }) => at > old.at)
    await client.query("DELETE FROM news WHERE id <= $1", [old.id])
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Hearing
  // -------------------------------------------------------------------------------------------------------------------

  /** Handles notifications one by one, in order of arrival. */
  #hear(client: Client, payload: string): void {
    this.#hearing = this.#hearing.then(() =>
      this.#read(client, payload).catch((error: unknown) => {
        this.#options.warn(`A notification of another engine could not be read: ${String(error)}`)
        this.#watcher?.tell(allStale)
      })
    )
  }

  async #read(client: Client, payload: string): Promise<void> {
    const space = payload.indexOf(" ")
    const told = readNotification(payload.slice(space + 1))
    // a version with another format
    if (told === undefined) return this.#watcher?.tell(allStale)
    if (told.node === this.#options.node()) return
    // the connection works
    this.#waitMs = FIRST_WAIT_MS
    this.#isDown = false
    this.#meet(told)
    let changes = told.changes
    if (space > 0) {
      const row = await this.#rowOf(client, Number(payload.slice(0, space)))
      changes =
        row === undefined
          ? { ...changes, stale: new Set([...changes.stale, "turns", "announced"]) }
          : { ...changes, ...row }
    }
    if (this.#isClosed) return
    const isOnlyHello = space <= 0 && told.commits.length === 0 && changes.stale.size === 0
    if (!isOnlyHello) this.#watcher?.tell(changes)
    this.#commits.add(...told.commits)
    this.#saw(this.#commits.last)
  }

  async #rowOf(client: Client, id: number): Promise<ReturnType<typeof readRow>> {
    const giveUp = this.#later(ANSWER_MS, () => this.#drop(client))
    try {
      this.#options.traffic.statements++
      const { rows } = await client.query({
        name: "news",
        text: "SELECT body FROM news WHERE id = $1",
        values: [id]
      })
      return rows[0] === undefined ? undefined : readRow(String(rows[0].body))
    } finally {
      giveUp()
    }
  }

  #meet({ asks, leaves, node, wants }: ReceivedNotification): void {
    if (leaves === true) this.#others.delete(node)
    else this.#others.set(node, { wants, heardAt: this.#options.now() })
    this.#tellWanted()
    if (asks === true) this.wantsChanged()
  }

  #tellWanted(): void {
    const others = [...this.#others.values()]
    this.#options.wanted({
      steps: others.some(({ wants }) => wants.steps),
      states: others.some(({ wants }) => wants.states)
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Detecting missed commits
  // -------------------------------------------------------------------------------------------------------------------

  /** There are commits up to this one: those of others have been told, or are checked in a moment. */
  #saw(commit: number): void {
    this.#seen = Math.max(this.#seen, commit)
    if (this.#isChecking || this.#commits.upTo >= this.#seen) return
    this.#isChecking = true
    const expected = this.#seen
    // while no news arrive, look at everything once a second, however many commits there are
    const graceMs = Math.max(GRACE_MS, this.#missedAt + LOOK_MS - this.#options.now())
    this.#later(graceMs, () => {
      this.#isChecking = false
      const upTo = graceMs > GRACE_MS ? this.#seen : expected
      if (this.#commits.upTo < upTo) {
        this.#missedAt = this.#options.now()
        this.#commits.giveUp(upTo)
        this.#watcher?.tell(allStale)
        // the connection may be dead without an error, or the other engine has none
        if (this.#client !== undefined) this.#ask(this.#client)
      }
      this.#saw(this.#seen)
    })
  }

  #look(): void {
    const now = this.#options.now()
    for (const [node, { heardAt }] of this.#others) {
      if (now - heardAt < SILENT_MS) continue
      this.#others.delete(node)
      this.#tellWanted()
    }
    if (this.#others.size > 0 && now - this.#saidAt >= HELLO_MS) this.wantsChanged()
    this.#watcher?.beforeLook()
    // a commit of this engine found it out already
    if (now - this.#committedAt < LOOK_MS) return
    this.#options.traffic.statements++
    const { name, text } = RENEW_AND_READ
    const { pool } = this.#options
    // the news connection may be dead without an error; slow reads may hold all the others
    const way = pool.waitingCount > 0 && this.#client !== undefined ? this.#client : pool
    way.query({ name, text, values: [this.#options.node()] }).then(
      ({ rows }) => {
        if (this.#isClosed) return
        // the columns of the statement
        const around = rows[0] as Around
        this.#watcher?.looked(around, now)
        this.#saw(Number(around.sequence))
      },
      // it is checked again
      (error: unknown) => this.#watcher?.lookFailed(error)
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // The connection
  // -------------------------------------------------------------------------------------------------------------------

  async #connect(): Promise<Client> {
    const { driver, settings } = this.#options
    const client = new driver.Client(configOf(settings))
    client.on("error", () => this.#drop(client))
    client.on("end", () => this.#drop(client))
    client.on("notification", ({ payload = "" }) => this.#hear(client, payload))
    try {
      await client.connect()
      // news do not matter after a crash
      await client.query(`SET synchronous_commit = off`)
      await client.query(`SET application_name = ${this.#channel}`)
      await client.query(`LISTEN ${this.#channel}`)
    } catch (error) {
      end(client)
      throw error
    }
    if (this.#isClosed) end(client)
    this.#client = client
    this.#asks = true
    this.wantsChanged()
    return client
  }

  /** Drops the connection when it does not answer. */
  #ask(client: Client): void {
    if (this.#isAsked) return
    this.#isAsked = true
    const giveUp = this.#later(ANSWER_MS, () => this.#drop(client))
    this.#options.traffic.statements++
    client
      .query("SELECT 1")
      .catch(() => this.#drop(client))
      .finally(() => {
        giveUp()
        this.#isAsked = false
      })
  }

  #drop(client: Client): void {
    if (this.#client !== client) return
    this.#client = undefined
    // a dead connection never answers: what waits on it fails now
    socketOf(client).destroy()
    this.#connectLater()
  }

  /** Warns once that news between engines are lost, until something is heard again. */
  #complain(error: unknown): void {
    if (this.#isDown) return
    this.#isDown = true
    this.#options.warn(
      `Notifications between engines are lost for now. The engines look for changes instead, which takes a second: ${String(error)}`
    )
  }

  #connectLater(): void {
    if (this.#isClosed) return
    this.#later(this.#waitMs, () => {
      this.#waitMs = Math.min(this.#waitMs * 2, LONGEST_WAIT_MS)
      this.#connect().catch((error: unknown) => {
        this.#complain(error)
        this.#connectLater()
      })
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Time
  // -------------------------------------------------------------------------------------------------------------------

  #later(ms: number, f: () => void): () => void {
    const stop = this.#options.after(ms, () => {
      this.#stops.delete(stop)
      if (!this.#isClosed) f()
    })
    this.#stops.add(stop)
    return () => {
      this.#stops.delete(stop)
      stop()
    }
  }

  #every(ms: number, f: () => void): void {
    this.#later(ms, () => {
      f()
      this.#every(ms, f)
    })
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#options.after(ms, resolve))
  }
}

/**
 * The notification channel of a schema, and the name of the connections that listen. It is hashed, since a name may have 63
 * characters, and so may that of a schema.
 */
export const channelOf = (schema: string): string =>
  `ironflow_news_${hash("sha256", schema, "hex").slice(0, 32)}`

/** Ends a connection without waiting, since it may be dead. */
const end = (client: Client): void => {
  client.end().catch(() => undefined)
}
