/**
 * Limits what it costs to evaluate an expression with the CEL library.
 *
 * The library has no limits of its own. Loops inside of loops over lists in the expression, strings and lists that are
 * doubled again and again, and deep comparisons each run in one call that cannot be interrupted. But each node of the
 * library's syntax tree has two functions that can be replaced: `evaluate` evaluates the node, and `handle` combines
 * the results of the node's parts. This module replaces both by functions that pay first, and then do the same. So the
 * results are those of the library. To pay is to count steps and bytes, and to stop the evaluation when there are too
 * many. An operation that can pay only after its work has a limit for the size of its data.
 *
 * Evaluations are synchronous and never run inside of each other, so one pair of counters is enough.
 */
import type { Environment } from "@marcbachmann/cel-js"

/** Maximum number of steps of one evaluation, about 10 ms. A step is about 30 ns, the cost of evaluating one node. */
export const MAX_EXPRESSION_STEPS = 300_000
/** Maximum number of bytes that one evaluation allocates in total: strings, lists and maps. */
export const MAX_BYTES = 1_000_000
/**
 * Maximum number of steps of all evaluations for one event, or in one command of the store. Once they are used up,
 * each further evaluation gets only {@link FEW_STEPS}.
 */
export const MAX_SHARED_STEPS = 2 * MAX_EXPRESSION_STEPS
/** The small budget: enough to compare some members and scan a short list. */
export const FEW_STEPS = 2000
/**
 * Maximum number of steps of all evaluations with the small budget. Once they are used up, no expression is evaluated.
 * All evaluations that share these budgets take less than a tenth of a second.
 */
export const MAX_FEW_STEPS = MAX_EXPRESSION_STEPS
/** Number of steps that each event of a command adds to the shared budget of the command. */
const EVENT_STEPS = 1000
/** Steps to compile one character of an expression that is not cached: about a microsecond. */
const COMPILE_STEPS = 30

let steps = 0
let limit = MAX_EXPRESSION_STEPS
let bytes = 0
/** Steps of all earlier evaluations, and of compiling. */
let earlierSteps = 0
/** The value of {@link expressionSteps} when the current shared budget began; `undefined` without a shared budget. */
let sharedStart: number | undefined
/** Steps that the events of the current command have added to the shared budget. */
let addedSteps = 0
/** The user's `Error.stackTraceLimit`, while the evaluation has set it to 0. */
let savedStackTraceLimit: number | undefined
/** The last error that the evaluation has paid for. */
let lastError: unknown

/** Thrown when an evaluation has used up its budget. The expression itself cannot catch this error. */
export class BudgetExceeded extends Error {
  override readonly name = "BudgetExceeded"
}

const tooLong = new BudgetExceeded(
  `its evaluation was stopped after ${MAX_EXPRESSION_STEPS} steps: each evaluated part of the expression is a step, in a loop once per element, and long texts and lists count as several`
)
const tooLongTogether = new BudgetExceeded(
  `its evaluation was stopped after ${FEW_STEPS} steps, because the expressions evaluated just before it took long`
)
const notStarted = new BudgetExceeded(
  "it was not evaluated, because the expressions evaluated just before it took long"
)
const tooLarge = new BudgetExceeded(
  `its evaluation was stopped, because it made more than ${MAX_BYTES} bytes of texts, lists and maps`
)

const pay = (amount: number): void => {
  if ((steps += amount) > limit) throw limit === MAX_EXPRESSION_STEPS ? tooLong : tooLongTogether
}

const allocate = (amount: number): void => {
  if ((bytes += amount) > MAX_BYTES) throw tooLarge
}

/** How many steps and bytes the last evaluation has used. */
export const spentByLast = (): { readonly steps: number; readonly bytes: number } => ({ steps, bytes })

/**
 * How many steps were taken since the start of the process. Code that evaluates many expressions in a row
 * yields each time that this has grown by `MAX_EXPRESSION_STEPS`.
 */
