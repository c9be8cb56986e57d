/**
 * Patterns over names that consist of tokens separated by dots. `*` matches exactly one token, and `>` as the last token
 * matches one or more. `order.*` matches `order.placed` but not `order.item.added`; `order.>` matches both.
 */
import { ValidationError } from "./Errors.ts"
import { nameLength } from "./Limits.ts"
import { show } from "./Show.ts"

/** Whether the text has a token `*` or `>`. Without such a token a pattern only matches itself. */
export const isPattern = (text: string): boolean => {
  for (let start = 0; start <= text.length;) {
    const end = tokenEnd(text, start)
    if (end - start === 1 && isWildcard(text.charCodeAt(start))) return true
    start = end + 1
  }
  return false
}

/**
 * Returns the pattern, if it is valid: no empty tokens, no white space, wildcards only as whole tokens, and
 * `>` only at the end. Throws `ValidationError`, in which `what` names the pattern (`trigger event`).
 */
export const checkPattern = (pattern: unknown, what = "pattern"): string => {
  if (typeof pattern !== "string" || pattern.trim() === "") {
    throw new ValidationError(
      `The ${what} must be a string that is not blank, such as "order.placed" or "order.*", got ${show(pattern)}`
    )
  }
  if (pattern.length > nameLength) {
    throw new ValidationError(
      `The ${what} has ${pattern.length} characters, and at most ${nameLength} are allowed. It begins with "${pattern.slice(0, 32)}"`
    )
  }
  const tokens = pattern.split(".")
  for (const [i, token] of tokens.entries()) {
    const problem = tokenProblem(token, i === tokens.length - 1)
    if (problem !== undefined) throw new ValidationError(`The ${what} cannot be "${pattern}": ${problem}`)
  }
  return pattern
}

const tokenProblem = (token: string, isLast: boolean): string | undefined => {
  if (token === "") return "it has an empty token; write names such as order.placed"
  if (/[\s\p{Cc}]/u.test(token)) return "it contains white space or control characters"
  if (token === ">") return isLast ? undefined : 'the wildcard ">" may only stand at the end'
  if (token !== "*" && /[*>]/.test(token)) return "a wildcard must be a whole token, as in order.* or order.>"
  return undefined
}

/**
 * Compiles a pattern to a function that checks names. Throws `ValidationError` when the pattern is invalid.
 */
export const compilePattern = (pattern: string): ((name: string) => boolean) => {
  checkPattern(pattern)
  return isPattern(pattern) ? (name) => matchTokens(pattern, name) : (name) => name === pattern
}

/** Whether the name matches the pattern, which must be valid. */
export const matchesPattern = (pattern: string, name: string): boolean =>
  pattern === name || matchTokens(pattern, name)

const matchTokens = (pattern: string, name: string): boolean => {
  let inPattern = 0
  let inName = 0
  while (inPattern <= pattern.length) {
    if (inName > name.length) return false
    const patternEnd = tokenEnd(pattern, inPattern)
    const nameEnd = tokenEnd(name, inName)
    const wildcard = patternEnd - inPattern === 1 ? pattern.charCodeAt(inPattern) : 0
    if (nameEnd === inName) return false
    if (wildcard === MANY_TOKENS && patternEnd === pattern.length) return true
    if (wildcard !== ONE_TOKEN) {
      if (patternEnd - inPattern !== nameEnd - inName) return false
      if (!pattern.startsWith(name.slice(inName, nameEnd), inPattern)) return false
    }
    inPattern = patternEnd + 1
    inName = nameEnd + 1
  }
  return inName > name.length
}

const ONE_TOKEN = "*".charCodeAt(0)
const MANY_TOKENS = ">".charCodeAt(0)

const isWildcard = (code: number): boolean => code === ONE_TOKEN || code === MANY_TOKENS

const tokenEnd = (text: string, start: number): number => {
  const dot = text.indexOf(".", start)
  return dot === -1 ? text.length : dot
}

/** Builds subscription patterns. */
export const patterns = {
  allRuns: () => "system.run.>",
  run: (runId: string) => `system.run.${runId}.>`,
  runLifecycle: (runId: string) => `system.run.${runId}.*`,
  runSteps: (runId: string) => `system.run.${runId}.step.>`,
  allFunctions: () => "system.function.>",
  function: (functionId: string) => `system.function.${functionId}.>`,
  userEvent: (name: string) => `events:${name}`,
  allUserEvents: () => "events:>",
  allSecrets: () => "system.secret.*",
  secret: (name: string) => `system.secret.${name}.*`,
  secretAction: (action: string) => `system.secret.*.${action}`,
  topic: (pattern: string) => `topic:${pattern}`,
  allTopics: () => "topic:>"
} as const
