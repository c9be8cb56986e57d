/**
 * The registry: the functions that the engine knows, in memory. It decides without a query which functions an event starts. The
 * store fills the registry at the start, and updates it after every commit of a registration.
 */
import { sharedGetters } from "../../SharedGetters.ts"
import { TRACEPARENT } from "../../Trace.ts"
import type { FunctionChange } from "../Store/Changes.ts"
import { defineCache } from "../Store/Cache.ts"
import type { EventEntity } from "../../Event.ts"
import { decodeJson, type JsonText } from "../../Json.ts"
import { readPath } from "../../DataPath.ts"
import { failureHandlerId, failingFunctionId } from "../../OnFailure.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { matchesPattern } from "../../Pattern.ts"
import { addEventBudget } from "../../ExpressionBudget.ts"
import { matchTriggers } from "../../Trigger.ts"

/** An event as triggers, match paths and expressions see it. `data` and `metadata` are parsed on first use. */
export interface EventView {
  readonly id: string
  readonly name: string
  readonly version: number
  readonly data: unknown
  readonly metadata: unknown
  /** ISO string. */
  readonly timestamp: string
  readonly source: string | undefined
  readonly entity: EventEntity | undefined
  /** The event as JSON, as a wait delivers it. */
  readonly toText: () => JsonText
}

interface StoredEvent {
  readonly id: string
  readonly name: string
  readonly version: number
  readonly data: JsonText
  readonly metadata?: JsonText
  readonly timestamp: number
  readonly source?: string
  readonly entity?: EventEntity
  readonly trace?: string
}

export const eventView = (event: StoredEvent): EventView => {
  const { entity, id, name, source, version } = event
  return withParsed({ id, name, version, source, entity, toText: () => textOf(event) }, { event })
}

const withParsed = sharedGetters<
  { readonly event: StoredEvent; data?: { readonly value: unknown }; metadata?: { readonly value: unknown } },
  Pick<EventView, "data" | "metadata" | "timestamp">
>({
  data: (from) => (from.data ??= { value: decodeJson(from.event.data) }).value,
  metadata: (from) => (from.metadata ??= { value: decodeJson(from.event.metadata) }).value,
  timestamp: ({ event }) => new Date(event.timestamp).toISOString()
})

const textOf = (event: StoredEvent): JsonText =>
  `{"id":${JSON.stringify(event.id)},"name":${JSON.stringify(event.name)},"version":${event.version},"data":${event.data}` +
  (event.metadata === undefined ? "" : `,"metadata":${event.metadata}`) +
  (event.source === undefined ? "" : `,"source":${JSON.stringify(event.source)}`) +
  (event.entity === undefined ? "" : `,"entity":${JSON.stringify(event.entity)}`) +
  (event.trace === undefined ? "" : `,"${TRACEPARENT}":${JSON.stringify(event.trace)}`) +
  `,"timestamp":"${new Date(event.timestamp).toISOString()}"}`

/** A function with its key in the database. */
export interface RegisteredFunction extends FunctionChange {
  readonly key: number
}

interface MatchResult {
  readonly functions: ReadonlyArray<RegisteredFunction>
  /** Descriptions of the expressions that failed for this event. A failed expression counts as no match. */
  readonly warnings: ReadonlyArray<string>
}

/** Maximum number of warnings for one event. Further ones are dropped. */
const MAX_WARNINGS = 100

/** For how many event names the candidates are cached. */
const MAX_CACHED_NAMES = 10_000

class Registry {
  readonly #byKey = new Map<number, RegisteredFunction>()
  readonly #byId = new Map<string, Map<string, RegisteredFunction>>()
  /** The functions that have a trigger for a name, whatever its expression, by environment and event name. */
  readonly #candidates = new Map<string, ReadonlyArray<RegisteredFunction>>()

  /** The functions with a trigger for system events, by environment. */
  readonly #systemListeners = new Map<string, ReadonlyArray<RegisteredFunction>>()

  /** Whether any function has, or has had, an audit record of its runs. */
  hasRecorded = false

  put(fn: RegisteredFunction): void {
    if (fn.registration.recording === true) this.hasRecorded = true
    this.#byKey.set(fn.key, fn)
    let functions = this.#byId.get(fn.environment)
    if (functions === undefined) this.#byId.set(fn.environment, (functions = new Map()))
    functions.set(fn.registration.id, fn)
    this.#candidates.clear()
    this.#systemListeners.clear()
  }

  /** The function with this id, even if it was deleted. */
  get(environment: string, id: string): RegisteredFunction | undefined {
    return this.#byId.get(environment)?.get(id)
  }

  byKey(key: number): RegisteredFunction | undefined {
    return this.#byKey.get(key)
  }

