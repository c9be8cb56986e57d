/**
 * What the engines on one schema tell each other of their commits.
 *
 * After a commit, on a connection of its own, an engine notifies the others: of the numbers of its commits and of what others may be
 * waiting for. Within the transaction a notification would make all commits of the cluster wait for each other. News may be lost: with the
 * engine that has committed, or with a connection. So commits are numbered, and each engine looks once a second up to which there are:
 * when some are missing that nobody has told, it has those who listen look at everything.
 */
import { hash } from "node:crypto"
import type { Client, Pool } from "pg"
import type { After } from "../../../Execution/Alarm.ts"
import type { Announced, Changes, Subject } from "../Changes.ts"
import type { Wants } from "../Store.ts"
import { Commits } from "./Commits.ts"
import { configOf, type Driver, type Settings } from "./Driver.ts"
import { socketOf, type Traffic } from "./Session.ts"
import { LOOK_AROUND, NOW } from "./Nodes.ts"
import { type Hello, lookAtAll, readNotification, readRow, type Told, ToTell } from "./NewsText.ts"

/** How often it is looked up to which number there are commits, unless it is known, milliseconds. */
const LOOK_MS = 1000
/** How long news of a commit may be on their way before they count as lost. */
const GRACE_MS = 150
/** How long an answer may take before the connection counts as lost. */
const ANSWER_MS = 2000
/** The waits before the connection is made anew: doubling. */
const FIRST_WAIT_MS = 100
const LONGEST_WAIT_MS = 5000
/** How often an engine says that it is there, and after what silence it is told nothing any more. */
const HELLO_MS = 10_000
const SILENT_MS = 35_000
/** How long what is beside a notification is kept. */
const KEEP_MS = 60_000

export interface NewsOptions {
  readonly driver: Driver
  readonly settings: Settings
  readonly traffic: Traffic
  /** The connections that read. */
  readonly pool: Pool
  /** The number of this engine. */
  readonly node: () => number
  readonly after: After
  /** A clock that only goes on, milliseconds. */
  readonly now: () => number
  /** What the listeners of this engine want to hear of others. */
  readonly wants: () => Wants
  /** Whether a worker hears of its turns from this engine. */
  readonly isHere: (workerId: string) => boolean
  /** Tells the listeners of this engine. */
  readonly tell: (changes: Changes) => void
  /** What other engines want to hear has changed. */
  readonly wanted: (wants: Wants) => void
  /** Called with what was seen of the nodes, and when that was asked for by `now`. */
  readonly looked: (around: Around, askedAt: number) => void
  /** Called with why it could not be looked. */
  readonly failed: (error: unknown) => void
  /** Called with every look, before its answer has come. */
  readonly looking: () => void
  readonly warn: (message: string) => void
}

/** What {@link LOOK_AROUND} finds. */
interface Around {
  readonly now: number
  readonly sequence: number
  /** 1 when there is a node to be taken for dead. */
  readonly hasLapsed: number
  /** 0 when this one was. */
  readonly isThere: number
}

interface Other {
  readonly wants: Wants
  readonly heardAt: number
}

export class News {
  readonly #options: NewsOptions
  readonly #channel: string
  readonly #others = new Map<number, Other>()
  #commits = new Commits(0)
  /** Commits up to this one are there, for all that is known. */
  #seen = 0
  /** When this engine has committed last. */
  #committedAt = Number.NEGATIVE_INFINITY
  #isChecking = false
  /** When news were missed last. */
  #missedAt = Number.NEGATIVE_INFINITY
  #isAsked = false
  #client: Client | undefined
  #waitMs = FIRST_WAIT_MS
  #toTell: ToTell | undefined
  #isSending = false
  #asks = false
  #saidAt = Number.NEGATIVE_INFINITY
  #hearing: Promise<void> = Promise.resolve()
  /** The last rows that were written, and when: the oldest first. */
  #rows: Array<{ readonly id: number; readonly at: number }> = []
  #isClosed = false
  #isDown = false
  readonly #stops = new Set<() => void>()

  constructor(options: NewsOptions) {
    this.#options = options
    this.#channel = channelOf(options.settings.schema)
  }

  /** Listens from now on: what is read after this is told when it changes. */
  async start(): Promise<void> {
    const client = await this.#connect()
    const { rows } = await client.query("SELECT sequence FROM engine")
    this.#commits = new Commits(Number(rows[0]?.sequence))
    this.#saw(this.#commits.upTo)
  }

  /** Looks from now on whether something was missed. */
  watch(): void {
    this.#every(LOOK_MS, () => this.#look())
  }