export const expressionSteps = (): number => earlierSteps + steps

/**
 * Runs a command that may evaluate any number of expressions, such as those of all functions and waits for an event.
 * The evaluations share a budget. When some of them have taken long, the others still get enough for simple
 * expressions.
 */
export const withSharedBudget = <A>(command: () => A): A => {
  if (sharedStart !== undefined) return command()
  sharedStart = expressionSteps()
  addedSteps = 0
  try {
    return command()
  } finally {
    sharedStart = undefined
  }
}

/** Adds the steps for another event of the command to the shared budget. */
export const addEventBudget = (): void => {
  addedSteps += EVENT_STEPS
}

/**
 * A budget for one caller in one turn of the event loop. It is for a caller that evaluates expressions for each of many
 * things, such as the items of a list. It works like {@link withSharedBudget}, but there is always enough for simple
 * expressions, however many there are.
 */
export class TurnBudget {
  readonly #inNextTurn: (f: () => void) => void
  #spentSteps = 0
  #addedSteps = 0
  #isTurnBegun = false

  /** `inNextTurn` calls a function in the next turn of the event loop. */
  constructor(inNextTurn: (f: () => void) => void) {
    this.#inNextTurn = inNextTurn
  }

  evaluate<A>(evaluate: () => A): A {
    if (sharedStart !== undefined) return evaluate()
    if (!this.#isTurnBegun) {
      this.#isTurnBegun = true
      this.#inNextTurn(() => {
        this.#isTurnBegun = false
        this.#spentSteps = this.#addedSteps = 0
      })
    }
    const stepsBefore = expressionSteps()
    sharedStart = stepsBefore - this.#spentSteps
    addedSteps = this.#addedSteps += EVENT_STEPS
    try {
      return evaluate()
    } finally {
      sharedStart = undefined
      this.#spentSteps += expressionSteps() - stepsBefore
    }
  }
}

/** How many steps the next evaluation may take. */
const stepsLeft = (): number => {
  if (sharedStart === undefined) return MAX_EXPRESSION_STEPS
  const stepsTaken = earlierSteps - sharedStart
  if (stepsTaken <= MAX_SHARED_STEPS + addedSteps) return MAX_EXPRESSION_STEPS
  // the last evaluation with a full budget may have begun just before the limit, and so have exceeded it by up to
  // `MAX_EXPRESSION_STEPS`
  return stepsTaken <= MAX_SHARED_STEPS + MAX_EXPRESSION_STEPS + MAX_FEW_STEPS + addedSteps ? FEW_STEPS : 0
}

/**
 * Pays for compiling an expression from the shared budget; without a shared budget, nothing is counted. Throws
 * `BudgetExceeded` when the budget has not enough steps left.
 */
export const payForCompiling = (length: number): void => {
  if (sharedStart === undefined) return
  earlierSteps += steps
  steps = 0
  const cost = length * COMPILE_STEPS
  if (cost > stepsLeft()) throw notStarted
  earlierSteps += cost
}

/**
 * Evaluates an expression with at most as many steps as the shared budget has left for one evaluation, or
 * `MAX_EXPRESSION_STEPS` without a shared budget. Throws the errors of the expression, and `BudgetExceeded`.
 */
