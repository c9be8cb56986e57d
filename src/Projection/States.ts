/**
 * The states of a managed projection in its worker: the saved states, and the events that were folded since.
 *
 * A handler must receive each state as if it had passed through JSON. Whether it did is checked when a batch
 * is saved. If a state is not plain data by then, the batch is folded again with a JSON round trip after
 * every event (`careful`). This also finds the event whose state cannot be stored. A handler that throws may
 * have changed its state, so the partition is folded again from the saved state.
 */
import * as Effect from "effect/Effect"
import { ValidationError } from "../Errors.ts"
import { byteLength, encodeJson } from "../Json.ts"
import { checkSize, projectionStateBytes } from "../Limits.ts"
import type { NewPartitionState, PartitionState, ProjectionLogEvent } from "../Protocol/ProjectionOwners.ts"
import { type CallContext, Failed, type ProjectionHandler } from "./ProjectionHandler.ts"
import type { ProjectionEvent } from "./Projection.ts"

/** Maximum number of partitions whose states are kept in memory between batches. */
const REMEMBERED = 1000

interface Live {
  readonly partition: string
  /** The saved state as JSON; absent before the first save. */
  base: string | undefined
  /** Position of the last event in `base`. */
  position: number
  value: unknown
  /** Whether `value` is current. If not, it is made from `base` and `folded` when it is next used. */
  isFresh: boolean
  /** Events that were folded since `base`. */
  folded: Array<ProjectionLogEvent>
  /** The last event since `base`, dead letters included. */
  last: ProjectionLogEvent | undefined
}

export class States {
  readonly #handling: ProjectionHandler
  readonly #name: string
  /** By partition, in the order of their last use, the oldest first. */
  readonly #live = new Map<string, Live>()
  #latest: Live | undefined
  readonly #signal: AbortSignal
  /** Whether each state makes a JSON round trip after every event. */
  careful = false

  constructor(handling: ProjectionHandler, signal: AbortSignal) {
    this.#handling = handling
    this.#name = handling.registration.name
    this.#signal = signal
  }

