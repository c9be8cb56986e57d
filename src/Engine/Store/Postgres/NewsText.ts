/**
 * What one engine tells the others of its commits, as text. Who may connect to the database may listen to notifications: those have
 * numbers, ids and names. What was received, returned or sent is in a row beside it, which only those read who may read the tables.
 */
import { isObject } from "../../../Json.ts"
import type { Notice } from "../../../Protocol/Worker.ts"
import { type Announced, type Changes, noCounts, type Subject, subjects } from "../Changes.ts"
import type { Wants } from "../Store.ts"
import { type Span, spansOf } from "./Commits.ts"

/** Bytes of a notification: Postgres takes less than 8,000. */
const MOST_BYTES = 7800
/** Characters of a row. */
const MOST_CHARACTERS = 4 * 1024 * 1024

/** What an engine says of itself. */
export interface Hello {
  readonly wants: Wants
  /** Others are to say the same of themselves. */
  readonly asks?: true
  /** It ends. */
  readonly leaves?: true
}

/** What is told of commits, as it is gathered from several of them. */
export class ToTell {
  readonly #commits: Array<number> = []
  readonly #ended = new Set<string>()
  readonly #kv = new Set<number>()
  readonly #kvDeleted = new Set<number>()
  readonly #groups = new Set<number>()
  readonly #projections = new Set<string>()
  readonly #look = new Set<Subject>()
  readonly #notices: Array<Changes["notices"][number]> = []
  readonly #announced: Array<Announced> = []
  #characters = 0
  #logEnd = 0
  #dueAt = Number.POSITIVE_INFINITY
  #isReady = false

  /** `isHere` says which workers hear of it from this engine. */
  add(commit: number, changes: Changes, isHere: (workerId: string) => boolean): void {
    this.#commits.push(commit)
    for (const runId of changes.ended) this.#ended.add(runId)
    for (const { bucket } of changes.kv) this.#kv.add(bucket)
    for (const bucket of changes.kvDeleted) this.#kvDeleted.add(bucket)
    for (const key of [...changes.groups, ...changes.givenBack]) this.#groups.add(key)
    for (const key of changes.projections) this.#projections.add(key)
    for (const told of changes.notices) if (!isHere(told.workerId)) this.#notice(told)
    if (changes.access.length > 0) this.#look.add("access")
    if (changes.functions.length > 0 || changes.environments.length > 0) this.#look.add("functions")
    this.#logEnd = Math.max(this.#logEnd, changes.logEnd)
    this.#dueAt = Math.min(this.#dueAt, changes.dueAt)
    this.#isReady ||= changes.ready
  }

