/**
 * The states of a managed projection in its worker: the saved states, and the events that were folded since.
 *
 * A handler must receive each state as if the state had passed through JSON. Plain data does not change in JSON, so
 * it is enough to check, when a batch is saved, that each state is plain data. If one is not, the batch is folded
 * again with a JSON round trip after every event (`checksEveryState`). This also finds the event whose state cannot be
 * stored. A handler that throws may have changed its state, so the partition is folded again from the saved state.
 */
import * as Effect from "effect/Effect"
import { ValidationError } from "../Errors.ts"
import { byteLength, encodeJson } from "../Json.ts"
import { checkSize, projectionStateBytes } from "../Limits.ts"
import type { NewPartitionState, PartitionState, ProjectionLogEvent } from "../Protocol/ProjectionOwners.ts"
import { type CallContext, EventFailure, type ProjectionHandler } from "./ProjectionHandler.ts"
import type { ProjectionEvent } from "./Projection.ts"

/** Maximum number of partitions whose states are kept in memory between batches. */
const MAX_REMEMBERED = 1000

interface LoadedState {
  readonly partition: string
  /** The saved state as JSON; absent before the first save. */
  savedJson: string | undefined
  /** Position of the last event in `savedJson`. */
  savedPosition: number
  value: unknown
  /** Whether `value` is current. If not, `value` is made from `savedJson` and `foldedEvents` when it is next used. */
  isFresh: boolean
  /** Events that were folded since `savedJson`. */
  foldedEvents: Array<ProjectionLogEvent>
  /** The last event since `savedJson`, dead letters included. */
  lastEvent: ProjectionLogEvent | undefined
}

export class States {
  readonly #projectionHandler: ProjectionHandler
  readonly #name: string
  /** By partition, in the order of their last use, the oldest first. */
  readonly #loadedStates = new Map<string, LoadedState>()
  #lastUsed: LoadedState | undefined
  readonly #signal: AbortSignal
  /** Whether each state makes a JSON round trip after every event. */
  checksEveryState = false

  constructor(projectionHandler: ProjectionHandler, signal: AbortSignal) {
    this.#projectionHandler = projectionHandler
    this.#name = projectionHandler.registration.name
    this.#signal = signal
  }

