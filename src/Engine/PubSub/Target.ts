/** What a subscription pattern selects: events and messages of the log, or system events. */
import { ValidationError } from "../../Errors.ts"
import { checkPattern, compilePattern } from "../../Pattern.ts"
import type { LogEntryKind } from "../Log/LogRecords.ts"
import { show } from "../../Show.ts"

export interface Target {
  readonly source: "log" | "system"
  /** The kind of items; absent when both events and messages are meant. */
  readonly kind?: LogEntryKind
  /** The pattern that names of events, topics or system topics must match. */
  readonly names: string
  readonly matchesName: (name: string) => boolean
  /** Whether the pattern is about projections in particular. Then lost states of projections are a gap for the subscription. */
  readonly isForStates?: boolean
  /** Whether the pattern may match states of projections. */
  readonly mayMatchStates?: boolean
  /** Only for `entity:` patterns: whether the path `<type>.<id>.<name>` of an entity's event matches. */
  readonly matchesEntity?: (path: string) => boolean
}

/** Parses a pattern. Throws `ValidationError`. */
export const readTarget = (pattern: unknown): Target => {
  if (typeof pattern !== "string") {
    throw new ValidationError(
      `The pattern must be a string such as "events:order.*", "topic:news", "entity:order.o-1.>" or "system.run.>", got ${show(pattern)}`
    )
  }
  if (pattern.startsWith("events:")) return target("log", pattern.slice("events:".length), "event")
  if (pattern.startsWith("topic:")) return target("log", pattern.slice("topic:".length), "message")
  if (pattern.startsWith("entity:")) {
    const path = checkPattern(pattern.slice("entity:".length), "pattern of the subscription")
    checkTokenCount(path)
    return { ...target("log", ">", "event"), matchesEntity: compilePattern(path) }
  }
  if (/^system(\.|$)/.test(pattern)) {
    // `system.secret.*` is meant for all topics of secrets, but these have two more tokens, and `*` stands for only one
    const about = pattern.split(".", 2)[1]
    return {
      ...target("system", pattern === "system.secret.*" ? "system.secret.>" : pattern),
      isForStates: about === "projection",
      mayMatchStates: about === "projection" || about === "*" || about === ">"
    }
  }
  const colon = pattern.indexOf(":")
  if (colon !== -1) {
    throw new ValidationError(
      `The pattern "${pattern.slice(0, 64)}" begins with "${pattern.slice(0, Math.min(colon, 32))}:", which is no known prefix: use events:, topic:, entity: or system., or no prefix for events and messages of any kind`
    )
  }
  return target("log", pattern)
}

/**
 * Checks the target of a group. Throws `ValidationError` for system events, which are not stored, and for `entity:` patterns,
 * which groups cannot have.
 */
export const checkGroupTarget = (target: Target): Target => {
  if (target.source === "system") {
    throw new ValidationError(
      "A consumer group needs events that are stored: system events are not, so subscribe to them without `consumerGroup`"
    )
  }
  if (target.matchesEntity !== undefined) {
    throw new ValidationError(
      "A consumer group cannot subscribe to `entity:` patterns: use an `events:` pattern, or subscribe without a group"
    )
  }
  return target
}

/** Throws `ValidationError` for a pattern that has too few tokens to match any `<type>.<id>.<name>`. */
const checkTokenCount = (path: string): void => {
  const tokens = path.split(".")
  if (tokens.length >= 3 || tokens.at(-1) === ">") return
  const suggestion = tokens.length === 2 ? `${path}.>` : `<type>.${path}.>" or "entity:${path}.>`
  throw new ValidationError(
    `The pattern "entity:${path}" can match no event: after "entity:" must come the entity type, the entity id and the event name, separated by dots. Did you mean "entity:${suggestion}"?`
  )
}

const target = (source: Target["source"], names: string, kind?: LogEntryKind): Target => {
  checkPattern(names, "pattern of the subscription")
  return { source, names, matchesName: compilePattern(names), ...(kind === undefined ? {} : { kind }) }
}
