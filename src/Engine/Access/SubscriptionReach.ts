/**
 * What a subscription may match, in the words of policies. This way, what a policy denies is also denied under a wider pattern.
 */
import { overlapsGlob } from "../../Policy.ts"

/**
 * Returns a predicate: whether a subscription with this pattern may match what a resource pattern of a policy names.
 * `events:order.>` matches what is denied as `subscription:events:order.paid` or as `subscription:order.*`. It also matches what
 * is denied as `subscription:entity:order.*`, because the names of an entity's events are not known in advance. In doubt, the
 * predicate returns `true`.
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
  // a policy without a prefix is about the events and the messages of that name
  const plain = `subscription:${kind === "entity" ? "*" : names}`
  return (resources) =>
    sources.some((source) => overlapsGlob(source, resources)) ||
    (!/^subscription:(?:events:|topic:|entity:|system\b)/.test(resources) && overlapsGlob(plain, resources))
}

/** The topics whose messages a subscription may match, as policies name them; `undefined` when there are none. */
export const topicsOf = (pattern: string): string | undefined => {
  if (/^(?:events|entity):|^system(?:\.|$)/.test(pattern)) return undefined
  return `topic:${pattern.replace(/^topic:/, "").replaceAll(">", "*")}`
}
