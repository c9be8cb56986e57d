/**
 * CEL expressions: conditions over events, which users write and the engine evaluates.
 *
 * An expression is checked when it is registered. Its cost is limited: it has at most 4096 characters and no regular
 * expressions, and each evaluation has a budget of steps and bytes. After an error in an evaluation (a missing
 * member, types that do not fit, a budget that is used up) the expression does not match, and the error is reported.
 */
import type { ASTNode, Environment, EvaluationError, ParseError, TypeError } from "@marcbachmann/cel-js"
import { cel } from "./Cel.ts"
import { LimitExceededError, toError, ValidationError } from "./Errors.ts"
import { BudgetExceeded, limitCaches, countNodes, payForCompiling, withinBudget } from "./ExpressionBudget.ts"
import { expressionLength } from "./Limits.ts"
import { show } from "./Show.ts"

/** The root names in expressions over runs. */
export const whereRoots = ["event", "output", "error"] as const

/** The root names that an expression may use. */
export type ExpressionRoots =
  readonly ["event"] | readonly ["event", "trigger"] | typeof whereRoots | readonly ["request"]

export type ExpressionVariables =
  | { readonly event: unknown; readonly trigger?: unknown }
  | { readonly event: unknown; readonly output: unknown; readonly error: unknown }
  | { readonly request: unknown }

/** A compiled expression. A call returns only whether it matches; `evaluate` also returns the error. */
export interface Expression {
  (variables: ExpressionVariables): boolean
  readonly text: string
  readonly evaluate: (variables: ExpressionVariables) => Evaluation
}

export interface Evaluation {
  readonly matched: boolean
  /** Why the evaluation failed. The expression then does not match. */
  readonly error?: string
  /** Set when the budget was used up, before or during the evaluation. */
  readonly exceeded?: true
}

/**
 * Compiles an expression. Results are cached. Throws `ValidationError`, which says where the expression is
 * wrong and what is allowed.
 */
export const compileExpression = (expression: string, roots: ExpressionRoots): Expression => {
  if (typeof expression !== "string" || expression.trim() === "") {
    throw new ValidationError(`A CEL expression must be a string that is not blank, got ${show(expression)}`)
  }
  const key = `${roots.join()} ${expression}`
  const cached = cache.get(key)
  if (cached !== undefined) return cached
  payForCompiling(expression.length)
  const compiled = compile(expression, roots)
  cache.set(key, compiled)
  cachedLength += expression.length
  for (const [oldest, { text }] of cache) {
    if (cachedLength <= MAX_CACHED_LENGTH) break
    cache.delete(oldest)
    cachedLength -= text.length
  }
  return compiled
}

/**
 * Whether the expression is true for the variables. Its root names are `event`, and `trigger` if the variables
 * include that. An expression that does not compile makes an evaluation with an `error`; nothing is thrown.
 */
export const evaluateExpression = (expression: string, variables: ExpressionVariables): Evaluation => {
  try {
    return compileExpression(expression, "trigger" in variables ? ["event", "trigger"] : ["event"]).evaluate(
      variables
    )
  } catch (error) {
    // a stored expression was checked when it was registered; if it does not compile all the same, it must
    // not hold up events
    const evaluation = { matched: false, error: toError(error).message }
    return error instanceof BudgetExceeded ? { ...evaluation, exceeded: true } : evaluation
  }
}

/** Maximum total length of cached expressions, in characters; a syntax tree takes about 200 bytes a character. */
const MAX_CACHED_LENGTH = 128 * 1024
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
  if (check.error !== undefined) throw invalidExpressionError(expression, roots, check.error)
  if (!check.valid || (check.type !== "bool" && check.type !== "dyn")) {
    throw new ValidationError(
      `Invalid CEL expression ${quoteExpression(expression)}: it must be true or false, got an expression of type ${check.type ?? "unknown"}`
    )
  }
  refuseRegularExpressions(parsed.ast, expression)
  countNodes(parsed.ast)

  const evaluate = (variables: ExpressionVariables): Evaluation => {
    try {
      const result = withinBudget(parsed, variables)
      if (typeof result === "boolean") return { matched: result }
      return {
        matched: false,
        error: `it must be true or false, got ${typeof result}`
      }
    } catch (error) {
      const evaluation = { matched: false, error: errorSummary(error) }
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
    throw invalidExpressionError(expression, roots, error)
  }
}