  announce(announced: Announced): void {
    this.#characters += announced.data.length + announced.topic.length
    if (this.#characters > MOST_CHARACTERS) this.#look.add("announced")
    else this.#announced.push(announced)
  }

  look(subject: Subject): void {
    this.#look.add(subject)
  }

  #notice(told: Changes["notices"][number]): void {
    const { notice } = told
    const value = notice._tag === "Fired" && notice.outcome?._tag === "Success" ? notice.outcome.value : ""
    this.#characters += 256 + (value?.length ?? 0)
    if (this.#characters > MOST_CHARACTERS) this.#look.add("turns")
    else this.#notices.push(told)
  }

  /** What the row beside it has, if there is one. */
  get row(): string | undefined {
    if (this.#notices.length === 0 && this.#announced.length === 0) return undefined
    return JSON.stringify({ notices: this.#notices, announced: this.#announced })
  }

  /** The notification of a node: what does not fit has to be looked at. */
  notification(node: number, hello: Hello): string {
    const commits = spansOf(this.#commits)
    const parts = {
      ends: [...this.#ended],
      kv: { put: [...this.#kv], deleted: [...this.#kvDeleted] },
      groups: [...this.#groups],
      projections: [...this.#projections]
    }
    const all = ["ends", "projections", "kv", "groups"] as const
    const encode = (kept: ReadonlyArray<(typeof all)[number]>): string =>
      JSON.stringify({
        ...Object.fromEntries(kept.map((name) => [name, parts[name]])),
        node,
        ...hello,
        // of the others nobody hears, and so they are looked for
        commits: commits.slice(-MOST_SPANS),
        look: [...this.#look, ...all.filter((name) => !kept.includes(name))],
        logEnd: this.#logEnd,
        ...(this.#dueAt === Number.POSITIVE_INFINITY ? {} : { dueAt: this.#dueAt }),
        ready: this.#isReady
      })
    for (let left = 0; left < all.length; left++) {
      const text = encode(all.slice(left))
      if (Buffer.byteLength(text) <= MOST_BYTES) return text
    }
    return encode([])
  }
}

/** Of the numbers of commits that one notification has. */
const MOST_SPANS = 100

/** What another engine has told. */
export interface Told extends Hello {
  readonly node: number
  readonly commits: ReadonlyArray<Span>
  readonly changes: Changes
}

const nothing = {
  elsewhere: true,
  inOrder: false,
  counts: noCounts(),
  notices: [],
  announced: [],
  ended: [],
  endings: new Map(),
  activity: [],
  troubles: [],
  kv: [],
  kvElsewhere: [],
  kvDeleted: [],
  warnings: [],
  projections: [],
  groups: [],
  givenBack: [],
  states: [],
  configs: [],
  access: [],
  accessLog: [],
  functions: [],
  environments: [],
  ready: false,
  mayHaveReady: false,
  logEnd: 0,
  dueAt: Number.POSITIVE_INFINITY
} satisfies Omit<Changes, "look">

/** What is told when nothing is known of what has been committed elsewhere. */
export const lookAtAll: Changes = { ...nothing, look: new Set(subjects), mayHaveReady: true }

/** Reads a notification; `undefined` when it is none, or one of a version that says it otherwise. */
export const readNotification = (text: string): Told | undefined => {
  const told = parse(text)
  if (told === undefined || !isNumber(told.node)) return undefined
  const commits = listOf(told.commits, isSpan)
  const { ready } = told
  const kv = isObject(told.kv) ? told.kv : {}
  const changes: Changes = {
    ...nothing,
    look: new Set(listOf(told.look, isSubject)),
    ended: listOf(told.ends, isString),
    kvElsewhere: listOf(kv.put, isNumber),
    kvDeleted: listOf(kv.deleted, isNumber),
    groups: listOf(told.groups, isNumber),
    projections: listOf(told.projections, isString),
    logEnd: isNumber(told.logEnd) ? told.logEnd : 0,
    dueAt: isNumber(told.dueAt) ? told.dueAt : Number.POSITIVE_INFINITY,
    ready: ready === true,
    mayHaveReady: ready === true
  }
  const wants = isObject(told.wants) ? told.wants : {}
  return {
    node: told.node,
    wants: { steps: wants.steps === true, states: wants.states === true },
    ...(told.asks === true ? { asks: true } : {}),
    ...(told.leaves === true ? { leaves: true } : {}),
    commits,
    changes
  }
}

/** What a row has beside the notification; `undefined` when it is none. */
export const readRow = (text: string): Pick<Changes, "notices" | "announced"> | undefined => {
  const row = parse(text)
  if (row === undefined) return undefined
  return { notices: listOf(row.notices, isNotice), announced: listOf(row.announced, isAnnounced) }
}

const parse = (text: string): { readonly [name: string]: unknown } | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

const listOf = <A>(value: unknown, is: (member: unknown) => member is A): ReadonlyArray<A> =>
  Array.isArray(value) ? value.filter(is) : []

const isNumber = (value: unknown): value is number => typeof value === "number"
const isString = (value: unknown): value is string => typeof value === "string"
const isSpan = (value: unknown): value is Span =>
  Array.isArray(value) && value.length === 2 && value.every(isNumber)
const isSubject = (value: unknown): value is Subject => subjects.some((subject) => subject === value)
const isNotice = (value: unknown): value is Changes["notices"][number] =>
  isObject(value) && isString(value.workerId) && isObject(value.notice) && isNoticeItself(value.notice)
const isNoticeItself = (notice: { readonly [name: string]: unknown }): boolean =>
  isString(notice.jobId) && NOTICES.has(String(notice._tag))
const isAnnounced = (value: unknown): value is Announced =>
  isObject(value) && [value.id, value.environment, value.topic, value.data].every(isString)

/** The notices that turns at other engines are told of. */
const NOTICES: ReadonlySet<string> = new Set(
  Object.keys({
    Fired: true,
    Cancelled: true,
    LeaseLost: true,
    Paused: true,
    Resumed: true
  } satisfies Record<Notice["_tag"], true>)
)
