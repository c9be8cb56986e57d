/**
 * How the engines on one schema tell each other of their commits.
 *
 * After a commit, an engine notifies the other engines on a separate connection. The notification has the numbers of its commits,
 * and the changes that the other engines may be waiting for. If it were sent within the transaction, all commits of all engines
 * would wait for each other. A notification is lost when a connection fails, or when the engine that has committed fails. Therefore
 * commits are numbered, and each engine reads the highest number once a second. If an engine was told of fewer commits, it makes
 * its listeners read everything again.
 */
import { hash } from "node:crypto"
import type { Client } from "pg"
import type { ScheduleTimeout } from "../../../Execution/Alarm.ts"
import type { Announced, Changes, ChangeKind } from "../Changes.ts"
import type { Row } from "../Program.ts"
import type { Wants } from "../Store.ts"
import { Commits } from "./Commits.ts"
import { configOf, type Driver, type PostgresSettings } from "./Driver.ts"
import type { Reader } from "./Reader.ts"
import { socketOf, type Traffic } from "./Session.ts"
import { RENEW_AND_READ, NOW } from "./Nodes.ts"
import {
  type EngineState,
  allStale,
  readNotification,
  readRow,
  type ReceivedNotification,
  NotificationBuilder
} from "./NotificationText.ts"

/**
 * How often the highest commit number is read. It is not read when this engine has just committed, since a commit returns the
 * number.
 */
const CHECK_MS = 1000
/** How long a notification of a commit may be in flight before it counts as lost. */
const GRACE_MS = 150
/** How long the server may take to answer before the connection counts as lost. */
const ANSWER_MS = 2000
/** The delay before the first try to reconnect. The delay doubles with every try, up to {@link LONGEST_RECONNECT_MS}. */
const FIRST_RECONNECT_MS = 100
/** The longest delay between two tries to reconnect. */
const LONGEST_RECONNECT_MS = 5000
/** An engine that has sent no notification for this long sends an empty one, so that the other engines do not count it as gone. */
const EMPTY_NOTIFICATION_MS = 10_000
/** An engine that has sent nothing for this long counts as gone, and is told nothing any more. */
const GONE_MS = 35_000
/**
 * How long a row of `news` is kept. The row has the payloads of a notification; in their place, the notification has the id of the
 * row.
 */
const KEEP_ROW_MS = 60_000

export interface CommitNotificationsOptions {
  readonly driver: Driver
  readonly settings: PostgresSettings
  readonly traffic: Traffic
  /** The connections for reads. */
  readonly reader: Pick<Reader, "ask" | "isBusy">
  /** The number of this engine: the id of its row in `nodes`. */
  readonly node: () => number
  readonly scheduleTimeout: ScheduleTimeout
  /** A monotonic clock, milliseconds. */
  readonly monotonicMs: () => number
  /** What the listeners of this engine want to be told by other engines. */
  readonly wants: () => Wants
  /** Whether the worker is connected to this engine, which then gives the worker the notices for its turns. */
  readonly isConnectedHere: (workerId: string) => boolean
  /** Called with what the listeners of other engines want to be told by this engine, when that may have changed. */
  readonly onOtherWants: (wants: Wants) => void
  readonly warn: (message: string) => void
}

/** What this engine does with what {@link CommitNotifications} finds out. */
export interface CommitWatcher {
  /** Called with changes that other engines have made. */
  tell(changes: Changes): void
  /**
   * Called once a second, before the check of the commits and the nodes. The check is left out when this engine has just committed.
   */
  beforeCheck(): void
  /** Called with the result of the check. `askedAt` is when the query of the check was sent, by `monotonicMs`. */
  checkDone(engines: EnginesSeen, askedAt: number): void
  /** Called with the error when the query of the check failed. */
  checkFailed(error: unknown): void
}

/** What {@link RENEW_AND_READ} returns. */
export interface EnginesSeen {
  /** The time of the server, epoch milliseconds. */
  readonly now: number
  /** The highest commit number. */
  readonly sequence: number
  /** 1 when there is a node to be declared dead. */
  readonly hasLapsed: number
  /** 1 when this node is live. Otherwise it was declared dead, or its row is gone. */
  readonly isThere: number
}