const invalidExpressionError = (
  expression: string,
  roots: ExpressionRoots,
  error: unknown
): ValidationError => {
  const position =
    isCelError(error) && error.range !== undefined ? ` at character ${error.range.start + 1}` : ""
  const allowed = roots
    .map((root) => `\`${root}\``)
    .join(", ")
    .replace(/, ([^,]*)$/, " or $1")
  return new ValidationError(
    `Invalid CEL expression ${quoteExpression(expression, error)}${position}: ${errorSummary(error)}. ` +
      `Expressions start from ${allowed}, as in ${roots[0] === "event" ? '"event.data.amount > 100"' : "\"request.name == 'orders'\""}`,
    { cause: error }
  )
}

/** How many characters of an expression a message shows, at most. */
const MAX_QUOTED = 200

/** The expression as messages show it. A long one is cut to the part around the error. */
export const quoteExpression = (expression: string, error?: unknown): string => {
  if (expression.length <= MAX_QUOTED) return `"${expression}"`
  const errorStart = isCelError(error) ? (error.range?.start ?? 0) : 0
  const start = Math.max(0, Math.min(errorStart - MAX_QUOTED / 2, expression.length - MAX_QUOTED))
  const end = start + MAX_QUOTED
  return `"${start > 0 ? "..." : ""}${expression.slice(start, end)}${end < expression.length ? "..." : ""}"`
}

/** The message of the error, cut: a message of the library may contain long keys and strings of the data. */
const errorSummary = (error: unknown): string => {
  const text = isCelError(error) ? error.summary : toError(error).message
  return text.length > MAX_SUMMARY ? `${text.slice(0, MAX_SUMMARY)}...` : text
}

const MAX_SUMMARY = 200

type CelError = EvaluationError | ParseError | TypeError

const isCelError = (error: unknown): error is CelError => {
  const { EvaluationError, ParseError, TypeError } = cel()
  return error instanceof ParseError || error instanceof TypeError || error instanceof EvaluationError
}

/**
 * Makes the environment in which expressions are compiled. JSON has one type for numbers. CEL has two, `int` and
 * `double`, and cannot add one to the other: `event.data.n + 1` would fail. So the environment has operators for both
 * types together: numbers of the data are doubles, and an integer of the expression is converted to a double.
 */
const makeEnvironment = (roots: ExpressionRoots): Environment => {
  const environment = new (cel().Environment)({
    unlistedVariablesAreDyn: false,
    homogeneousAggregateLiterals: false,
    limits: { maxAstNodes: 2000, maxDepth: 64 }
  })
  for (const root of roots) environment.registerVariable(root, "dyn")
  for (const [operator, compute] of Object.entries(arithmetic)) {
    environment.registerOperator(`double ${operator} int: double`, (left: number, right: bigint) =>
      compute(left, Number(right))
    )
    environment.registerOperator(`int ${operator} double: double`, (left: bigint, right: number) =>
      compute(Number(left), right)
    )
  }
  environment.registerOperator("double % double: double", arithmetic["%"])
  limitCaches(environment)
  return environment
}

const arithmetic = {
  "+": (left: number, right: number) => left + right,
  "-": (left: number, right: number) => left - right,
  "*": (left: number, right: number) => left * right,
  "/": (left: number, right: number) => left / right,
  "%": (left: number, right: number) => left % right
}

const environments = new Map<string, Environment>()

/** The environment is made on first use, since most programs that import this module compile no expression. */
const environmentFor = (roots: ExpressionRoots): Environment => {
  const key = roots.join()
  let environment = environments.get(key)
  if (environment === undefined) environments.set(key, (environment = makeEnvironment(roots)))
  return environment
}

/** Refuses a call of `matches` anywhere in the expression: nothing limits how long a regular expression runs. */
const refuseRegularExpressions = (node: ASTNode, expression: string): void => {
  const unvisited: Array<unknown> = [node]
  for (let part = unvisited.pop(); part !== undefined; part = unvisited.pop()) {
    if (Array.isArray(part)) for (const element of part) unvisited.push(element)
    else if (isNode(part)) {
      if ((part.op === "call" || part.op === "rcall") && part.args[0] === "matches") {
        throw new ValidationError(
          `Invalid CEL expression ${quoteExpression(expression)}: \`matches\` is not available, because a regular expression can run for ` +
            "very long. Use startsWith, endsWith, contains or =="
        )
      }
      unvisited.push(part.args)
    }
  }
}

const isNode = (value: unknown): value is ASTNode =>
  typeof value === "object" && value !== null && "op" in value && "args" in value
