/**
 * CEL expressions: conditions over events, written by users, evaluated by the engine.
 *
 * An expression is checked when it enters and can never run long: it has at most 4096 characters, no regular
 * expressions, and each evaluation has a budget of steps and of bytes. What goes wrong during an evaluation (a missing
 * member, types that do not go together, a budget that is used up) is not a match, with the reason.
 */
import type { ASTNode, Environment, EvaluationError, ParseError, TypeError } from "@marcbachmann/cel-js"
import { cel } from "./Cel.ts"
import { LimitExceededError, toError, ValidationError } from "./Errors.ts"
import { BudgetExceeded, boundMemory, countNodes, payForCompiling, withinBudget } from "./ExpressionBudget.ts"
import { expressionLength } from "./Limits.ts"

/** What an expression over runs starts from. */
export const whereRoots = ["event", "output", "error"] as const

/** The names an expression may start from. */
export type ExpressionRoots =
  readonly ["event"] | readonly ["event", "trigger"] | typeof whereRoots | readonly ["request"]

export type ExpressionVariables =
  | { readonly event: unknown; readonly trigger?: unknown }
  | { readonly event: unknown; readonly output: unknown; readonly error: unknown }
  | { readonly request: unknown }

/** A compiled expression: call it for the verdict alone, `evaluate` for the verdict and what went wrong. */
export interface Expression {
  (variables: ExpressionVariables): boolean
  readonly text: string
  readonly evaluate: (variables: ExpressionVariables) => Evaluation
}

export interface Evaluation {
  readonly matched: boolean
  /** Why the expression could not be evaluated; then it does not match. */
  readonly error?: string
  /** It could not be evaluated within its budget. */
  readonly exceeded?: true
}

/**
 * Compiles an expression; the same one is compiled once. Throws `ValidationError` saying where it is wrong and what is
 * allowed.
 */
export const compileExpression = (expression: string, roots: ExpressionRoots): Expression => {
  if (typeof expression !== "string" || expression.trim() === "") {
    throw new ValidationError("A CEL expression must be a string that is not blank")
  }
  const key = `${roots.join()} ${expression}`
  const known = cache.get(key)
  if (known !== undefined) return known
  payForCompiling(expression.length)
  const compiled = compile(expression, roots)
  cache.set(key, compiled)
  cachedLength += expression.length
  for (const [oldest, { text }] of cache) {
    if (cachedLength <= maxCachedLength) break
    cache.delete(oldest)
    cachedLength -= text.length
  }
  return compiled
}

/**
 * Whether the expression is true of the variables; with `trigger` among them it may start from that as well. Compiles it
 * at most once. One that does not compile is an evaluation error, not an exception.
 */
export const evaluateExpression = (expression: string, variables: ExpressionVariables): Evaluation => {
  try {
    return compileExpression(expression, "trigger" in variables ? ["event", "trigger"] : ["event"]).evaluate(
      variables
    )
  } catch (error) {
    // What is stored was checked when it entered; one that is broken all the same must not block the events.
    const evaluation = { matched: false, error: toError(error).message }
    return error instanceof BudgetExceeded ? { ...evaluation, exceeded: true } : evaluation
  }
}

/** Characters of all expressions in the cache; a tree takes some 200 bytes a character. */
const maxCachedLength = 128 * 1024
let cachedLength = 0
const cache = new Map<string, Expression>()

const compile = (expression: string, roots: ExpressionRoots): Expression => {
  if (expression.length > expressionLength) {
    throw new LimitExceededError(
      `The CEL expression "${expression.slice(0, 32)}..."`,
      expression.length,
      expressionLength,
      "characters"
    )
  }
  const parsed = parse(expression, roots)
  const check = parsed.check()
  if (check.error !== undefined) throw invalid(expression, roots, check.error)
  if (!check.valid || (check.type !== "bool" && check.type !== "dyn")) {
    throw new ValidationError(
      `Invalid CEL expression ${quoteExpression(expression)}: it must be true or false, and it is of type ${check.type ?? "unknown"}`
    )
  }
  refuseUnbounded(parsed.ast, expression)
  countNodes(parsed.ast)

  const evaluate = (variables: ExpressionVariables): Evaluation => {
    try {
      const result = withinBudget(parsed, variables)
      if (typeof result === "boolean") return { matched: result }
      return {
        matched: false,
        error: `the expression is neither true nor false: it is of type ${typeof result}`
      }
    } catch (error) {
      const evaluation = { matched: false, error: summary(error) }
      return error instanceof BudgetExceeded ? { ...evaluation, exceeded: true } : evaluation
    }
  }
  return Object.assign((variables: ExpressionVariables) => evaluate(variables).matched, {
    text: expression,
    evaluate
  })
}