interface OtherEngine {
  readonly wants: Wants
  /** When the last notification of the engine arrived, by `monotonicMs`. */
  readonly notifiedAt: number
}

export class CommitNotifications {
  readonly #options: CommitNotificationsOptions
  readonly #channel: string
  /** The other engines, by node number. */
  readonly #otherEngines = new Map<number, OtherEngine>()
  /** Absent until {@link watch} is called. */
  #watcher: CommitWatcher | undefined
  #commits = new Commits(0)
  /** The highest commit that is known to exist, whether this engine was told of it or not. */
  #highestCommit = 0
  /** When this engine last committed, by `monotonicMs`. */
  #committedAt = Number.NEGATIVE_INFINITY
  /** Whether a check for missed notifications is scheduled. */
  #isChecking = false
  /** When this engine last found that it had missed a notification, by `monotonicMs`. */
  #missedAt = Number.NEGATIVE_INFINITY
  /** Whether this engine waits for the answer to a query that it has sent to find out whether the connection still works. */
  #isProbing = false
  #client: Client | undefined
  #reconnectDelayMs = FIRST_RECONNECT_MS
  /** The next notification; `undefined` when there is nothing to tell. */
  #pendingNotification: NotificationBuilder | undefined
  #isSending = false
  /** Whether the next notification asks each of the other engines to send one too. */
  #asksForNotifications = false
  /** When this engine last sent a notification, by `monotonicMs`. */
  #sentAt = Number.NEGATIVE_INFINITY
  /** Resolves when the notifications that have arrived are handled. */
  #handled: Promise<void> = Promise.resolve()
  /** The ids of rows that were written to `news`, and when they were written, by `monotonicMs`: oldest first. */
  #writtenRows: Array<{ readonly id: number; readonly at: number }> = []
  #isClosed = false
  /** Whether it was logged that notifications are lost. */
  #isLoggedAsLost = false
  /** Functions that cancel the timers. */
  readonly #timerStops = new Set<() => void>()

  constructor(options: CommitNotificationsOptions) {
    this.#options = options
    this.#channel = channelOf(options.settings.schema)
  }

  /** Starts listening. The listeners are told of everything that other engines change from now on. */
  async start(): Promise<void> {
    const client = await this.#connect()
    const cancelTimeout = this.#runAfter(ANSWER_MS, () => this.#drop(client))
    try {
      const { rows } = await client.query("SELECT sequence FROM engine")
      this.#commits = new Commits(Number(rows[0]?.sequence))
    } finally {
      cancelTimeout()
    }
    this.#noteCommit(this.#commits.allUpTo)
  }

  /** Starts checking whether notifications were missed. */
  watch(watcher: CommitWatcher): void {
    this.#watcher = watcher
    this.#runEvery(CHECK_MS, () => this.#check())
  }

