/**
 * CEL expressions: conditions over events, written by users, evaluated by the engine.
 *
 * An expression is checked when it enters and can never run long: it has at most 4096 characters, no regular
 * expressions, and loops inside loops only over as much data as can be walked at once. What goes wrong during an
 * evaluation (a missing member, types that do not go together) is not a match, with the reason.
 */
import type { ASTNode, Environment, EvaluationError, ParseError, TypeError } from "@marcbachmann/cel-js"
import { cel } from "./Cel.ts"
import { LimitExceededError, toError, ValidationError } from "./Errors.ts"
import { expressionLength } from "./Limits.ts"

/** The names an expression may start from. */
export type ExpressionRoots = readonly ["event"] | readonly ["event", "trigger"] | readonly ["request"]

export type ExpressionVariables =
  { readonly event: unknown; readonly trigger?: unknown } | { readonly request: unknown }

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
}

/**
 * Compiles an expression; the same one is compiled once. Throws `ValidationError` saying where it is wrong and what is
 * allowed.
 */
export const compileExpression = (expression: string, roots: ExpressionRoots): Expression => {
  // which refuses it, and asks it for no text before
  if (typeof expression !== "string") return compile(expression, roots)
  const key = `${roots.join()} ${expression}`
  const known = cache.get(key)
  if (known !== undefined) return known
  const compiled = compile(expression, roots)
  if (cache.size >= maxCached) cache.clear()
  cache.set(key, compiled)
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
    return { matched: false, error: toError(error).message }
  }
}

const maxCached = 1000
const cache = new Map<string, Expression>()

const compile = (expression: string, roots: ExpressionRoots): Expression => {
  if (typeof expression !== "string" || expression.trim() === "") {
    throw new ValidationError("A CEL expression must be a string that is not blank")
  }
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
      `Invalid CEL expression "${expression}": it must be true or false, and it is of type ${check.type ?? "unknown"}`
    )
  }
  const power = costPower(parsed.ast, expression)

  const evaluate = (variables: ExpressionVariables): Evaluation => {
    if (power > 1 && dataSize(variables, maxOperations) ** power > maxOperations) {
      return { matched: false, error: "the data is too large for an expression with loops inside loops" }
    }
    try {
      const result: unknown = parsed(variables)
      if (typeof result === "boolean") return { matched: result }
      return {
        matched: false,
        error: `the expression is neither true nor false: it is of type ${typeof result}`
      }
    } catch (error) {
      return { matched: false, error: summary(error) }
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
    `Invalid CEL expression "${expression}"${position}: ${summary(error)}. ` +
      `Expressions start from ${allowed}, as in ${roots[0] === "event" ? '"event.data.amount > 100"' : "\"request.name == 'orders'\""}`,
    { cause: error }
  )
}

const summary = (error: unknown): string => (isCelError(error) ? error.summary : toError(error).message)

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

// ---------------------------------------------------------------------------------------------------------------------
// Cost
// ---------------------------------------------------------------------------------------------------------------------

/** What an evaluation may cost at most: about a fifth of a second. */
const maxOperations = 1_000_000

const loops: ReadonlySet<string> = new Set(["all", "exists", "exists_one", "map", "filter"])

/**
 * The power of the data's size that an evaluation may cost: 1 without loops and for loops over single comparisons, and
 * one more for each loop, or other operation that may walk all data, inside a loop.
 */
const costPower = (node: ASTNode, expression: string): number => Math.max(1, power(node, expression))

const power = (node: ASTNode, expression: string): number => {
  switch (node.op) {
    case "value":
    case "id":
      return 0
    case ".":
    case ".?":
      return power(node.args[0], expression)
    case "call": {
      const [name, args] = node.args
      refuseUnbounded(name, expression)
      return Math.max(linearCalls.has(name) ? 1 : 0, ...args.map((arg) => power(arg, expression)))
    }
    case "rcall": {
      const [name, receiver, args] = node.args
      refuseUnbounded(name, expression)
      const inside = Math.max(0, ...args.map((arg) => power(arg, expression)))
      return Math.max(power(receiver, expression), loops.has(name) ? 1 + inside : Math.max(1, inside))
    }
    case "list":
      return Math.max(0, ...node.args.map((member) => power(member, expression)))
    case "map":
      return Math.max(0, ...node.args.flat().map((member) => power(member, expression)))
    case "?:":
      return Math.max(...node.args.map((part) => power(part, expression)))
    case "!_":
    case "-_":
      return power(node.args, expression)
    case "==":
    case "!=":
    case "+":
    case "in": {
      const [left, right] = node.args
      const bounded = isLiteral(left) || isLiteral(right)
      return Math.max(bounded ? 0 : 1, power(left, expression), power(right, expression))
    }
    default:
      return Math.max(power(node.args[0], expression), power(node.args[1], expression))
  }
}

/** Conversions that read a whole text or list. `has`, `int` and the like look at one value. */
const linearCalls: ReadonlySet<string> = new Set(["size", "string", "bytes", "timestamp", "duration"])

const isLiteral = (node: ASTNode): boolean =>
  node.op === "value" ||
  (node.op === "-_" && isLiteral(node.args)) ||
  (node.op === "list" && node.args.every(isLiteral))

const refuseUnbounded = (name: string, expression: string): void => {
  if (name !== "matches") return
  throw new ValidationError(
    `Invalid CEL expression "${expression}": \`matches\` is not available, because a regular expression can run for ` +
      "very long. Use startsWith, endsWith, contains or =="
  )
}

/** Members and characters in the data, counted up to `enough`. */
const dataSize = (root: unknown, enough: number): number => {
  let size = 0
  const left: Array<unknown> = [root]
  while (left.length > 0 && size <= enough) {
    const value = left.pop()
    size += 1
    if (typeof value === "string") size += value.length >> 3
    else if (typeof value === "object" && value !== null) {
      for (const member of Array.isArray(value) ? value : Object.values(value)) left.push(member)
    }
  }
  return size
}
