/**
 * The text of the notifications between engines. Every user of the database may listen to notifications, so their text has only
 * numbers, ids and names. The payloads of a notification, its notices and announcements, are in a row of the table `news`, which
 * only users with access to the tables can read.
 */
import { isObject } from "../../../Json.ts"
import type { Notice } from "../../../Protocol/Worker.ts"
import { type Announced, type Changes, noCounts, type ChangeKind, changeKinds } from "../Changes.ts"
import type { Wants } from "../Store.ts"
import { type CommitRange, rangesOf } from "./Commits.ts"

/** Maximum number of bytes of a notification. Postgres accepts less than 8,000. */
const MAX_BYTES = 7800
/** Maximum number of characters of the payloads of a notification. */
const MAX_CHARACTERS = 4 * 1024 * 1024

/** What an engine says of itself in each notification. */
export interface EngineState {
  /** Which of the optional changes the listeners of this engine want to be told by other engines. */
  readonly wants: Wants
  /** Set when every other engine is to send a notification too, so that this engine learns of every other engine. */
  readonly asks?: true
  /** Set when the engine stops. */
  readonly leaves?: true
}

/** Builds one notification from several commits and announcements. */
export class NotificationBuilder {
  readonly #commits: Array<number> = []
  readonly #ended = new Set<string>()
  readonly #kv = new Set<number>()
  readonly #kvDeleted = new Set<number>()
  readonly #groups = new Set<number>()
  readonly #projections = new Set<string>()
  readonly #stale = new Set<ChangeKind>()
  readonly #notices: Array<Changes["notices"][number]> = []
  readonly #announced: Array<Announced> = []
  #characters = 0
  #logEnd = 0
  #dueAt = Number.POSITIVE_INFINITY
  #isReady = false

  /** Adds a commit. Notices for workers that are connected to this engine (`isConnectedHere`) are left out. */
  add(commit: number, changes: Changes, isConnectedHere: (workerId: string) => boolean): void {
    this.#commits.push(commit)
    for (const runId of changes.ended) this.#ended.add(runId)
    for (const { bucket } of changes.kv) this.#kv.add(bucket)
    for (const bucket of changes.deletedBuckets) this.#kvDeleted.add(bucket)
    for (const key of [...changes.groups, ...changes.groupsWithReturns]) this.#groups.add(key)
    for (const key of changes.projections) this.#projections.add(key)
    for (const entry of changes.notices) if (!isConnectedHere(entry.workerId)) this.#addNotice(entry)
    if (changes.access.length > 0) this.#stale.add("access")
    if (changes.functions.length > 0 || changes.environments.length > 0) this.#stale.add("functions")
    this.#logEnd = Math.max(this.#logEnd, changes.logEnd)
    this.#dueAt = Math.min(this.#dueAt, changes.dueAt)
    this.#isReady ||= changes.ready
  }

