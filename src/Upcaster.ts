/** Upcasting: converts stored data of an event to a later version when it is read. */
import { isErased } from "./Erased.ts"
import { ValidationError } from "./Errors.ts"
import { defineEvent, type EventDefinition, type UpcasterFn } from "./Event.ts"
import { show } from "./Show.ts"

/** Upcasters by event and version. */
export interface UpcasterRegistry {
  /**
   * Registers an upcaster from version `from` to version `to`. It replaces an earlier upcaster for the same `from`.
   *
   * ```ts
   * createUpcasterRegistry().register("order.placed", 1, 2, (data) => ({ currency: "EUR", ...(data as object) }))
   * ```
   */
  register(event: string, from: number, to: number, upcast: UpcasterFn): void
  /**
   * Upcasts data from version `from` to version `to`. Returns the data unchanged when `from` is not lower than `to`,
   * or when the data is the mark of erased data. Throws when an upcaster in between is missing. What an upcaster
   * throws is passed on.
   *
   * ```ts
   * const upcasters = createUpcasterRegistry()
   * upcasters.register("order.placed", 1, 2, (data) => ({ currency: "EUR", ...(data as object) }))
   * upcasters.upcast("order.placed", { orderId: "o-1" }, 1, 2) // { currency: "EUR", orderId: "o-1" }
   * ```
   */
  upcast(event: string, data: unknown, from: number, to: number): unknown
  /** The highest version to which an upcaster of the event converts; `undefined` when the event has no upcaster. */
  getLatestVersion(event: string): number | undefined
}

/** Event definitions, with upcasting from each version to the latest. */
export interface EventDefinitionRegistry {
  /** Adds a definition. The versions of an event may be registered in any order; data cannot be upcast across a gap. */
  register(definition: EventDefinition): void
  /**
   * Upcasts data of version `from` to the latest version of the event that is registered. Returns the data unchanged
   * if it has that version or a later one, or if no version is registered.
   *
   * ```ts
   * const definitions = createEventDefinitionRegistry()
   * definitions.register(defineEvent({ name: "order.placed", version: 1 }))
   * definitions.upcastEvent("order.placed", { orderId: "o-1" }, 1)
   * ```
   */
  upcastEvent(event: string, data: unknown, from: number): unknown
  /** The latest registered version of the event; `undefined` when no version is registered. */
  getLatestVersion(event: string): number | undefined
}

interface Entry {
  readonly to: number
  readonly upcast: UpcasterFn
}

/** Creates a registry of upcasters. */
export const createUpcasterRegistry = (): UpcasterRegistry => {
  const entries = new Map<string, Map<number, Entry>>()

  return {
    register(event, from, to, upcast) {
      if (!isVersion(from) || !isVersion(to) || to <= from) {
        throw new ValidationError(
          `Upcaster of event "${event}": both versions must be integers, at least 1, and the second must be above the first, got v${from} to v${to}`
        )
      }
      if (typeof upcast !== "function") {
        throw new ValidationError(
          `Upcaster of event "${event}" v${from} to v${to} must be a function, got ${show(upcast)}`
        )
      }
      const versions = entries.get(event) ?? new Map<number, Entry>()
      versions.set(from, { to, upcast })
      entries.set(event, versions)
    },

    upcast(event, data, from, to) {
      // the mark of erased data is the same in every version
      if (isErased(data)) return data
      const versions = entries.get(event)
      let currentVersion = from
      let upcasted = data
      while (currentVersion < to) {
        const entry = versions?.get(currentVersion)
        if (entry === undefined || entry.to > to)
          throw incompleteChainError(event, currentVersion, from, to, entry)
        upcasted = entry.upcast(upcasted)
        currentVersion = entry.to
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

/** Creates a registry of event definitions, for the option `eventDefinitions` of clients, workers, engines and handlers. */
export const createEventDefinitionRegistry = (): EventDefinitionRegistry => {
  const upcasters = createUpcasterRegistry()
  const latestVersions = new Map<string, number>()

  return {
    register(definition) {
      const { name, version, upcast } = defineEvent(definition)
      latestVersions.set(name, Math.max(latestVersions.get(name) ?? 0, version))
      if (upcast !== undefined && version > 1) upcasters.register(name, version - 1, version, upcast)
    },

    upcastEvent(event, data, from) {
      const to = latestVersions.get(event)
      return to === undefined || from >= to ? data : upcasters.upcast(event, data, from, to)
    },

    getLatestVersion: (event) => latestVersions.get(event)
  }
}

const isVersion = (version: number): boolean => Number.isSafeInteger(version) && version >= 1

const incompleteChainError = (
  event: string,
  at: number,
  from: number,
  to: number,
  tooFar: Entry | undefined
): Error =>
  new Error(
    `Incomplete upcaster chain for event "${event}": to convert v${from} to v${to}, an upcaster from v${at} is needed, and ` +
      (tooFar === undefined
        ? `none is registered. Register an upcaster from v${at}`
        : `the registered one converts to v${tooFar.to}, which is too far. Register one from v${at} to v${at + 1} in its place`)
  )