  /** The partitions whose states are not in memory, and must be read first. */
  partitionsToRead(partitions: Iterable<string>): Array<string> {
    return [...new Set(partitions)].filter((partition) => !this.#loadedStates.has(partition))
  }

  remember(states: ReadonlyArray<PartitionState>): void {
    this.#lastUsed = undefined
    for (const { partition, position, state } of states) {
      this.#loadedStates.set(partition, {
        partition,
        savedJson: state,
        savedPosition: position,
        value: undefined,
        isFresh: false,
        foldedEvents: [],
        lastEvent: undefined
      })
    }
  }

  /** Whether the state of the partition already includes the event. */
  has(partition: string, event: ProjectionLogEvent): boolean {
    return event.position <= (this.#loadedStates.get(partition)?.savedPosition ?? 0)
  }

  /**
   * Folds an event into the state of its partition. Returns the failure, or `undefined` when the event was folded. User
   * code must not have received `decoded` before, since that code may have changed `decoded`.
   */
  fold(
    partition: string,
    event: ProjectionLogEvent,
    attempt: number,
    decoded?: ProjectionEvent
  ): Effect.Effect<EventFailure | undefined> | EventFailure | undefined {
    const loaded = this.#loadedStateOf(partition)
    const context = { attempt, partition, signal: this.#signal }
    const applied = this.#apply(loaded, event, context, decoded)
    const settle = (failure: EventFailure | undefined): EventFailure | undefined => {
      if (failure === undefined) {
        loaded.foldedEvents.push(event)
        loaded.lastEvent = event
      } else {
        loaded.isFresh = false
      }
      return failure
    }
    return Effect.isEffect(applied) ? Effect.map(applied, settle) : settle(applied)
  }

  /** Skips a dead letter: it counts as done and changes nothing. */
  skip(partition: string, event: ProjectionLogEvent): void {
    this.#loadedStateOf(partition).lastEvent = event
  }

  /** Folds again each partition whose state a failed handler may have changed. Runs before {@link changedStates}. */
  readonly prepare: Effect.Effect<EventFailure | undefined> = Effect.suspend(() => {
    const staleStates = [...this.#loadedStates.values()].filter(
      ({ isFresh, lastEvent }) => lastEvent !== undefined && !isFresh
    )
    return Effect.reduce(
      staleStates,
      () => undefined as EventFailure | undefined,
      (failure, loaded) => {
        const restored =
          failure ?? this.#restore(loaded, { attempt: 1, partition: loaded.partition, signal: this.#signal })
        return Effect.isEffect(restored) ? restored : Effect.succeed(restored)
      }
    )
  })

  /**
   * The changed states, which are to be saved. `undefined` when the batch must be folded again with JSON round trips,
   * see {@link checksEveryState}.
   */
  changedStates(): { readonly states: ReadonlyArray<NewPartitionState>; readonly bytes: number } | undefined {
    const states: Array<NewPartitionState> = []
    let bytes = 0
    for (const loaded of this.#loadedStates.values()) {
      const { lastEvent, partition } = loaded
      if (lastEvent === undefined) continue
      const state = this.#encode(loaded)
      if (state === undefined) return undefined
      bytes += byteLength(state)
      states.push({
        partition,
        state,
        position: Math.max(lastEvent.position, loaded.savedPosition),
        eventId: lastEvent.id,
        eventTime: lastEvent.timestamp
      })
    }
    return { states, bytes }
  }

  /** Notes that the states which {@link changedStates} returned were saved. */
  markSaved(states: ReadonlyArray<NewPartitionState>): void {
    for (const { partition, position, state } of states) {
      const loaded = this.#loadedStateOf(partition)
      loaded.savedJson = state
      loaded.savedPosition = position
      loaded.foldedEvents = []
      loaded.lastEvent = undefined
    }
    for (const partition of this.#loadedStates.keys()) {
      if (this.#loadedStates.size <= MAX_REMEMBERED) break
      this.#loadedStates.delete(partition)
      if (this.#lastUsed?.partition === partition) this.#lastUsed = undefined
    }
  }

  /** Forgets everything that is not saved. */
  reset(): void {
    for (const loaded of this.#loadedStates.values()) {
      if (loaded.lastEvent === undefined) continue
      loaded.isFresh = false
      loaded.foldedEvents = []
      loaded.lastEvent = undefined
    }
  }

  #loadedStateOf(partition: string): LoadedState {
    const loaded =
      this.#lastUsed?.partition === partition ? this.#lastUsed : this.#loadedStates.get(partition)
    if (loaded === undefined) throw new Error(`the state of partition "${partition}" was not read`)
    if (loaded !== this.#lastUsed) {
      // moves the partition to the end of the map: the partitions at its start are forgotten first
      this.#loadedStates.delete(partition)
      this.#loadedStates.set(partition, loaded)
      this.#lastUsed = loaded
    }
    return loaded
  }

  #apply(
    loaded: LoadedState,
    event: ProjectionLogEvent,
    context: CallContext,
    decoded: ProjectionEvent | undefined
  ): Effect.Effect<EventFailure | undefined> | EventFailure | undefined {
    if (!loaded.isFresh) {
      const restored = this.#restore(loaded, context)
      if (Effect.isEffect(restored)) {
        return Effect.flatMap(restored, (failure) => {
          const applied = failure ?? this.#applyOne(loaded, event, context, decoded)
          return Effect.isEffect(applied) ? applied : Effect.succeed(applied)
        })
      }
      if (restored !== undefined) return restored
    }
    return this.#applyOne(loaded, event, context, decoded)
  }

  /** Makes `value` from the saved state and the events that were folded since. */
  #restore(
    loaded: LoadedState,
    context: CallContext
  ): Effect.Effect<EventFailure | undefined> | EventFailure | undefined {
    try {
      loaded.value = loaded.savedJson === undefined ? this.#firstState() : JSON.parse(loaded.savedJson)
    } catch (error) {
      return new EventFailure(error)
    }
    loaded.isFresh = true
    const { foldedEvents } = loaded
    const foldFrom = (i: number): Effect.Effect<EventFailure | undefined> | EventFailure | undefined => {
      for (let at = i; at < foldedEvents.length; at++) {
        const applied = this.#applyOne(loaded, foldedEvents[at]!, context)
        if (Effect.isEffect(applied)) {
          return Effect.flatMap(applied, (failure) => {
            const rest = failure ?? foldFrom(at + 1)
            return Effect.isEffect(rest) ? rest : Effect.succeed(rest)
          })
        }
        if (applied !== undefined) return applied
      }
      return undefined
    }
    return foldFrom(0)
  }

  #firstState(): unknown {
    const state = this.#projectionHandler.initialState()
    return JSON.parse(encodeState(this.#name, state))
  }

  #applyOne(
    loaded: LoadedState,
    event: ProjectionLogEvent,
    context: CallContext,
    decoded = this.#decode(event)
  ): Effect.Effect<EventFailure | undefined> | EventFailure | undefined {
    if (decoded instanceof EventFailure) return decoded
    try {
      const next = this.#projectionHandler.reduce(loaded.value, decoded, context)
      return Effect.isEffect(next)
        ? Effect.map(next as Effect.Effect<unknown | EventFailure>, (result) => this.#accept(loaded, result))
        : this.#accept(loaded, next)
    } catch (error) {
      return new EventFailure(error)
    }
  }

  #decode(event: ProjectionLogEvent): ProjectionEvent | EventFailure {
    try {
      return this.#projectionHandler.decode(event)
    } catch (error) {
      return new EventFailure(error)
    }
  }

  #accept(loaded: LoadedState, next: unknown): EventFailure | undefined {
    if (next instanceof EventFailure) return next
    if (next === undefined) {
      return new EventFailure(
        new ValidationError(
          `Projection "${this.#name}": the handler returned undefined. Return the next state`
        )
      )
    }
    if (!this.checksEveryState) {
      loaded.value = next
      return undefined
    }
    try {
      loaded.value = JSON.parse(encodeState(this.#name, next))
      return undefined
    } catch (error) {
      return new EventFailure(error)
    }
  }

  /** The state as JSON. `undefined` when the state cannot be stored, or when JSON would change it. */
  #encode(loaded: LoadedState): string | undefined {
    if (!this.checksEveryState && !isPlain(loaded.value, 0)) return undefined
    try {
      return encodeState(this.#name, loaded.value)
    } catch (error) {
      if (this.checksEveryState) throw error
      return undefined
    }
  }
}

/** The state as JSON text. Throws `ValidationError` when the state cannot be stored. */
export const encodeState = (name: string, state: unknown): string => {
  const what = `State of projection "${name}"`
  const text = encodeJson(state, what)
  if (text === undefined) throw new ValidationError(`${what} must not be undefined`)
  return checkSize(what, text, projectionStateBytes)
}

/**
 * Whether the value stays the same in a JSON round trip: it has no dates, class instances, `undefined`,
 * `NaN`, or values that JSON cannot hold.
 */
const isPlain = (value: unknown, depth: number): boolean => {
  switch (typeof value) {
    case "string":
    case "boolean":
      return true
    case "number":
      return Number.isFinite(value) && !Object.is(value, -0)
    case "object":
      break
    default:
      return false
  }
  if (value === null) return true
  if (depth > 100) return false
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) if (!isPlain(value[i], depth + 1)) return false
    return true
  }
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) return false
  for (const key of Object.keys(value)) {
    if (!isPlain((value as { readonly [key: string]: unknown })[key], depth + 1)) return false
  }
  return Object.getOwnPropertySymbols(value).length === 0
}
