/**
 * System events: what happens to runs, steps, functions, secrets, workers, projections and configurations. They are announced to
 * the listeners, and the last events are kept in memory for replay. They are not stored, so an engine starts without events.
 *
 * The parts of the engine call {@link SystemEventsService.announce} when something has happened, and {@link
 * SystemEventsService.announceNewest} for the new value of something whose earlier values do not matter.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Store, type StoreService } from "../Store/Store.ts"
import type { Announced, EventAccess } from "../Store/Changes.ts"
import type { RunActivity, ObservedActivity } from "../Store/RunActivity.ts"
import type { Outcome } from "../../Protocol/Worker.ts"
import { decodeJson, isObject } from "../../Json.ts"
import { plainResult } from "../../ResultEncoding.ts"

export interface SystemEvent {
  /** Increases with every event that the engine announces. */
  readonly sequence: number
  readonly id: string
  readonly topic: string
  /** JSON text, built when it is first read. */
  readonly data: string
  /** The approximate length of `data`, in characters. */
  readonly length: number
  /** Epoch milliseconds. */
  readonly timestamp: number
  /** The permission that a subscriber needs to get the event, besides the permission to subscribe. */
  readonly access?: EventAccess | undefined
}

export type { EventAccess } from "../Store/Changes.ts"

/**
 * How many of the last events are kept in each environment, unless their data is too long. Older events may be kept for a while.
 */
export const MAX_REMEMBERED_EVENTS = 1000
/** How many characters of data are kept in each environment. */
const REMEMBERED_LENGTH = 8 * 1024 * 1024
/** How many characters of data are kept in all environments together. */
export const MAX_REMEMBERED_CHARS = 16 * 1024 * 1024
/** Maximum number of environments with kept events. Environments with listeners may exceed this number. */
const MAX_ENVIRONMENTS = 10_000

interface RememberedEvents {
  events: Array<SystemEvent>
  length: number
  /** The sequence of the last event that was dropped. */
  lastDropped: number
  /** The newest value of each topic, see {@link SystemEventsService.announceNewest}, ordered by sequence. */
  readonly newest: Map<string, SystemEvent>
  /** Characters of all newest values. */
  newestLength: number
  /** The sequence of the last value that was dropped from `newest`. */
  lastDroppedNewest: number
  readonly listeners: Set<() => void>
}

/** For one of several engines on a database: its number, and the function that sends announcements to the others. */
export interface SharedSystemEvents {
  readonly node: number
  readonly tell: NonNullable<StoreService["announce"]>
}

export class SystemEventsService {
  /** Distinguishes the events of this engine from those of an engine that ran before. */
  readonly epoch: string
  readonly #now: () => number
  readonly #shared: SharedSystemEvents | undefined
  readonly #remembered = new Map<string, RememberedEvents>()
  /** Characters of everything that is kept. */
  #length = 0
  #sequence = 0
  /**
   * The newest sequence at the time when whole environments were last dropped, or when announcements of other engines were last
   * lost.
   */
  #droppedUpTo = 0
  /** The sequence since which no newest value was missed; `undefined` while there are no listeners for newest values. */
  #newestSince: number | undefined

  constructor(now: () => number, shared?: SharedSystemEvents) {
    this.#now = now
    this.#shared = shared
    this.epoch = now().toString(36) + (shared === undefined ? "" : `-${shared.node}`)
  }

  /** Whether sequences are valid at other engines too. If so, a sequence is made from the time of the event. */
  get isShared(): boolean {
    return this.#shared !== undefined
  }

  #next(): number {
    const next = this.#sequence + 1
    return (this.#sequence = this.#shared === undefined ? next : Math.max(next, this.#now() * 1000))
  }

  /** The newest sequence. */
  get end(): number {
    return this.#sequence
  }

  /**
   * Announces that something has happened. `topic` begins with `system.`. `data` is called, and its result becomes JSON, when the
   * event is read. `length` is the approximate length of that JSON, in characters.
   */
  announce(environment: string, topic: string, data: () => Fields, length = 256, access?: EventAccess): void {
    const announcement = {
      topic,
      data: () => JSON.stringify(data()),
      ...(access === undefined ? {} : { access })
    }
    this.#remember(environment, this.#now(), announcement, length)
  }

