/** Upcasting: data of an event as it was stored, brought to a later version when it is read. */
import { isErased } from "./Erased.ts"
import { ValidationError } from "./Errors.ts"
import { defineEvent, type EventDefinition, type UpcasterFn } from "./Event.ts"

/** Upcasters by event and version. */
export interface UpcasterRegistry {
  /**
   * Says how data of version `from` becomes data of version `to`. A second entry for the same `from` replaces the first.
   *
   * ```ts
   * createUpcasterRegistry().register("order.placed", 1, 2, (data) => ({ currency: "EUR", ...(data as object) }))
   * ```
   */
  register(event: string, from: number, to: number, upcast: UpcasterFn): void
  /**
   * The data brought from version `from` to version `to`; unchanged when `from` is not lower. Throws when an upcaster
   * on the way is missing; what an upcaster throws goes through.
   *
   * ```ts
   * const upcasters = createUpcasterRegistry()
   * upcasters.register("order.placed", 1, 2, (data) => ({ currency: "EUR", ...(data as object) }))
   * upcasters.upcast("order.placed", { orderId: "o-1" }, 1, 2) // { currency: "EUR", orderId: "o-1" }
   * ```
   */
  upcast(event: string, data: unknown, from: number, to: number): unknown
  /** The highest version that any entry of the event mentions. */
  getLatestVersion(event: string): number | undefined
}

/** Event definitions, and the way from each version to the latest. */
export interface EventDefinitionRegistry {
  /** Adds a definition. The versions of an event have to be registered without gaps. */
  register(definition: EventDefinition): void
  /**
   * The data brought to the latest version registered; unchanged when it is that, or none is known.
   *
   * ```ts
   * const definitions = createEventDefinitionRegistry()
   * definitions.register(defineEvent({ name: "order.placed", version: 1 }))
   * definitions.upcastEvent("order.placed", { orderId: "o-1" }, 1)
   * ```
   */
  upcastEvent(event: string, data: unknown, from: number): unknown
  /** The highest version registered. */
  getLatestVersion(event: string): number | undefined
}

interface Entry {
  readonly to: number
  readonly upcast: UpcasterFn
}

/** A registry of functions that make data of a version from data of an earlier one. */
export const createUpcasterRegistry = (): UpcasterRegistry => {
  const entries = new Map<string, Map<number, Entry>>()

  return {
    register(event, from, to, upcast) {
      if (!isVersion(from) || !isVersion(to) || to <= from) {
        throw new ValidationError(
          `Upcaster of event "${event}": versions must be integers of at least 1 and go up, got v${from} to v${to}`
        )
      }
      if (typeof upcast !== "function") {
        throw new ValidationError(`Upcaster of event "${event}" v${from} to v${to} must be a function`)
      }
      const versions = entries.get(event) ?? new Map<number, Entry>()
      versions.set(from, { to, upcast })
      entries.set(event, versions)
    },

    upcast(event, data, from, to) {
      // the mark is the same for every version
      if (isErased(data)) return data
      const versions = entries.get(event)
      let current = from
      let upcasted = data
      while (current < to) {
        const entry = versions?.get(current)
        if (entry === undefined || entry.to > to) throw incomplete(event, current, from, to)
        upcasted = entry.upcast(upcasted)
        current = entry.to
      }
      return upcasted
    },

    getLatestVersion(event) {
      let latest: number | undefined
      for (const [from, { to }] of entries.get(event) ?? []) latest = Math.max(latest ?? 0, from, to)
      return latest
    }
  }
}

/** A registry of event definitions, for `eventDefinitions` of clients, workers, engines and handlers. */
export const createEventDefinitionRegistry = (): EventDefinitionRegistry => {
  const upcasters = createUpcasterRegistry()
  const latest = new Map<string, number>()

  return {
    register(definition) {
      const { name, version, upcast } = defineEvent(definition)
      latest.set(name, Math.max(latest.get(name) ?? 0, version))
      if (upcast !== undefined && version > 1) upcasters.register(name, version - 1, version, upcast)
    },

    upcastEvent(event, data, from) {
      const to = latest.get(event)
      return to === undefined || from >= to ? data : upcasters.upcast(event, data, from, to)
    },

    getLatestVersion: (event) => latest.get(event)
  }
}

const isVersion = (version: number): boolean => Number.isSafeInteger(version) && version >= 1

const incomplete = (event: string, at: number, from: number, to: number): Error =>
  new Error(
    `Incomplete upcaster chain for event "${event}": on the way from v${from} to v${to} nothing leads on from v${at}. ` +
      `Register an upcaster from v${at}`
  )