  /** Stops listening, and tells the other engines that this engine stops. */
  async close(): Promise<void> {
    this.#isClosed = true
    for (const stop of this.#timerStops) stop()
    const client = this.#client
    if (client === undefined) return
    this.#client = undefined
    const lastNotification = this.#pendingNotification ?? new NotificationBuilder()
    const state: EngineState = { wants: { steps: false, states: false }, leaves: true }
    const sent =
      this.#otherEngines.size === 0 ? Promise.resolve() : this.#notify(client, lastNotification, state)
    // no error when the notification fails: after a while, the other engines notice that this engine is silent
    await Promise.race([sent.catch(() => undefined), this.#pause(ANSWER_MS)])
    end(client)
  }

  /** Whether other engines have sent notifications lately. */
  get hasOthers(): boolean {
    return this.#otherEngines.size > 0
  }

  /** Whether the listeners have been told of all commits before this one. */
  isInOrder(commit: number): boolean {
    return this.#commits.allUpTo >= commit - 1
  }

  /** The highest known commit, of any engine. */
  get sequence(): number {
    return Math.max(this.#highestCommit, this.#commits.highest)
  }

  /** Tells the other engines of a commit of this engine. */
  committed(commit: number, changes: Changes): void {
    this.#committedAt = this.#options.monotonicMs()
    this.#commits.add([commit, commit])
    this.#noteCommit(commit)
    if (this.#otherEngines.size === 0) return
    this.#builderOfPending().add(commit, changes, this.#options.isConnectedHere)
    this.#send()
  }

  /** Tells the other engines of something that is not stored. */
  announce(announced: Announced): void {
    if (this.#otherEngines.size === 0) return
    this.#builderOfPending().announce(announced)
    this.#send()
  }

  /** Makes the listeners of the other engines read everything of this kind again. */
  markStale(kind: ChangeKind): void {
    if (this.#otherEngines.size === 0) return
    this.#builderOfPending().markStale(kind)
    this.#send()
  }

  /** Sends a notification, which tells the other engines what the listeners of this engine want now. */
  wantsChanged(): void {
    this.#builderOfPending()
    this.#send()
  }

  #builderOfPending(): NotificationBuilder {
    return (this.#pendingNotification ??= new NotificationBuilder())
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Telling
  // -------------------------------------------------------------------------------------------------------------------

  /**
   * Sends the pending notification. As long as the server has not answered the last notification, the pending one waits, and
   * gathers more changes.
   */
  #send(): void {
    if (this.#isSending || this.#pendingNotification === undefined || this.#isClosed) return
    const client = this.#client
    // without a connection, nothing is sent: the other engines notice by themselves that they have missed a commit
    if (client === undefined) return void (this.#pendingNotification = undefined)
    this.#isSending = true
    // the commits of one turn of the event loop are told together
    queueMicrotask(() => void this.#sendOn(client))
  }

  async #sendOn(client: Client): Promise<void> {
    const notification = this.#builderOfPending()
    this.#pendingNotification = undefined
    const state: EngineState = {
      wants: this.#options.wants(),
      ...(this.#asksForNotifications ? { asks: true } : {})
    }
    this.#asksForNotifications = false
    this.#sentAt = this.#options.monotonicMs()
    const cancelTimeout = this.#runAfter(ANSWER_MS, () => this.#drop(client))
    try {
      await this.#notify(client, notification, state)
    } catch (error) {
      this.#warnOnce(error)
      this.#drop(client)
    } finally {
      cancelTimeout()
      this.#isSending = false
    }
    this.#send()
  }

  async #notify(client: Client, notification: NotificationBuilder, state: EngineState): Promise<void> {
    const { node, traffic } = this.#options
    const text = notification.notification(node(), state)
    const { row } = notification
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

  /**
   * Deletes old rows of `news`: the other engines have read them, or will never read them. `id` is the id of the row that was just
   * written.
   */
  async #forgetRows(client: Client, id: number): Promise<void> {
    const now = this.#options.monotonicMs()
    const newest = this.#writtenRows.at(-1)
    // remembers an id only now and then: the rows with lower ids are deleted together with the row that has this id
    if (newest === undefined || now - newest.at > KEEP_ROW_MS / 10) {
      this.#writtenRows.push({ id, at: now })
    }
    const oldRow = this.#writtenRows.findLast(({ at }) => now - at > KEEP_ROW_MS)
    if (oldRow === undefined) return
    this.#writtenRows = this.#writtenRows.filter(({ at }) => at > oldRow.at)
    await client.query("DELETE FROM news WHERE id <= $1", [oldRow.id])
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Hearing
  // -------------------------------------------------------------------------------------------------------------------

  /** Handles notifications one by one, in order of arrival. */
  #onNotification(client: Client, text: string): void {
    this.#handled = this.#handled.then(() =>
      this.#handle(client, text).catch((error: unknown) => {
        this.#options.warn(
          `A notification of another engine could not be read, so this engine reads again what may have changed: ${String(error)}`
        )
        this.#watcher?.tell(allStale)
      })
    )
  }

  async #handle(client: Client, text: string): Promise<void> {
    const space = text.indexOf(" ")
    const notification = readNotification(text.slice(space + 1))
    // the notification is from a version with another format
    if (notification === undefined) return this.#watcher?.tell(allStale)
    if (notification.node === this.#options.node()) return
    // a notification has arrived, so the connection works
    this.#reconnectDelayMs = FIRST_RECONNECT_MS
    this.#isLoggedAsLost = false
    this.#noteEngine(notification)
    let changes = notification.changes
    if (space > 0) {
      const row = await this.#rowOf(client, Number(text.slice(0, space)))
      changes =
        row === undefined
          ? { ...changes, stale: new Set([...changes.stale, "turns", "announced"]) }
          : { ...changes, ...row }
    }
    if (this.#isClosed) return
    const isWithoutNews = space <= 0 && notification.commits.length === 0 && changes.stale.size === 0
    if (!isWithoutNews) this.#watcher?.tell(changes)
    this.#commits.add(...notification.commits)
    this.#noteCommit(this.#commits.highest)
  }

  async #rowOf(client: Client, id: number): Promise<ReturnType<typeof readRow>> {
    const cancelTimeout = this.#runAfter(ANSWER_MS, () => this.#drop(client))
    try {
      this.#options.traffic.statements++
      const { rows } = await client.query({
        name: "news",
        text: "SELECT body FROM news WHERE id = $1",
        values: [id]
      })
      return rows[0] === undefined ? undefined : readRow(String(rows[0].body))
    } finally {
      cancelTimeout()
    }
  }

  /** Notes what the engine that has sent a notification says of itself. */
  #noteEngine({ asks, leaves, node, wants }: ReceivedNotification): void {
    if (leaves === true) this.#otherEngines.delete(node)
    else this.#otherEngines.set(node, { wants, notifiedAt: this.#options.monotonicMs() })
    this.#updateOtherWants()
    if (asks === true) this.wantsChanged()
  }

  #updateOtherWants(): void {
    const others = [...this.#otherEngines.values()]
    this.#options.onOtherWants({
      steps: others.some(({ wants }) => wants.steps),
      states: others.some(({ wants }) => wants.states)
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Detecting missed commits
  // -------------------------------------------------------------------------------------------------------------------

  /**
   * Notes that all commits up to this number exist. If this engine has not been told of all these commits, it waits a moment. If it
   * is still not told of all of them, it has missed a notification.
   */
  #noteCommit(commit: number): void {
    this.#highestCommit = Math.max(this.#highestCommit, commit)
    if (this.#isChecking || this.#commits.allUpTo >= this.#highestCommit) return
    this.#isChecking = true
    const highestBefore = this.#highestCommit
    // while no notifications arrive, the listeners read everything again only once a second, however many commits there are
    const graceMs = Math.max(GRACE_MS, this.#missedAt + CHECK_MS - this.#options.monotonicMs())
    this.#runAfter(graceMs, () => {
      this.#isChecking = false
      // usually, a commit counts as missed only if it was known before the grace period; after a longer wait, all commits that are
      // known now count
      const lastMissed = graceMs > GRACE_MS ? this.#highestCommit : highestBefore
      if (this.#commits.allUpTo < lastMissed) {
        this.#missedAt = this.#options.monotonicMs()
        this.#commits.giveUp(lastMissed)
        this.#watcher?.tell(allStale)
        // a notification is missing: this connection may be dead without an error, or the engine that has committed has no
        // connection
        if (this.#client !== undefined) this.#probe(this.#client)
      }
      this.#noteCommit(this.#highestCommit)
    })
  }

  #check(): void {
    const now = this.#options.monotonicMs()
    for (const [node, { notifiedAt }] of this.#otherEngines) {
      if (now - notifiedAt < GONE_MS) continue
      this.#otherEngines.delete(node)
      this.#updateOtherWants()
    }
    if (this.#otherEngines.size > 0 && now - this.#sentAt >= EMPTY_NOTIFICATION_MS) this.wantsChanged()
    this.#watcher?.beforeCheck()
    // a commit of this engine has just read the highest number
    if (now - this.#committedAt < CHECK_MS) return
    this.#renewAndRead().then(
      (rows) => {
        if (this.#isClosed) return
        // safe cast: `EnginesSeen` has the columns of the statement
        const engines = rows[0] as unknown as EnginesSeen
        this.#watcher?.checkDone(engines, now)
        this.#noteCommit(Number(engines.sequence))
      },
      (error: unknown) => this.#watcher?.checkFailed(error)
    )
  }

  /**
   * Runs {@link RENEW_AND_READ} on a connection for reads, or, when slow reads occupy all of these, on the connection for
   * notifications.
   */
  #renewAndRead(): Promise<ReadonlyArray<Row>> {
    const { node, reader, traffic } = this.#options
    const client = this.#client
    if (!reader.isBusy || client === undefined) return reader.ask(RENEW_AND_READ, [node()])
    const { name, text } = RENEW_AND_READ
    traffic.statements++
    // ends the wait for a connection that is dead without an error, which would never answer
    const cancelTimeout = this.#runAfter(ANSWER_MS, () => this.#drop(client))
    return client
      .query({ name, text, values: [node()] })
      .then(({ rows }) => rows)
      .finally(cancelTimeout)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // The connection
  // -------------------------------------------------------------------------------------------------------------------

  async #connect(): Promise<Client> {
    const { driver, settings } = this.#options
    const client = new driver.Client(configOf(settings))
    client.on("error", () => this.#drop(client))
    client.on("end", () => this.#drop(client))
    client.on("notification", ({ payload = "" }) => this.#onNotification(client, payload))
    // limits the time of the statements, because the connection may die without an error; the driver limits the time of `connect`
    let cancelTimeout: (() => void) | undefined
    try {
      await client.connect()
      cancelTimeout = this.#runAfter(ANSWER_MS, () => socketOf(client).destroy())
      // rows of `news` are of no use after a crash, so they need not be durable
      await client.query(`SET synchronous_commit = off`)
      await client.query(`SET application_name = ${this.#channel}`)
      await client.query(`LISTEN ${this.#channel}`)
    } catch (error) {
      end(client)
      throw error
    } finally {
      cancelTimeout?.()
    }
    if (this.#isClosed) end(client)
    this.#client = client
    this.#asksForNotifications = true
    this.wantsChanged()
    return client
  }

  /** Sends a query to the server, and drops the connection when no answer comes in time. */
  #probe(client: Client): void {
    if (this.#isProbing) return
    this.#isProbing = true
    const cancelTimeout = this.#runAfter(ANSWER_MS, () => this.#drop(client))
    this.#options.traffic.statements++
    client
      .query("SELECT 1")
      .catch(() => this.#drop(client))
      .finally(() => {
        cancelTimeout()
        this.#isProbing = false
      })
  }

  #drop(client: Client): void {
    if (this.#client !== client) return
    this.#client = undefined
    // the connection is not ended properly, so that requests which wait on it fail now
    socketOf(client).destroy()
    this.#connectLater()
  }

  /** Warns that notifications between engines are lost. Warns again only after a notification has arrived in between. */
  #warnOnce(error: unknown): void {
    if (this.#isLoggedAsLost) return
    this.#isLoggedAsLost = true
    this.#options.warn(
      `Notifications between engines are lost for now. Nothing needs to be done: the engines check for changes instead, and notice them up to a second later. ${String(error)}`
    )
  }

  #connectLater(): void {
    if (this.#isClosed) return
    this.#runAfter(this.#reconnectDelayMs, () => {
      this.#reconnectDelayMs = Math.min(this.#reconnectDelayMs * 2, LONGEST_RECONNECT_MS)
      this.#connect().catch((error: unknown) => {
        this.#warnOnce(error)
        this.#connectLater()
      })
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Time
  // -------------------------------------------------------------------------------------------------------------------

  #runAfter(ms: number, f: () => void): () => void {
    const stop = this.#options.scheduleTimeout(ms, () => {
      this.#timerStops.delete(stop)
      if (!this.#isClosed) f()
    })
    this.#timerStops.add(stop)
    return () => {
      this.#timerStops.delete(stop)
      stop()
    }
  }

  #runEvery(ms: number, f: () => void): void {
    this.#runAfter(ms, () => {
      f()
      this.#runEvery(ms, f)
    })
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#options.scheduleTimeout(ms, resolve))
  }
}

/**
 * The name of the notification channel of a schema, which is also the `application_name` of the connections that listen. It
 * contains a hash of the schema's name, and not the name itself, since the names of channels and of schemas may both have at most
 * 63 characters: with the prefix, some would be too long.
 */
export const channelOf = (schema: string): string =>
  `ironflow_news_${hash("sha256", schema, "hex").slice(0, 32)}`

/** Ends a connection without waiting, since it may be dead. */
const end = (client: Client): void => {
  client.end().catch(() => undefined)
}