  /**
   * Announces the new value of something, which replaces the earlier value of the same topic. `data` returns a JSON text. The
   * value is not kept while this engine has no listeners for such values.
   */
  announceNewest(
    environment: string,
    topic: string,
    {
      access,
      data,
      length
    }: { readonly access: EventAccess; readonly data: () => string; readonly length: number }
  ): void {
    this.#shared?.tell("states", () => ({
      ...this.#toAnnounced(environment, topic, data()),
      access,
      isNewest: true
    }))
    this.#rememberNewest(environment, { topic, data, access }, length)
  }

  #toAnnounced(environment: string, topic: string, data: string, id?: string): Announced {
    return { id: id ?? `sys_${this.epoch}_${this.#next()}`, environment, topic, data }
  }

  #rememberNewest(environment: string, announcement: Announcement, length: number): void {
    if (this.#newestSince === undefined) return
    const memory = this.#memory(environment)
    const { newest } = memory
    const { topic } = announcement
    const event = new RememberedEvent(this.epoch, this.#next(), this.#now(), announcement, length)
    const before = memory.newestLength
    memory.newestLength += length - (newest.get(topic)?.length ?? 0)
    // the map is in the order of the announcements: this moves the topic to the end
    newest.delete(topic)
    newest.set(topic, event)
    dropOldValues(memory, REMEMBERED_LENGTH)
    this.#length += memory.newestLength - before
    this.#makeRoom()
    for (const listener of memory.listeners) listener()
  }

  /** Sets whether there are listeners for newest values. */
  set listensToNewest(listens: boolean) {
    if (listens === (this.#newestSince !== undefined)) return
    // begins with a new sequence, because a listener with an earlier sequence has missed the values in between
    this.#newestSince = listens ? this.#next() : undefined
    for (const memory of this.#remembered.values()) {
      memory.newest.clear()
      this.#length -= memory.newestLength
      memory.newestLength = 0
    }
  }

  /** The kept events and newest values after a sequence, oldest first. */
  eventsAfter(environment: string, sequence: number): ReadonlyArray<SystemEvent> {
    const memory = this.#remembered.get(environment)
    if (memory === undefined) return []
    const { events, newest } = memory
    const first = events.findIndex((event) => event.sequence > sequence)
    const happened = first === -1 ? [] : events.slice(first)
    if (newest.size === 0) return happened
    const states = [...newest.values()].filter((event) => event.sequence > sequence)
    if (states.length === 0 || happened.length === 0) return states.length === 0 ? happened : states
    return [...happened, ...states].sort((a, b) => a.sequence - b.sequence)
  }

  /** The sequence after which all events are kept. */
  completeSince(environment: string): number {
    return this.#remembered.get(environment)?.lastDropped ?? this.#droppedUpTo
  }

  /** The sequence after which all newest values are kept. */
  newestCompleteSince(environment: string): number {
    return Math.max(
      this.#newestSince ?? this.#sequence,
      this.#remembered.get(environment)?.lastDroppedNewest ?? this.#droppedUpTo
    )
  }

  listen(environment: string, listener: () => void): () => void {
    const { listeners } = this.#memory(environment)
    listeners.add(listener)
    return () => void listeners.delete(listener)
  }

  /** Announces activity of runs. */
  announceRuns(activity: ReadonlyArray<ObservedActivity>): void {
    const now = this.#now()
    for (const one of activity) {
      if (one._tag === "RunTaken") continue
      const outcome = "outcome" in one && one.outcome._tag === "Success" ? one.outcome.value : undefined
      this.#remember(one.environment, now, one, 256 + (outcome?.length ?? 0))
    }
  }

  /** Announces to the listeners of this engine what another engine has announced. */
  announceFromOther({ access, data, environment, id, isNewest, topic }: Announced): void {
    const announcement = { id, topic, data: () => data, ...(access === undefined ? {} : { access }) }
    if (isNewest === true) this.#rememberNewest(environment, announcement, data.length)
    else this.#put(environment, this.#now(), announcement, 256 + data.length)
  }

  /** Called when announcements of other engines were lost. Listeners then see that there is a gap. */
  noteMissed(): void {
    const sequence = (this.#droppedUpTo = this.#next())
    if (this.#newestSince !== undefined) this.#newestSince = sequence
    for (const memory of this.#remembered.values()) {
      memory.lastDropped = memory.lastDroppedNewest = sequence
      for (const listener of memory.listeners) listener()
    }
  }

  #remember(environment: string, now: number, source: Announcement | RunActivity, length: number): void {
    const event = this.#put(environment, now, source, length)
    this.#shared?.tell("steps", () => {
      const { access, data, id, topic } = event
      return {
        ...this.#toAnnounced(environment, topic, data, id),
        ...(access === undefined ? {} : { access })
      }
    })
  }

  #put(environment: string, now: number, source: Announcement | RunActivity, length: number): SystemEvent {
    const memory = this.#memory(environment)
    const event = new RememberedEvent(this.epoch, this.#next(), now, source, length)
    const before = memory.length
    memory.events.push(event)
    memory.length += length
    if (memory.events.length > 2 * MAX_REMEMBERED_EVENTS || memory.length > REMEMBERED_LENGTH) {
      dropOldEvents(memory, REMEMBERED_LENGTH / 2)
    }
    this.#length += memory.length - before
    this.#makeRoom()
    for (const listener of memory.listeners) listener()
    return event
  }

  /**
   * Drops events and newest values when all environments together have too many characters. Begins with the environments that have
   * the most characters, and drops so many that this need not be repeated soon.
   */
  #makeRoom(): void {
    if (this.#length <= MAX_REMEMBERED_CHARS) return
    for (let maxLength = REMEMBERED_LENGTH / 2; this.#length > MAX_REMEMBERED_CHARS * 0.75; maxLength /= 2) {
      this.#length = 0
      for (const memory of this.#remembered.values()) {
        if (memory.length > maxLength) dropOldEvents(memory, maxLength)
        dropOldValues(memory, maxLength)
        this.#length += memory.length + memory.newestLength
      }
    }
  }

  /** Drops half of the environments, the oldest first, except those with listeners. */
  #forgetEnvironments(): void {
    this.#droppedUpTo = this.#sequence
    for (const [environment, { length, listeners, newestLength }] of this.#remembered) {
      if (this.#remembered.size <= MAX_ENVIRONMENTS / 2) return
      if (listeners.size > 0) continue
      this.#length -= length + newestLength
      this.#remembered.delete(environment)
    }
  }

  #memory(environment: string): RememberedEvents {
    let memory = this.#remembered.get(environment)
    if (memory === undefined) {
      if (this.#remembered.size >= MAX_ENVIRONMENTS) this.#forgetEnvironments()
      memory = {
        events: [],
        length: 0,
        lastDropped: this.#droppedUpTo,
        newest: new Map(),
        newestLength: 0,
        lastDroppedNewest: this.#droppedUpTo,
        listeners: new Set()
      }
      this.#remembered.set(environment, memory)
    }
    return memory
  }
}

export class SystemEvents extends Context.Service<SystemEvents, SystemEventsService>()(
  "@ironflow/node/Engine/SystemEvents"
) {}

/**
 * The layer of {@link SystemEvents}. It announces the activity of runs; the other parts of the engine announce their own events.
 */
export const layer: Layer.Layer<SystemEvents, never, Store> = Layer.effect(
  SystemEvents,
  Effect.gen(function* () {
    const store = yield* Store
    const clock = yield* Clock.Clock
    const { announce: tell, node } = store
    const system = new SystemEventsService(
      () => clock.currentTimeMillisUnsafe(),
      tell === undefined || node === undefined ? undefined : { node, tell }
    )
    const stop = store.onCommit(
      ({ activity, announced, stale }) => {
        system.announceRuns(activity)
        for (const one of announced) system.announceFromOther(one)
        if (stale.has("announced")) system.noteMissed()
      },
      { activity: "runs" }
    )
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    return system
  })
)

/** Drops events, so that only the last ones remain, with at most `most` characters. */
const dropOldEvents = (memory: RememberedEvents, most: number): void => {
  let first = Math.max(0, memory.events.length - MAX_REMEMBERED_EVENTS)
  const lengthOf = (events: ReadonlyArray<SystemEvent>) => events.reduce((sum, { length }) => sum + length, 0)
  let length = lengthOf(memory.events.slice(first))
  while (length > most && first < memory.events.length) {
    length -= memory.events[first++]!.length
  }
  memory.lastDropped = memory.events[first - 1]?.sequence ?? memory.lastDropped
  memory.events = memory.events.slice(first)
  memory.length = length
}

/** Drops newest values, so that only the last ones remain, with at most `most` characters. */
const dropOldValues = (memory: RememberedEvents, most: number): void => {
  for (const [oldest, { length, sequence }] of memory.newest) {
    if (memory.newest.size <= MAX_REMEMBERED_EVENTS && memory.newestLength <= most) break
    memory.newest.delete(oldest)
    memory.newestLength -= length
    memory.lastDroppedNewest = sequence
  }
}

type Fields = { readonly [name: string]: unknown }

interface Announcement {
  /** The id that another engine has given the event; absent for an event of this engine. */
  readonly id?: string
  readonly topic: string
  /** Builds the JSON text. */
  readonly data: () => string
  readonly access?: EventAccess
}

/** A kept event. Every run causes some events, of which hardly any are read, so an event is built only when it is read. */
class RememberedEvent implements SystemEvent {
  readonly sequence: number
  readonly timestamp: number
  readonly length: number
  readonly epoch: string
  readonly source: Announcement | RunActivity
  #data: string | undefined

  constructor(
    epoch: string,
    sequence: number,
    timestamp: number,
    source: Announcement | RunActivity,
    length: number
  ) {
    this.epoch = epoch
    this.sequence = sequence
    this.timestamp = timestamp
    this.source = source
    this.length = length
  }

  get id(): string {
    const { source } = this
    return ("topic" in source ? source.id : undefined) ?? `sys_${this.epoch}_${this.sequence}`
  }

  get topic(): string {
    const { source } = this
    return "topic" in source ? source.topic : `system.run.${source.runId}.${describe(source)[0]}`
  }

  get access(): EventAccess | undefined {
    const { source } = this
    if ("topic" in source) return source.access
    const event = receivedEventOf(source)
    return {
      action: "run:read",
      resource: `run:${source.runId}`,
      ...(event === undefined ? {} : { event })
    }
  }

  get data(): string {
    const { source } = this
    return (this.#data ??=
      "topic" in source
        ? source.data()
        : JSON.stringify({ id: source.runId, functionId: source.functionId, ...describe(source)[1]() }))
  }
}

/** The name of the event that a step has received by `waitForEvent`, if any. */
const receivedEventOf = (one: RunActivity): string | undefined => {
  if (one._tag !== "StepEnded" || one.kind !== "waitForEvent" || one.outcome._tag !== "Success")
    return undefined
  const event = one.outcome.value === undefined ? undefined : decodeJson(one.outcome.value)
  return isObject(event) && typeof event.name === "string" ? event.name : undefined
}

const describe = (one: RunActivity): readonly [string, () => Fields] => {
  switch (one._tag) {
    case "RunStarted":
      return [
        "created",
        () => ({
          status: "pending",
          ...(one.forkedFrom === undefined ? {} : { forkedFrom: one.forkedFrom.runId })
        })
      ]
    case "RunEnded":
      return [one.status, () => ({ status: one.status, ...result(one.outcome) })]
    case "RunFailed":
      return ["updated", () => ({ status: "pending", ...result({ _tag: "Failure", error: one.error }) })]
    case "RunPaused":
      return ["updated", () => ({ status: "paused", reason: one.message })]
    case "RunResumed":
      return ["resumed", () => ({ status: "pending" })]
    case "RunRetried":
      return ["updated", () => ({ status: "pending" })]
    case "StepEnded":
      return step(one.name, one.outcome._tag === "Success" ? "completed" : "failed", () =>
        result(one.outcome)
      )
    case "StepFailed":
      return step(one.name, "retrying", () => result({ _tag: "Failure", error: one.error }))
    case "StepPatched":
      return step(one.name, "patched", () => ({ reason: one.reason }))
  }
}

const step = (name: string, status: string, data: () => Fields) =>
  [`step.${name}.${status}`, () => ({ name, status, ...data() })] as const

const result = (outcome: Outcome): Fields => {
  if (outcome._tag === "Success") {
    return outcome.value === undefined ? {} : { output: plainResult(outcome.value) }
  }
  const { code, message } = outcome.error
  return { error: { message, ...(code === undefined ? {} : { code }) } }
}