  /** Ends: says so to the others. */
  async close(): Promise<void> {
    this.#isClosed = true
    for (const stop of this.#stops) stop()
    const client = this.#client
    if (client === undefined) return
    this.#client = undefined
    const leaving = this.#toTell ?? new ToTell()
    const hello: Hello = { wants: { steps: false, states: false }, leaves: true }
    const last = this.#others.size === 0 ? Promise.resolve() : this.#notify(client, leaving, hello)
    // whoever does not hear it finds out
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

  /** The last commit of which something is known, of whichever engine. */
  get sequence(): number {
    return Math.max(this.#seen, this.#commits.last)
  }

  /** This engine has committed something. */
  committed(commit: number, changes: Changes): void {
    this.#committedAt = this.#options.now()
    this.#commits.add([commit, commit])
    this.#saw(commit)
    if (this.#others.size === 0) return
    this.#pending().add(commit, changes, this.#options.isHere)
    this.#send()
  }

  /** Something has happened that is not stored. */
  announce(announced: Announced): void {
    if (this.#others.size === 0) return
    this.#pending().announce(announced)
    this.#send()
  }

  /** Others are to look at something. */
  look(subject: Subject): void {
    if (this.#others.size === 0) return
    this.#pending().look(subject)
    this.#send()
  }

  /** Listeners of this engine want to hear something else than before. */
  wantsChanged(): void {
    this.#pending()
    this.#send()
  }

  #pending(): ToTell {
    return (this.#toTell ??= new ToTell())
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Telling
  // -------------------------------------------------------------------------------------------------------------------

  /** Sends what there is to tell, of which more comes together while the last answer is waited for. */
  #send(): void {
    if (this.#isSending || this.#toTell === undefined || this.#isClosed) return
    const client = this.#client
    // whoever is not told finds out
    if (client === undefined) return void (this.#toTell = undefined)
    this.#isSending = true
    // what is committed in this turn is told together
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

  async #notify(client: Client, toTell: ToTell, hello: Hello): Promise<void> {
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

  /** Deletes what others have read, or never will. */
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

  /** One after the other, as they came. */
  #hear(client: Client, payload: string): void {
    this.#hearing = this.#hearing.then(() =>
      this.#read(client, payload).catch((error: unknown) => {
        this.#options.warn(`News of another engine could not be read: ${String(error)}`)
        this.#options.tell(lookAtAll)
      })
    )
  }

  async #read(client: Client, payload: string): Promise<void> {
    const space = payload.indexOf(" ")
    const told = readNotification(payload.slice(space + 1))
    // one of a version that says it in another way
    if (told === undefined) return this.#options.tell(lookAtAll)
    if (told.node === this.#options.node()) return
    // it works
    this.#waitMs = FIRST_WAIT_MS
    this.#isDown = false
    this.#meet(told)
    let changes = told.changes
    if (space > 0) {
      const row = await this.#rowOf(client, Number(payload.slice(0, space)))
      changes =
        row === undefined
          ? { ...changes, look: new Set([...changes.look, "turns", "announced"]) }
          : { ...changes, ...row }
    }
    if (this.#isClosed) return
    const isOnlyHello = space <= 0 && told.commits.length === 0 && changes.look.size === 0
    if (!isOnlyHello) this.#options.tell(changes)
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

  #meet({ asks, leaves, node, wants }: Told): void {
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
  // Finding out what nobody has told
  // -------------------------------------------------------------------------------------------------------------------

  /** There are commits up to this one: those of others are told, or looked for in a moment. */
  #saw(commit: number): void {
    this.#seen = Math.max(this.#seen, commit)
    if (this.#isChecking || this.#commits.upTo >= this.#seen) return
    this.#isChecking = true
    const expected = this.#seen
    // while none are told all is looked at once a second, however much is committed elsewhere
    const graceMs = Math.max(GRACE_MS, this.#missedAt + LOOK_MS - this.#options.now())
    this.#later(graceMs, () => {
      this.#isChecking = false
      const upTo = graceMs > GRACE_MS ? this.#seen : expected
      if (this.#commits.upTo < upTo) {
        this.#missedAt = this.#options.now()
        this.#commits.giveUp(upTo)
        this.#options.tell(lookAtAll)
        // the connection may be dead, and seem to be there; or the other engine has none
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
    this.#options.looking()
    // a commit of this engine says it too
    if (now - this.#committedAt < LOOK_MS) return
    this.#options.traffic.statements++
    const { name, text } = LOOK_AROUND
    const { pool } = this.#options
    // the connection of the news may be dead and seem to be there; slow reads may have all others
    const way = pool.waitingCount > 0 && this.#client !== undefined ? this.#client : pool
    way.query({ name, text, values: [this.#options.node()] }).then(
      ({ rows }) => {
        if (this.#isClosed) return
        // as the statement has it
        const around = rows[0] as Around
        this.#options.looked(around, now)
        this.#saw(Number(around.sequence))
      },
      // it is looked at again
      (error: unknown) => this.#options.failed(error)
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
      // news are of no use after a crash
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

  /** Drops a connection that does not answer. */
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
    // nobody answers on a dead one: what waits on it fails now
    socketOf(client).destroy()
    this.#connectLater()
  }

  /** Says once that what engines tell each other is lost, until something is heard again. */
  #complain(error: unknown): void {
    if (this.#isDown) return
    this.#isDown = true
    this.#options.warn(
      `What engines tell each other is lost for now, and found out by looking, which takes a second: ${String(error)}`
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
 * The channel of the engines on a schema, and the name of their connections that listen. A name may have 63 characters, and that of a
 * schema has as many.
 */
export const channelOf = (schema: string): string =>
  `ironflow_news_${hash("sha256", schema, "hex").slice(0, 32)}`

/** Ends a connection that may be dead: nobody waits for it. */
const end = (client: Client): void => {
  client.end().catch(() => undefined)
}