  announce(announced: Announced): void {
    this.#characters += announced.data.length + announced.topic.length
    if (this.#characters > MAX_CHARACTERS) this.#stale.add("announced")
    else this.#announced.push(announced)
  }

  markStale(kind: ChangeKind): void {
    this.#stale.add(kind)
  }

  #addNotice(entry: Changes["notices"][number]): void {
    const { notice } = entry
    const value = notice._tag === "Fired" && notice.outcome?._tag === "Success" ? notice.outcome.value : ""
    this.#characters += 256 + (value?.length ?? 0)
    if (this.#characters > MAX_CHARACTERS) this.#stale.add("turns")
    else this.#notices.push(entry)
  }

  /** The payloads of the notification, as the content of a row of `news`; `undefined` when there are none. */
  get row(): string | undefined {
    if (this.#notices.length === 0 && this.#announced.length === 0) return undefined
    return JSON.stringify({ notices: this.#notices, announced: this.#announced })
  }

  /**
   * The text of the notification of a node. Where the ids or names do not fit, the text has only the kind of the change, so that
   * other engines read again what may have changed.
   */
  notification(node: number, state: EngineState): string {
    const commits = rangesOf(this.#commits)
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
        ...state,
        // earlier commits are left out: other engines notice that they have missed commits, and then read everything again
        commits: commits.slice(-MAX_RANGES),
        look: [...this.#stale, ...all.filter((name) => !kept.includes(name))],
        logEnd: this.#logEnd,
        ...(this.#dueAt === Number.POSITIVE_INFINITY ? {} : { dueAt: this.#dueAt }),
        ready: this.#isReady
      })
    for (let leftOut = 0; leftOut < all.length; leftOut++) {
      const text = encode(all.slice(leftOut))
      if (Buffer.byteLength(text) <= MAX_BYTES) return text
    }
    return encode([])
  }
}

/** Maximum number of ranges of commit numbers in a notification. */
const MAX_RANGES = 100

/** A notification of another engine. */
export interface ReceivedNotification extends EngineState {
  readonly node: number
  readonly commits: ReadonlyArray<CommitRange>
  readonly changes: Changes
}

const NO_CHANGES = {
  isFromOtherEngine: true,
  isInOrder: false,
  counts: noCounts(),
  notices: [],
  announced: [],
  ended: [],
  endings: new Map(),
  activity: [],
  runFailures: [],
  kv: [],
  bucketsChangedByOthers: [],
  deletedBuckets: [],
  warnings: [],
  projections: [],
  groups: [],
  groupsWithReturns: [],
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
} satisfies Omit<Changes, "stale">

/** Tells listeners to read everything again. Used when this engine was not told of all commits of other engines. */
export const allStale: Changes = { ...NO_CHANGES, stale: new Set(changeKinds), mayHaveReady: true }

/** Parses a notification; `undefined` when it is invalid, or from a version with another format. */
export const readNotification = (text: string): ReceivedNotification | undefined => {
  const fields = parse(text)
  if (fields === undefined || !isNumber(fields.node)) return undefined
  const commits = listOf(fields.commits, isRange)
  const { ready } = fields
  const kv = isObject(fields.kv) ? fields.kv : {}
  const changes: Changes = {
    ...NO_CHANGES,
    stale: new Set(listOf(fields.look, isChangeKind)),
    ended: listOf(fields.ends, isString),
    bucketsChangedByOthers: listOf(kv.put, isNumber),
    deletedBuckets: listOf(kv.deleted, isNumber),
    groups: listOf(fields.groups, isNumber),
    projections: listOf(fields.projections, isString),
    logEnd: isNumber(fields.logEnd) ? fields.logEnd : 0,
    dueAt: isNumber(fields.dueAt) ? fields.dueAt : Number.POSITIVE_INFINITY,
    ready: ready === true,
    mayHaveReady: ready === true
  }
  const wants = isObject(fields.wants) ? fields.wants : {}
  return {
    node: fields.node,
    wants: { steps: wants.steps === true, states: wants.states === true },
    ...(fields.asks === true ? { asks: true } : {}),
    ...(fields.leaves === true ? { leaves: true } : {}),
    commits,
    changes
  }
}

/** Parses the payloads of a notification; `undefined` when they are invalid. */
export const readRow = (text: string): Pick<Changes, "notices" | "announced"> | undefined => {
  const row = parse(text)
  if (row === undefined) return undefined
  return { notices: listOf(row.notices, isWorkerNotice), announced: listOf(row.announced, isAnnounced) }
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
const isRange = (value: unknown): value is CommitRange =>
  Array.isArray(value) && value.length === 2 && value.every(isNumber)
const isChangeKind = (value: unknown): value is ChangeKind => changeKinds.some((kind) => kind === value)
const isWorkerNotice = (value: unknown): value is Changes["notices"][number] =>
  isObject(value) && isString(value.workerId) && isObject(value.notice) && isKnownNotice(value.notice)
const isKnownNotice = (notice: { readonly [name: string]: unknown }): boolean =>
  isString(notice.jobId) && NOTICE_TAGS.has(String(notice._tag))
const isAnnounced = (value: unknown): value is Announced =>
  isObject(value) && [value.id, value.environment, value.topic, value.data].every(isString)

/** All kinds of notices: a notice of another kind is from a newer version. */
const NOTICE_TAGS: ReadonlySet<string> = new Set(
  Object.keys({
    Fired: true,
    Cancelled: true,
    LeaseLost: true,
    Paused: true,
    Resumed: true
  } satisfies Record<Notice["_tag"], true>)
)
