/**
 * Compares the pattern of a subscription with the resources of policies, so that a caller does not get what a policy denies by
 * subscribing to a wider pattern.
 */
import { overlapsGlob } from "../../Policy.ts"

/**
 * Returns a predicate. It takes a resource pattern of a policy, and tells whether a subscription with `pattern` may match something
 * that the resource pattern names. For example, a subscription to `events:order.>` may match what the resources
 * `subscription:events:order.paid` and `subscription:order.*` name. It may also match what `subscription:entity:order.*` names,
 * because the names of an entity's events are not known in advance. In doubt, the predicate returns `true`.
 */
export const reachOf = (pattern: string): ((resources: string) => boolean) => {
  const text = pattern.replaceAll(">", "*")
  if (/^system(\.|$)/.test(pattern)) return (resources) => overlapsGlob(`subscription:${text}`, resources)
  const [, kind, names] = /^(?:(events|topic|entity):)?(.*)$/s.exec(text) ?? ["", undefined, "*"]
  const sources: Array<string> = []
  if (kind !== "entity" && kind !== "topic")
    sources.push(`subscription:events:${names}`, "subscription:entity:*")
  if (kind === "entity") sources.push("subscription:events:*", `subscription:entity:${names}`)
  if (kind === undefined || kind === "topic") sources.push(`subscription:topic:${names}`)
  // a resource without a prefix names the events and the messages of that name
  const withoutPrefix = `subscription:${kind === "entity" ? "*" : names}`
  return (resources) =>
    sources.some((source) => overlapsGlob(source, resources)) ||
    (!/^subscription:(?:events:|topic:|entity:|system\b)/.test(resources) &&
      overlapsGlob(withoutPrefix, resources))
}

/** The topics whose messages a subscription may match, as policies name them; `undefined` when there are none. */
export const topicsOf = (pattern: string): string | undefined => {
  if (/^(?:events|entity):|^system(?:\.|$)/.test(pattern)) return undefined
  return `topic:${pattern.replace(/^topic:/, "").replaceAll(">", "*")}`
}