  /** The partitions whose states are not in memory, and must be read first. */
  missing(partitions: Iterable<string>): Array<string> {
    return [...new Set(partitions)].filter((partition) => !this.#live.has(partition))
  }

  remember(states: ReadonlyArray<PartitionState>): void {
    this.#latest = undefined
    for (const { partition, position, state } of states) {
      this.#live.set(partition, {
        partition,
        base: state,
        position,
        value: undefined,
        isFresh: false,
        folded: [],
        last: undefined
      })
    }
  }

  /** Whether the state of the partition already includes the event. */
  has(partition: string, event: ProjectionLogEvent): boolean {
    return event.position <= (this.#live.get(partition)?.position ?? 0)
  }

  /**
   * Folds an event into the state of its partition. Returns the failure if that fails. User code must not
   * have seen `decoded` before.
   */
  fold(
    partition: string,
    event: ProjectionLogEvent,
    attempt: number,
    decoded?: ProjectionEvent
  ): Effect.Effect<Failed | undefined> | Failed | undefined {
    const live = this.#of(partition)
    const context = { attempt, partition, signal: this.#signal }
    const applied = this.#apply(live, event, context, decoded)
    const settle = (failed: Failed | undefined): Failed | undefined => {
      if (failed === undefined) {
        live.folded.push(event)
        live.last = event
      } else {
        live.isFresh = false
      }
      return failed
    }
    return Effect.isEffect(applied) ? Effect.map(applied, settle) : settle(applied)
  }

  /** Skips a dead letter: it counts as done and changes nothing. */
  skip(partition: string, event: ProjectionLogEvent): void {
    this.#of(partition).last = event
  }

  /** Folds the partitions again whose states a failure has spoiled. Runs before {@link changed}. */
  readonly prepare: Effect.Effect<Failed | undefined> = Effect.suspend(() => {
    const stale = [...this.#live.values()].filter(({ isFresh, last }) => last !== undefined && !isFresh)
    return Effect.reduce(
      stale,
      () => undefined as Failed | undefined,
      (failed, live) => {
        const restored =
          failed ?? this.#restore(live, { attempt: 1, partition: live.partition, signal: this.#signal })
        return Effect.isEffect(restored) ? restored : Effect.succeed(restored)
      }
    )
  })

  /**
   * The changed states, which are to be saved. `undefined` when the batch must be folded again with round
   * trips.
   */
  changed(): { readonly states: ReadonlyArray<NewPartitionState>; readonly bytes: number } | undefined {
    const states: Array<NewPartitionState> = []
    let bytes = 0
    for (const live of this.#live.values()) {
      const { last, partition } = live
      if (last === undefined) continue
      const state = this.#encoded(live)
      if (state === undefined) return undefined
      bytes += byteLength(state)
      states.push({
        partition,
        state,
        position: Math.max(last.position, live.position),
        eventId: last.id,
        eventTime: last.timestamp
      })
    }
    return { states, bytes }
  }

  /** Notes that the states which {@link changed} returned were saved. */
  saved(states: ReadonlyArray<NewPartitionState>): void {
    for (const { partition, position, state } of states) {
      const live = this.#of(partition)
      live.base = state
      live.position = position
      live.folded = []
      live.last = undefined
    }
    for (const partition of this.#live.keys()) {
      if (this.#live.size <= REMEMBERED) break
      this.#live.delete(partition)
      if (this.#latest?.partition === partition) this.#latest = undefined
    }
  }

  /** Forgets everything that is not saved. */
  reset(): void {
    for (const live of this.#live.values()) {
      if (live.last === undefined) continue
      live.isFresh = false
      live.folded = []
      live.last = undefined
    }
  }

  #of(partition: string): Live {
    const live = this.#latest?.partition === partition ? this.#latest : this.#live.get(partition)
    if (live === undefined) throw new Error(`the state of partition "${partition}" was not read`)
    if (live !== this.#latest) {
      // moves it to the end of the map: the first ones are forgotten first
      this.#live.delete(partition)
      this.#live.set(partition, live)
      this.#latest = live
    }
    return live
  }

  #apply(
    live: Live,
    event: ProjectionLogEvent,
    context: CallContext,
    decoded: ProjectionEvent | undefined
  ): Effect.Effect<Failed | undefined> | Failed | undefined {
    if (!live.isFresh) {
      const restored = this.#restore(live, context)
      if (Effect.isEffect(restored)) {
        return Effect.flatMap(restored, (failed) => {
          const applied = failed ?? this.#applyOne(live, event, context, decoded)
          return Effect.isEffect(applied) ? applied : Effect.succeed(applied)
        })
      }
      if (restored !== undefined) return restored
    }
    return this.#applyOne(live, event, context, decoded)
  }

  /** Makes `value` from the saved state and the events that were folded since. */
  #restore(live: Live, context: CallContext): Effect.Effect<Failed | undefined> | Failed | undefined {
    try {
      live.value = live.base === undefined ? this.#first() : JSON.parse(live.base)
    } catch (error) {
      return new Failed(error)
    }
    live.isFresh = true
    const { folded } = live
    const from = (i: number): Effect.Effect<Failed | undefined> | Failed | undefined => {
      for (let at = i; at < folded.length; at++) {
        const applied = this.#applyOne(live, folded[at]!, context)
        if (Effect.isEffect(applied)) {
          return Effect.flatMap(applied, (failed) => {
            const rest = failed ?? from(at + 1)
            return Effect.isEffect(rest) ? rest : Effect.succeed(rest)
          })
        }
        if (applied !== undefined) return applied
      }
      return undefined
    }
    return from(0)
  }

  #first(): unknown {
    const state = this.#handling.initialState()
    return JSON.parse(encodeState(this.#name, state))
  }

  #applyOne(
    live: Live,
    event: ProjectionLogEvent,
    context: CallContext,
    decoded = this.#decode(event)
  ): Effect.Effect<Failed | undefined> | Failed | undefined {
    if (decoded instanceof Failed) return decoded
    try {
      const next = this.#handling.reduce(live.value, decoded, context)
      return Effect.isEffect(next)
        ? Effect.map(next as Effect.Effect<unknown | Failed>, (result) => this.#accept(live, result))
        : this.#accept(live, next)
    } catch (error) {
      return new Failed(error)
    }
  }

  #decode(event: ProjectionLogEvent): ProjectionEvent | Failed {
    try {
      return this.#handling.decode(event)
    } catch (error) {
      return new Failed(error)
    }
  }

  #accept(live: Live, next: unknown): Failed | undefined {
    if (next instanceof Failed) return next
    if (next === undefined) {
      return new Failed(
        new ValidationError(
          `Projection "${this.#name}": the handler returned undefined. Return the next state`
        )
      )
    }
    if (!this.careful) {
      live.value = next
      return undefined
    }
    try {
      live.value = JSON.parse(encodeState(this.#name, next))
      return undefined
    } catch (error) {
      return new Failed(error)
    }
  }

  /** The state as JSON. `undefined` when the state cannot be stored, or when JSON would change it. */
  #encoded(live: Live): string | undefined {
    if (!this.careful && !isPlain(live.value, 0)) return undefined
    try {
      return encodeState(this.#name, live.value)
    } catch (error) {
      if (this.careful) throw error
      return undefined
    }
  }
}

/** The state as JSON text. Throws `ValidationError` when it cannot be stored. */
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