const parse = (expression: string, roots: ExpressionRoots) => {
  try {
    return environmentFor(roots).parse(expression)
  } catch (error) {
    throw invalid(expression, roots, error)
  }
}

const invalid = (expression: string, roots: ExpressionRoots, error: unknown): ValidationError => {
  const position =
    isCelError(error) && error.range !== undefined ? ` at character ${error.range.start + 1}` : ""
  const allowed = roots.map((root) => `\`${root}\``).join(" and ")
  return new ValidationError(
    `Invalid CEL expression ${quoteExpression(expression, error)}${position}: ${summary(error)}. ` +
      `Expressions start from ${allowed}, as in ${roots[0] === "event" ? '"event.data.amount > 100"' : "\"request.name == 'orders'\""}`,
    { cause: error }
  )
}

/** Characters of an expression that messages show. */
const maxQuoted = 200

/** The expression, and of a long one what is around the place where it is wrong. */
export const quoteExpression = (expression: string, error?: unknown): string => {
  if (expression.length <= maxQuoted) return `"${expression}"`
  const at = isCelError(error) ? (error.range?.start ?? 0) : 0
  const from = Math.max(0, Math.min(at - maxQuoted / 2, expression.length - maxQuoted))
  const to = from + maxQuoted
  return `"${from > 0 ? "..." : ""}${expression.slice(from, to)}${to < expression.length ? "..." : ""}"`
}

/** Names keys and texts of the data, which may be very long. */
const summary = (error: unknown): string => {
  const text = isCelError(error) ? error.summary : toError(error).message
  return text.length > maxSummary ? `${text.slice(0, maxSummary)}...` : text
}

const maxSummary = 200

type CelError = EvaluationError | ParseError | TypeError

const isCelError = (error: unknown): error is CelError => {
  const { EvaluationError, ParseError, TypeError } = cel()
  return error instanceof ParseError || error instanceof TypeError || error instanceof EvaluationError
}

/**
 * JSON has one kind of number, CEL has two that do not mix in arithmetic: `event.data.n + 1` would be an error. Numbers
 * of events are doubles, and a literal goes along.
 */
const environment = (roots: ExpressionRoots): Environment => {
  const made = new (cel().Environment)({
    unlistedVariablesAreDyn: false,
    homogeneousAggregateLiterals: false,
    limits: { maxAstNodes: 2000, maxDepth: 64 }
  })
  for (const root of roots) made.registerVariable(root, "dyn")
  for (const [operator, apply] of Object.entries(arithmetic)) {
    made.registerOperator(`double ${operator} int: double`, (left: number, right: bigint) =>
      apply(left, Number(right))
    )
    made.registerOperator(`int ${operator} double: double`, (left: bigint, right: number) =>
      apply(Number(left), right)
    )
  }
  made.registerOperator("double % double: double", arithmetic["%"])
  boundMemory(made)
  return made
}

const arithmetic = {
  "+": (left: number, right: number) => left + right,
  "-": (left: number, right: number) => left - right,
  "*": (left: number, right: number) => left * right,
  "/": (left: number, right: number) => left / right,
  "%": (left: number, right: number) => left % right
}

const environments = new Map<string, Environment>()

/** Made on first use: most programs that import this module compile no expression. */
const environmentFor = (roots: ExpressionRoots): Environment => {
  const key = roots.join()
  let made = environments.get(key)
  if (made === undefined) environments.set(key, (made = environment(roots)))
  return made
}

/** Refuses `matches`, wherever it is. */
const refuseUnbounded = (node: ASTNode, expression: string): void => {
  const left: Array<unknown> = [node]
  for (let part = left.pop(); part !== undefined; part = left.pop()) {
    if (Array.isArray(part)) for (const one of part) left.push(one)
    else if (isNode(part)) {
      if ((part.op === "call" || part.op === "rcall") && part.args[0] === "matches") {
        throw new ValidationError(
          `Invalid CEL expression ${quoteExpression(expression)}: \`matches\` is not available, because a regular expression can run for ` +
            "very long. Use startsWith, endsWith, contains or =="
        )
      }
      left.push(part.args)
    }
  }
}

const isNode = (value: unknown): value is ASTNode =>
  typeof value === "object" && value !== null && "op" in value && "args" in value