  /** The functions of every environment, including deleted ones, in the order in which they were first registered. */
  all(): ReadonlyArray<RegisteredFunction> {
    return [...this.#byKey.values()]
  }

  /** The functions of an environment, in the order in which they were first registered. */
  list(environment: string): ReadonlyArray<RegisteredFunction> {
    return [...(this.#byId.get(environment)?.values() ?? [])].filter(({ deleted }) => deleted !== true)
  }

  /**
   * The functions that an event starts. Each is there once, however many of its triggers match. `firing` is the function whose cron
   * trigger has fired the event. Such an event starts that function, and no other function by a cron trigger, even if the event
   * name is the same.
   */
  match(environment: string, event: EventView, firing?: RegisteredFunction): MatchResult {
    const candidates = this.#candidatesFor(environment, event.name)
    if (candidates.length === 0 && firing === undefined) return { functions: [], warnings: [] }
    if (firing === undefined) return functionsStartedBy(candidates, (triggers) => triggers, event)
    const otherCandidates = candidates.filter((fn) => fn !== firing)
    const { functions, warnings } = functionsStartedBy(
      otherCandidates,
      (triggers) => triggers.filter(({ cron }) => cron === undefined),
      event
    )
    return { functions: [firing, ...functions], warnings }
  }

  /** The failure handler of a function, unless it was deleted. */
  failureHandlerOf(environment: string, functionId: string): RegisteredFunction | undefined {
    const fn = this.get(environment, failureHandlerId(functionId))
    if (fn === undefined || fn.deleted === true) return undefined
    return failingFunctionId(fn.registration) === functionId ? fn : undefined
  }

  /** Whether a function of the environment has a trigger for system events. */
  hasSystemListeners(environment: string): boolean {
    return this.#systemListenersOf(environment).length > 0
  }

  /** The functions that a system event starts, except failure handlers. */
  matchSystem(environment: string, event: EventView): MatchResult {
    return functionsStartedBy(
      this.#systemListenersOf(environment),
      (triggers) => triggers.filter(isForSystemEvents),
      event
    )
  }

  #systemListenersOf(environment: string): ReadonlyArray<RegisteredFunction> {
    let listeners = this.#systemListeners.get(environment)
    if (listeners === undefined) {
      listeners = this.list(environment).filter(
        ({ registration }) =>
          registration.triggers.some(isForSystemEvents) && failingFunctionId(registration) === undefined
      )
      this.#systemListeners.set(environment, listeners)
    }
    return listeners
  }

  /** How many functions listen for events of the name: an event can start at most this many runs. */
  countListeners(environment: string, name: string): number {
    return this.#candidatesFor(environment, name).length
  }

  #candidatesFor(environment: string, name: string): ReadonlyArray<RegisteredFunction> {
    const key = `${environment}\n${name}`
    let candidates = this.#candidates.get(key)
    if (candidates === undefined) {
      candidates = this.list(environment).filter(
        ({ registration }) =>
          registration.triggers.some(({ event }) => event !== undefined && matchesPattern(event, name)) &&
          // failure handlers are started only by failures, whatever is emitted under that name
          failingFunctionId(registration) === undefined
      )
      if (this.#candidates.size >= MAX_CACHED_NAMES) this.#candidates.clear()
      this.#candidates.set(key, candidates)
    }
    return candidates
  }
}

/** The functions that an event starts by a trigger. Of the triggers of a function, only those count that `select` returns. */
const functionsStartedBy = (
  candidates: ReadonlyArray<RegisteredFunction>,
  select: (triggers: FunctionRegistration["triggers"]) => FunctionRegistration["triggers"],
  event: EventView
): MatchResult => {
  const functions: Array<RegisteredFunction> = []
  const warnings: Array<string> = []
  addEventBudget()
  for (const fn of candidates) {
    const { id, triggers } = fn.registration
    const verdict = matchTriggers(select(triggers), event)
    if (verdict.matched) functions.push(fn)
    for (const error of verdict.errors) {
      if (warnings.length < MAX_WARNINGS)
        warnings.push(`one of the triggers of function "${id}" does not match, because of an error: ${error}`)
    }
  }
  return { functions, warnings }
}

/** Whether a trigger is for system events. A trigger for all events is not. */
const isForSystemEvents = ({ event }: { readonly event?: string }): boolean =>
  event?.startsWith("system.") === true

/**
 * The concurrency key of a run: the JSON of the value at the function's `concurrency.key`; `""` if one limit holds for all runs;
 * `undefined` without a limit.
 */
export const concurrencyKey = (registration: FunctionRegistration, event: EventView): string | undefined => {
  const { concurrency } = registration
  if (concurrency === undefined) return undefined
  if (concurrency.key === undefined) return ""
  return JSON.stringify(readPath({ event }, concurrency.key) ?? null)
}

/** The actor of a run: the JSON of the value at the function's `actorKey`. A run without a value there has no actor. */
export const actorOf = (registration: FunctionRegistration, event: EventView): string | undefined => {
  if (registration.actorKey === undefined) return undefined
  const value = readPath({ event }, registration.actorKey)
  return value === undefined || value === null ? undefined : JSON.stringify(value)
}

/** Whether a worker with these labels may run the function. `metadata.requires` names the required labels and their values. */
export const acceptsLabels = (
  registration: FunctionRegistration,
  labels: { readonly [key: string]: string }
): boolean => {
  const requires = registration.metadata?.requires
  if (requires === null || typeof requires !== "object") return true
  return Object.entries(requires).every(
    // labels are strings: a value that is not a string, number or boolean equals no label
    ([name, value]) => typeof value !== "object" && labels[name] === String(value)
  )
}

/** The functions of an open database. */
export const registryOf = defineCache({ make: () => new Registry(), isShared: true })