export const withinBudget = <Variables>(
  evaluate: (variables: Variables) => unknown,
  variables: Variables
): unknown => {
  earlierSteps += steps
  steps = 0
  limit = stepsLeft()
  if (limit === 0) throw notStarted
  bytes = 0
  try {
    return evaluate(variables)
  } finally {
    if (savedStackTraceLimit !== undefined) {
      Error.stackTraceLimit = savedStackTraceLimit
      savedStackTraceLimit = undefined
      lastError = undefined
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// The parts of the library's internals that are used here; the build bundles exactly one version of the library
// ---------------------------------------------------------------------------------------------------------------------

interface Type {
  readonly kind: string
}

interface Candidates {
  readonly macro: unknown
  readonly returnType: unknown
  readonly findFunction: (args: ReadonlyArray<Type>, receiver?: Type) => unknown
}

interface Registry {
  getListType: (element: Type) => Type
  getMapType: (key: Type, value: Type) => Type
  functionCandidates: (hasReceiver: boolean, name: string, args: number) => Candidates
  readonly findBinaryOverload: (
    operator: string,
    left: Type,
    right: Type
  ) => { readonly handler: Handle } | false
}

interface Evaluator {
  readonly registry: Registry
  readonly listType: Type
  readonly mapType: Type
  tryEval: (node: Node, context: unknown) => unknown
  debugTypeDeep: (value: unknown) => Type
  readonly debugType: (value: unknown) => Type
}

type Evaluate = (evaluator: Evaluator, node: unknown, context: unknown) => unknown
// operators, functions and loops get their operands at different positions
type Handle = (...operands: Array<any>) => unknown

interface Node {
  readonly op: string
  readonly args: unknown
  readonly input: string
  readonly meta: {
    readonly evaluate: Evaluate
    /** For a constant or a loop: the node that is evaluated in its place. */
    readonly alternate?: Node
    readonly macro?: { readonly evaluate: Evaluate }
  }
  evaluate: Evaluate
  handle?: Handle
}

/**
 * Limits the caches of the environment, and makes expressions pay for the errors that they catch. The cache of types
 * would keep one entry for every shape of data or expressions, under a name that is as long as the shape is large. The
 * cache of functions would keep every name that an expression calls, known or not.
 */
export const limitCaches = (environment: Environment): void => {
  const evaluator = evaluatorOf(environment)
  const { listType, mapType, registry } = evaluator

  // the type of an inner list or map says nothing about the content: the content is checked when it is accessed
  const flatten = (type: Type): Type =>
    type.kind === "list" ? listType : type.kind === "map" ? mapType : type
  const { functionCandidates, getListType, getMapType } = registry
  registry.getListType = (element) => getListType.call(registry, flatten(element))
  registry.getMapType = (key, value) => getMapType.call(registry, flatten(key), flatten(value))
  evaluator.debugTypeDeep = (value) => {
    const type = evaluator.debugType(value)
    if (!Array.isArray(value) || value.length === 0) return type
    return registry.getListType(evaluator.debugType(value[0]))
  }

  const names = new Set(environment.getDefinitions().functions.map(({ name }) => name))
  registry.functionCandidates = (hasReceiver, name, args) =>
    names.has(name) ? functionCandidates.call(registry, hasReceiver, name, args) : noCandidates

  // an expression may catch an error: `||` and `&&` do, when the other side decides
  evaluator.tryEval = (node, context) => {
    try {
      return node.evaluate(evaluator, node, context)
    } catch (error) {
      if (error instanceof BudgetExceeded) throw error
      // the first error of the evaluation has recorded a stack trace, which is expensive: later errors record none
      if (savedStackTraceLimit === undefined) {
        savedStackTraceLimit = Error.stackTraceLimit
        Error.stackTraceLimit = 0
      }
      // a new error copies the expression, so it costs; the same error, when an outer node throws it again, costs
      // nothing
      if (error !== lastError) pay(ERROR + (node.input.length >> 1))
      lastError = error
      return error
    }
  }
}

const noCandidates: Candidates = { macro: false, returnType: null, findFunction: () => null }

const evaluatorOf = (environment: Environment): Evaluator => {
  const parsed = environment.parse("true")
  let foundEvaluator: Evaluator | undefined
  node(parsed.ast).evaluate = (evaluator) => {
    foundEvaluator = evaluator
    return true
  }
  parsed()
  if (foundEvaluator === undefined)
    throw new Error(
      "This build of @ironflow/node has another version of its CEL library than the one that it was written for: the library does not " +
        "call `evaluate` of its nodes, so that the cost of expressions cannot be limited. Please report this"
    )
  return foundEvaluator
}

const node = (ast: unknown): Node => ast as Node // the shapes are those at the top of this section: the build has exactly one version of the library

// ---------------------------------------------------------------------------------------------------------------------
// Counting
// ---------------------------------------------------------------------------------------------------------------------

/** Makes every node of a checked syntax tree pay for its work. */
export const countNodes = (ast: unknown): void => {
  const countedNodes = new Set<Node>()
  const unvisited = [node(ast)]
  for (let current = unvisited.pop(); current !== undefined; current = unvisited.pop()) {
    if (countedNodes.has(current)) continue
    countedNodes.add(current)
    const { alternate, macro } = current.meta
    const parts = [...nodesIn(alternate ?? current.args), ...nodesIn(macro)]
    // the parent pays for its leaves
    unvisited.push(...parts.filter((part) => !leaves.has(part.op)))
    countNode(current, parts.filter((part) => leaves.has(part.op)).length)
  }
  for (const current of countedNodes) if (current.op === "map") countKeys(current)
}

const leaves: ReadonlySet<string> = new Set(["value", "id", "accuValue", "accuInc"])

/** The nodes that are arguments of a node, or members of a macro. */
const nodesIn = (value: unknown): ReadonlyArray<Node> => {
  if (Array.isArray(value)) return value.flatMap(nodesIn)
  if (typeof value !== "object" || value === null) return []
  if ("meta" in value && "evaluate" in value) return [node(value)]
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype
    ? Object.values(value).flatMap((member) =>
        Array.isArray(member) || (typeof member === "object" && member !== null && "meta" in member)
          ? nodesIn(member)
          : []
      )
    : []
}

const countNode = (target: Node, leafCount: number): void => {
  const { alternate, evaluate, macro } = target.meta
  const evaluatePart: Evaluate =
    alternate !== undefined
      ? (evaluator, _, context) => alternate.evaluate(evaluator, alternate, context)
      : macro !== undefined
        ? (evaluator, _, context) => macro.evaluate(evaluator, macro, context)
        : evaluate
  const size = sizeOf(target)
  const price = priceOf(target) + leafCount
  target.evaluate =
    size === 0
      ? (evaluator, self, context) => {
          pay(price)
          return evaluatePart(evaluator, self, context)
        }
      : (evaluator, self, context) => {
          pay(price)
          allocate(size)
          return evaluatePart(evaluator, self, context)
        }
  const { handle } = target
  if (handle !== undefined) target.handle = payingHandle(target, handle)
}

/** Makes the keys of a map literal pay, since the evaluation of the literal converts them to strings. */
const countKeys = ({ args }: Node): void => {
  for (const [key] of args as ReadonlyArray<readonly [Node, Node]>) {
    const evaluate = leaves.has(key.op) ? key.meta.evaluate : key.evaluate
    // only a list costs as a key, and a constant is never a list
    if (key.op === "value" || key.meta.alternate !== undefined) continue
    key.evaluate = (evaluator, self, context) => {
      const value = evaluate(evaluator, self, context)
      payForKey(value)
      return value
    }
  }
}

/** How many steps each evaluation of the node takes, whatever its operands. */
const priceOf = ({ op }: Node): number =>
  op === "call" || op === "rcall" ? CALL : operators.has(op) ? OPERATOR : 1

/** How many bytes each evaluation of the node allocates. */
const sizeOf = ({ args, op }: Node): number =>
  op === "list"
    ? 16 + 8 * (args as ReadonlyArray<Node>).length
    : op === "map"
      ? 64 * (1 + (args as ReadonlyArray<Node>).length)
      : op === "accuPush"
        ? 16
        : 0

const operators: ReadonlySet<string> = new Set(["+", "-", "*", "/", "%", "<", "<=", ">", ">="])
/** The price of an operator, which converts integers of the expression to the number type of the data. */
const OPERATOR = 4
/** The price of a call, which finds the function by the types of its arguments. */
const CALL = 25
/** The price of an error, which is thrown and caught. */
const ERROR = 150

const payingHandle = ({ args, op }: Node, handle: Handle): Handle => {
  switch (op) {
    case "+":
      return (left, right, ast, evaluator) => {
        payForSum(left, right)
        return handle(left, right, ast, evaluator)
      }
    case "==":
    case "!=":
      return (left, right, ast, evaluator) =>
        areContainers(left, right, evaluator)
          ? areEqual(left, right, ast, evaluator) === (op === "==")
          : (payForTexts(left, right), handle(left, right, ast, evaluator))
    case "<":
    case "<=":
    case ">":
    case ">=":
      return (left, right, ast, evaluator) => {
        payForTexts(left, right)
        return handle(left, right, ast, evaluator)
      }
    case "[]":
      return (value, key, ast, evaluator) => {
        payForKey(key)
        return handle(value, key, ast, evaluator)
      }
    case "in":
      return (value, collection, ast, evaluator) => {
        if (!Array.isArray(collection)) {
          payForKey(value)
          return handle(value, collection, ast, evaluator)
        }
        // throws for a value that has no type
        evaluator.debugTypeDeep(value)
        evaluator.debugTypeDeep(collection)
        return isAmong(value, collection, ast, evaluator)
      }
    case "comprehension":
      return (collection, ...others) => handle(elementsOf(collection), ...others)
    case "call":
    case "rcall": {
      const [name] = args as readonly [string]
      const payFor = functionPrices[name]
      // does not happen: an expression that calls an unknown function does not compile
      if (payFor === undefined) return handle
      return (given, ...others) => payFor(given, () => handle(given, ...others))
    }
    default:
      return handle
  }
}

const payForSum = (left: unknown, right: unknown): void => {
  if (typeof left === "string" && typeof right === "string") allocate(2 * (left.length + right.length))
  else if (Array.isArray(left) && Array.isArray(right)) {
    allocate(8 * (left.length + right.length))
    pay((left.length + right.length) >> 3)
  } else if (left instanceof Uint8Array && right instanceof Uint8Array) allocate(left.length + right.length)
}

/** Pays for a list that is the key of a map: it is converted to a string of all that it holds. */
const payForKey = (key: unknown): void => {
  if (!Array.isArray(key)) return
  pay(4)
  for (const element of key) {
    pay(4)
    if (typeof element === "string") allocate(2 * element.length)
    else payForKey(element)
  }
}

/** Pays for a comparison of texts. A step compares 64 characters of a string, or 8 bytes. */
const payForTexts = (left: unknown, right: unknown): void => {
  if (typeof left === "string" && typeof right === "string") pay(Math.min(left.length, right.length) >> 6)
  else if (left instanceof Uint8Array && right instanceof Uint8Array) pay(left.length >> 3)
}

/** The elements of a list, or the keys of a map. The library would collect these itself. */
const elementsOf = (collection: unknown): unknown =>
  typeof collection === "object" && collection !== null && !Array.isArray(collection)
    ? keysOf(collection)
    : collection

const keysOf = (value: object): ReadonlyArray<string> => {
  const keys = Object.keys(value)
  // each key of a large map costs more
  pay(keys.length > 128 ? 8 * keys.length : keys.length)
  return keys
}

// ---------------------------------------------------------------------------------------------------------------------
// Equality: the library compares two values completely in one call
// ---------------------------------------------------------------------------------------------------------------------

const areContainers = (left: unknown, right: unknown, evaluator: Evaluator): boolean => {
  if (typeof left !== "object" || typeof right !== "object" || left === null || right === null) return false
  const { kind } = evaluator.debugType(left)
  return (kind === "list" || kind === "map") && kind === evaluator.debugType(right).kind
}

const areEqual = (left: unknown, right: unknown, ast: unknown, evaluator: Evaluator): boolean => {
  if (typeof left === "string" && typeof right === "string") {
    if (left.length !== right.length) return false
    pay(left.length >> 6)
    return left === right
  }
  if (left === right) return true
  // an integer of the expression is compared with a number of the data
  if (typeof left === "bigint" && typeof right === "number")
    return Number.isInteger(right) && left === BigInt(right)
  if (typeof left === "number" && typeof right === "bigint")
    return Number.isInteger(left) && BigInt(left) === right
  if (typeof left !== "object" || typeof right !== "object") return false
  const type = evaluator.debugType(left)
  if (type !== evaluator.debugType(right)) return false
  if (type.kind === "list") {
    return areListsEqual(left as ReadonlyArray<unknown>, right as ReadonlyArray<unknown>, ast, evaluator)
  }
  // neither is `null` here: `null` has a type of its own, and equals only itself, which was checked above
  if (type.kind === "map") return areMapsEqual(left as Members, right as Members, ast, evaluator)
  pay(1)
  const overload = evaluator.registry.findBinaryOverload("==", type, type)
  return overload !== false && overload.handler(left, right, ast, evaluator) === true
}

interface Members {
  readonly [name: string]: unknown
}

const areListsEqual = (
  left: ReadonlyArray<unknown>,
  right: ReadonlyArray<unknown>,
  ast: unknown,
  evaluator: Evaluator
): boolean => {
  pay(1)
  if (left.length !== right.length) return false
  return left.every((element, i) => {
    pay(1)
    return areEqual(element, right[i], ast, evaluator)
  })
}

const areMapsEqual = (left: Members, right: Members, ast: unknown, evaluator: Evaluator): boolean => {
  pay(1)
  if (left === right) return true
  const keys = keysOf(left)
  if (keys.length !== keysOf(right).length) return false
  return keys.every((key) => key in right && areEqual(left[key], right[key], ast, evaluator))
}

const isAmong = (value: unknown, list: ReadonlyArray<unknown>, ast: unknown, evaluator: Evaluator): boolean =>
  list.some((element) => {
    pay(1)
    return areEqual(value, element, ast, evaluator)
  })

// ---------------------------------------------------------------------------------------------------------------------
// Functions
// ---------------------------------------------------------------------------------------------------------------------

/** Pays for a call, and makes the call. The first argument is the receiver, if the call has one. */
type PaidCall = (given: ReadonlyArray<unknown>, call: () => unknown) => unknown

const isMap = (value: unknown): value is object =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  [Object.prototype, null].includes(Object.getPrototypeOf(value))

const lengthOf = (value: unknown): number =>
  typeof value === "string" || value instanceof Uint8Array ? value.length : 0

/**
 * Pays for a function that reads its first argument, a text or bytes. The function allocates `size` bytes for each
 * character or byte of the argument. `price` is the number of steps for the call, besides those for the length.
 */
const payForReading =
  (size: number, price = 0): PaidCall =>
  ([value], call) => {
    const length = lengthOf(value)
    pay(price + (length >> 3))
    allocate(size * length)
    return call()
  }

/** Pays nothing, for a function that costs no more than a call: the node pays for the call. */
const payNothing: PaidCall = (_, call) => call()

/** Pays for a function that searches a text, by comparing a part at every position of the text. */
const payForSearch: PaidCall = ([text, part], call) => {
  pay(placesTimesLength(lengthOf(text), lengthOf(part)) / 32)
  return call()
}

const placesTimesLength = (text: number, part: number): number =>
  Math.max(0, text - part + 1) * Math.min(part, text)

/** Pays for a call with a time zone: to find the calendar of the zone takes as long as thousands of steps. */
const payForTimeZone: PaidCall = ([_, zone], call) => {
  if (zone !== undefined) {
    pay(2500 + lengthOf(zone))
    allocate(4096)
  }
  return call()
}

/** The prices of functions, by name: every function of the library has an entry. */
export const functionPrices: { readonly [name: string]: PaidCall | undefined } = {
  // loops pay by the nodes that they evaluate
  all: payNothing,
  exists: payNothing,
  exists_one: payNothing,
  map: payNothing,
  filter: payNothing,
  has: payNothing,
  bind: payNothing,

  dyn: payNothing,
  type: payNothing,
  bool: payForReading(0),
  int: payForReading(2, 50),
  uint: payForReading(2, 50),
  double: payForReading(2, 20),
  timestamp: payForReading(0, 50),
  duration: ([text], call) => {
    // the time in which the library finds the units grows with the cube of the number of digits
    pay(150 + lengthOf(text) ** 3 / 16)
    return call()
  },
  string: payForReading(2),
  bytes: payForReading(3),
  size: ([value], call) => {
    if (typeof value === "string") pay(value.length >> 1)
    return isMap(value) ? BigInt(keysOf(value).length) : call()
  },

  startsWith: ([, part], call) => {
    pay(lengthOf(part) >> 6)
    return call()
  },
  endsWith: ([, part], call) => {
    pay(lengthOf(part) >> 6)
    return call()
  },
  contains: ([text, part], call) =>
    typeof text === "string" && typeof part === "string" ? contains(text, part) : call(),
  indexOf: payForSearch,
  lastIndexOf: payForSearch,
  lowerAscii: payForReading(2),
  upperAscii: payForReading(2),
  trim: payForReading(2),
  substring: payForReading(0),
  split: (given, call) => {
    const [text, separator] = given
    if (typeof text === "string" && typeof separator === "string") {
      pay(placesTimesLength(text.length, separator.length) / 32)
      // the number of parts is counted only as far as the budget has room for them
      const parts = text.split(separator, Math.ceil((MAX_BYTES - bytes) / PART) + 1).length
      allocate(PART * parts)
      pay(parts)
      if (given.length > 2) allocate(2 * text.length)
    }
    return call()
  },
  join: ([list, separator], call) => {
    if (Array.isArray(list)) {
      pay(list.length)
      for (const part of list) allocate(2 * (lengthOf(part) + lengthOf(separator)))
    }
    return call()
  },
  // not called: `refuseRegularExpressions` refuses it, since a regular expression can run for very long
  matches: payNothing,

  json: payForReading(32, 50),
  hex: payForReading(4),
  base64: payForReading(4),
  at: payNothing,

  hasValue: payNothing,
  value: payNothing,
  none: payNothing,
  of: payNothing,
  or: payNothing,
  orValue: payNothing,

  getDate: payForTimeZone,
  getDayOfMonth: payForTimeZone,
  getDayOfWeek: payForTimeZone,
  getDayOfYear: payForTimeZone,
  getFullYear: payForTimeZone,
  getHours: payForTimeZone,
  getMilliseconds: payForTimeZone,
  getMinutes: payForTimeZone,
  getMonth: payForTimeZone,
  getSeconds: payForTimeZone
}

/** How many bytes each piece of a split string takes, besides its characters. */
const PART = 40

/** Searches in linear time (Knuth-Morris-Pratt). `includes` of the runtime may take quadratic time. */
const contains = (text: string, part: string): boolean => {
  if (part.length > text.length) return false
  if (part.length < 2 || text.length * part.length <= 65_536) {
    pay((text.length * part.length) >> 6)
    return text.includes(part)
  }
  pay((text.length + part.length) >> 3)
  allocate(4 * part.length)
  /** For each prefix of `part`: the length of its longest proper prefix that is also its suffix. */
  const borders = new Int32Array(part.length)
  for (let i = 1, border = 0; i < part.length; i++) {
    while (border > 0 && part.charCodeAt(i) !== part.charCodeAt(border)) border = borders[border - 1]!
    if (part.charCodeAt(i) === part.charCodeAt(border)) border++
    borders[i] = border
  }
  for (let i = 0, matched = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    while (matched > 0 && code !== part.charCodeAt(matched)) matched = borders[matched - 1]!
    if (code === part.charCodeAt(matched)) matched++
    if (matched === part.length) return true
  }
  return false
}
