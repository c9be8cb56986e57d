/**
 * What one evaluation of an expression may cost, and the library that evaluates it held to that.
 *
 * The library has no bound of its own: loops inside loops over lists that the expression itself writes down, texts and lists
 * that double, comparisons of all data with all data, each is one call that does not come back. Its tree does have one door:
 * every node is evaluated through its own `evaluate`, and combines what its parts have given through its own `handle`. Here
 * each node gets ones that pay first, so that the results stay the library's. What pays later than it works works once over
 * data of a bounded size.
 *
 * An evaluation is synchronous and none begins inside another: one pair of counters is enough.
 */
import type { Environment } from "@marcbachmann/cel-js"

/** About 10 ms: to evaluate one node costs one step, and so does what takes as long, about 30 ns. */
export const MAX_STEPS = 300_000
/** All that an evaluation allocates, whether or not it still needs it: texts, lists and maps, in bytes. */
export const MAX_BYTES = 1_000_000
/** What all evaluations for one event, or one command of the store, may take before the others get little. */
export const MAX_SHARED_STEPS = 2 * MAX_STEPS
/** Enough for what compares some members, and looks through a short list. */
export const FEW_STEPS = 2000
/** What those that get little may take together, before no more is evaluated: with the above less than a tenth of a second. */
export const MAX_FEW_STEPS = MAX_STEPS
/** What each event of a command adds to that, for commands with many events. */
const EVENT_STEPS = 1000
/** What it takes to compile a character of an expression that is not remembered: about a microsecond. */
const COMPILE_STEPS = 30

let steps = 0
let limit = MAX_STEPS
let bytes = 0
/** Those of all evaluations before this one. */
let earlierSteps = 0
/** Where the steps of the command that is carried out began. */
let sharedFrom: number | undefined
/** What the events of the command have added. */
let added = 0
let stackTraces: number | undefined
let lastError: unknown

/** The evaluation has spent what it may: nothing in the expression can catch that. */
export class BudgetExceeded extends Error {
  override readonly name = "BudgetExceeded"
}

const tooLong = new BudgetExceeded(
  `it was given up after ${MAX_STEPS} steps: each part of the expression that is evaluated is one, in loops for every element, and long texts and lists are more`
)
const tooLongTogether = new BudgetExceeded(
  `it was given up after ${FEW_STEPS} steps, because the expressions that were evaluated just before it have taken long`
)
const notBegun = new BudgetExceeded(
  "it was given up before it began, because the expressions that were evaluated just before it have taken long"
)
const tooLarge = new BudgetExceeded(
  `it was given up because it makes more than ${MAX_BYTES} bytes of texts, lists and maps`
)

const pay = (amount: number): void => {
  if ((steps += amount) > limit) throw limit === MAX_STEPS ? tooLong : tooLongTogether
}

const allocate = (amount: number): void => {
  if ((bytes += amount) > MAX_BYTES) throw tooLarge
}

/** What the last evaluation has spent. */
export const spent = (): { readonly steps: number; readonly bytes: number } => ({ steps, bytes })

/**
 * All steps that were ever taken. Whoever evaluates many expressions in a row lets others go on each time that this has grown
 * by `MAX_STEPS`.
 */
export const stepsTaken = (): number => earlierSteps + steps

/**
 * Carries out a command that may evaluate any number of expressions, as many as there are functions and waits for an event:
 * when some have taken long, the others still get enough for simple ones.
 */
export const together = <A>(command: () => A): A => {
  if (sharedFrom !== undefined) return command()
  sharedFrom = stepsTaken()
  added = 0
  try {
    return command()
  } finally {
    sharedFrom = undefined
  }
}

/** Tells that the evaluations which follow are for another event of the same command. */
export const nextEvent = (): void => {
  added += EVENT_STEPS
}

/**
 * What one asker may spend in a turn of the event loop, who asks once for each of any number of things, such as the items of a list:
 * as {@link together} says, and enough for simple expressions however many they are.
 */
export class TurnBudget {
  readonly #inNextTurn: (f: () => void) => void
  #spent = 0
  #added = 0
  #hasBegun = false

  /** `inNextTurn` calls a function in the next turn of the event loop. */
  constructor(inNextTurn: (f: () => void) => void) {
    this.#inNextTurn = inNextTurn
  }

  evaluate<A>(evaluate: () => A): A {
    if (sharedFrom !== undefined) return evaluate()
    if (!this.#hasBegun) {
      this.#hasBegun = true
      this.#inNextTurn(() => {
        this.#hasBegun = false
        this.#spent = this.#added = 0
      })
    }
    const before = stepsTaken()
    sharedFrom = before - this.#spent
    added = this.#added += EVENT_STEPS
    try {
      return evaluate()
    } finally {
      sharedFrom = undefined
      this.#spent += stepsTaken() - before
    }
  }
}

/** How many steps the next evaluation may take. */
const stepsLeft = (): number => {
  if (sharedFrom === undefined) return MAX_STEPS
  const taken = earlierSteps - sharedFrom
  if (taken <= MAX_SHARED_STEPS + added) return MAX_STEPS
  // the last one that had all may have begun just before
  return taken <= MAX_SHARED_STEPS + MAX_STEPS + MAX_FEW_STEPS + added ? FEW_STEPS : 0
}

/** Pays for the compilation of an expression, where it is one of many. Throws `BudgetExceeded` when there is no room for it. */
export const payForCompiling = (length: number): void => {
  if (sharedFrom === undefined) return
  earlierSteps += steps
  steps = 0
  const cost = length * COMPILE_STEPS
  const left = stepsLeft()
  if (cost > left) throw left === 0 ? notBegun : tooLongTogether
  earlierSteps += cost
}

/** Evaluates within a budget of its own. Throws what the expression throws, or `BudgetExceeded`. */
export const withinBudget = <Variables>(
  evaluate: (variables: Variables) => unknown,
  variables: Variables
): unknown => {
  earlierSteps += steps
  steps = 0
  limit = stepsLeft()
  if (limit === 0) throw notBegun
  bytes = 0
  try {
    return evaluate(variables)
  } finally {
    if (stackTraces !== undefined) {
      Error.stackTraceLimit = stackTraces
      stackTraces = undefined
      lastError = undefined
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// What is used of the inside of the library, which the build puts into this package in exactly one version
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
// operators, functions and loops get their operands in different places
type Handle = (...operands: Array<any>) => unknown

interface Node {
  readonly op: string
  readonly args: unknown
  readonly input: string
  readonly meta: {
    readonly evaluate: Evaluate
    /** What stands in the place of a constant or a loop. */
    readonly alternate?: Node
    readonly macro?: { readonly evaluate: Evaluate }
  }
  evaluate: Evaluate
  handle?: Handle
}

/**
 * Bounds what the environment remembers: of types it would keep one for every shape that data or expressions have, with a name
 * as long as the shape is large, and of functions every name that an expression calls, known or not.
 */
export const boundMemory = (environment: Environment): void => {
  const evaluator = insideOf(environment)
  const { listType, mapType, registry } = evaluator

  // inside of a list or map only the kind is of interest: what is in there is looked at when it is reached
  const flat = (type: Type): Type => (type.kind === "list" ? listType : type.kind === "map" ? mapType : type)
  const { functionCandidates, getListType, getMapType } = registry
  registry.getListType = (element) => getListType.call(registry, flat(element))
  registry.getMapType = (key, value) => getMapType.call(registry, flat(key), flat(value))
  evaluator.debugTypeDeep = (value) => {
    const type = evaluator.debugType(value)
    if (!Array.isArray(value) || value.length === 0) return type
    return registry.getListType(evaluator.debugType(value[0]))
  }

  const names = new Set(environment.getDefinitions().functions.map(({ name }) => name))
  registry.functionCandidates = (hasReceiver, name, args) =>
    names.has(name) ? functionCandidates.call(registry, hasReceiver, name, args) : nobody

  // errors may be outvoted, as by the other side of `||`
  evaluator.tryEval = (node, context) => {
    try {
      return node.evaluate(evaluator, node, context)
    } catch (error) {
      if (error instanceof BudgetExceeded) throw error
      // the first is as dear as all others together when each notes where it was thrown
      if (stackTraces === undefined) {
        stackTraces = Error.stackTraceLimit
        Error.stackTraceLimit = 0
      }
      // it is made once, with a copy of the text in which it points, and thrown on by what it ends
      if (error !== lastError) pay(ERROR + (node.input.length >> 1))
      lastError = error
      return error
    }
  }
}

const nobody: Candidates = { macro: false, returnType: null, findFunction: () => null }

const insideOf = (environment: Environment): Evaluator => {
  const parsed = environment.parse("true")
  let inside: Evaluator | undefined
  node(parsed.ast).evaluate = (evaluator) => {
    inside = evaluator
    return true
  }
  parsed()
  if (inside === undefined) throw new Error("the CEL library does not evaluate through its nodes")
  return inside
}

const node = (ast: unknown): Node => ast as Node // see above

// ---------------------------------------------------------------------------------------------------------------------
// Counting
// ---------------------------------------------------------------------------------------------------------------------

/** Makes every node of the checked tree pay for what it does. */
export const countNodes = (ast: unknown): void => {
  const seen = new Set<Node>()
  const left = [node(ast)]
  for (let one = left.pop(); one !== undefined; one = left.pop()) {
    if (seen.has(one)) continue
    seen.add(one)
    const { alternate, macro } = one.meta
    const parts = [...nodesIn(alternate ?? one.args), ...nodesIn(macro)]
    // the parent pays for its leaves
    left.push(...parts.filter((part) => !leaves.has(part.op)))
    count(one, parts.filter((part) => leaves.has(part.op)).length)
  }
  for (const one of seen) if (one.op === "map") countKeys(one)
}

const leaves: ReadonlySet<string> = new Set(["value", "id", "accuValue", "accuInc"])

/** Nodes among the arguments of a node or the members of a macro. */
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

const count = (one: Node, ofLeaves: number): void => {
  const { alternate, evaluate, macro } = one.meta
  const inner: Evaluate =
    alternate !== undefined
      ? (evaluator, _, context) => alternate.evaluate(evaluator, alternate, context)
      : macro !== undefined
        ? (evaluator, _, context) => macro.evaluate(evaluator, macro, context)
        : evaluate
  const size = sizeOf(one)
  const price = priceOf(one) + ofLeaves
  one.evaluate =
    size === 0
      ? (evaluator, self, context) => {
          pay(price)
          return inner(evaluator, self, context)
        }
      : (evaluator, self, context) => {
          pay(price)
          allocate(size)
          return inner(evaluator, self, context)
        }
  const { handle } = one
  if (handle !== undefined) one.handle = payingHandle(one, handle)
}

/** A map that is written down makes texts of its keys by itself. */
const countKeys = ({ args }: Node): void => {
  for (const [key] of args as ReadonlyArray<readonly [Node, Node]>) {
    const evaluate = leaves.has(key.op) ? key.meta.evaluate : key.evaluate
    // a constant is no list
    if (key.op === "value" || key.meta.alternate !== undefined) continue
    key.evaluate = (evaluator, self, context) => {
      const value = evaluate(evaluator, self, context)
      payForKey(value)
      return value
    }
  }
}

/** Steps for what every evaluation of the node does, whatever its parts give. */
const priceOf = ({ op }: Node): number =>
  op === "call" || op === "rcall" ? CALL : operators.has(op) ? OPERATOR : 1

/** Bytes that every evaluation of the node allocates. */
const sizeOf = ({ args, op }: Node): number =>
  op === "list"
    ? 16 + 8 * (args as ReadonlyArray<Node>).length
    : op === "map"
      ? 64 * (1 + (args as ReadonlyArray<Node>).length)
      : op === "accuPush"
        ? 16
        : 0

const operators: ReadonlySet<string> = new Set(["+", "-", "*", "/", "%", "<", "<=", ">", ">="])
/** Whole numbers of the expression and numbers of the data are not of one kind. */
const OPERATOR = 4
/** A function is found by the types of what it is given. */
const CALL = 25
/** An error that is thrown and caught. */
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
        // what has no type is an error
        evaluator.debugTypeDeep(value)
        evaluator.debugTypeDeep(collection)
        return isAmong(value, collection, ast, evaluator)
      }
    case "comprehension":
      return (collection, ...others) => handle(elementsOf(collection), ...others)
    case "call":
    case "rcall": {
      const [name] = args as readonly [string]
      const payFor = functions[name]
      // has no price because it has no arguments that could be large
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

/** A list that is the key of a map becomes a text of all that is in it. */
const payForKey = (key: unknown): void => {
  if (!Array.isArray(key)) return
  pay(4)
  for (const element of key) {
    pay(4)
    if (typeof element === "string") allocate(2 * element.length)
    else payForKey(element)
  }
}

/** Comparisons go through 64 characters in a step, and through fewer bytes. */
const payForTexts = (left: unknown, right: unknown): void => {
  if (typeof left === "string" && typeof right === "string") pay(Math.min(left.length, right.length) >> 6)
  else if (left instanceof Uint8Array && right instanceof Uint8Array) pay(left.length >> 3)
}

/** The keys of a map, for which the library would make the list itself, and the elements of a list. */
const elementsOf = (collection: unknown): unknown =>
  typeof collection === "object" && collection !== null && !Array.isArray(collection)
    ? keysOf(collection)
    : collection

const keysOf = (value: object): ReadonlyArray<string> => {
  const keys = Object.keys(value)
  // the runtime keeps those of large maps in no order
  pay(keys.length > 128 ? 8 * keys.length : keys.length)
  return keys
}

// ---------------------------------------------------------------------------------------------------------------------
// Equality: the library's compares all of two values in one call
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
  // whole numbers of the expression and numbers of the data
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
  // `null` is equal to itself only, and has gone above
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

/** Pays for a call and makes it; the first of what is given is the receiver, if there is one. */
type Paying = (given: ReadonlyArray<unknown>, call: () => unknown) => unknown

const isMap = (value: unknown): value is object =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  [Object.prototype, null].includes(Object.getPrototypeOf(value))

const lengthOf = (value: unknown): number =>
  typeof value === "string" || value instanceof Uint8Array ? value.length : 0

/** Reads its first argument, and makes as much as `size` times its length of it; takes `price` steps for short ones. */
const reads =
  (size: number, price = 0): Paying =>
  ([value], call) => {
    const length = lengthOf(value)
    pay(price + (length >> 3))
    allocate(size * length)
    return call()
  }

const atOnce: Paying = (_, call) => call()

/** Looks at every place of a text, and at each compares as much as there is to find. */
const searches: Paying = ([text, part], call) => {
  pay(placesTimesLength(lengthOf(text), lengthOf(part)) / 32)
  return call()
}

const placesTimesLength = (text: number, part: number): number =>
  Math.max(0, text - part + 1) * Math.min(part, text)

/** In a time zone: the calendar of the zone is asked, which takes as long as thousands of steps. */
const inTimeZone: Paying = ([_, zone], call) => {
  if (zone !== undefined) {
    pay(2500 + lengthOf(zone))
    allocate(4096)
  }
  return call()
}

/** All functions of the library. A function that is missing here is one that nobody has put a price on. */
export const functions: { readonly [name: string]: Paying | undefined } = {
  // loops are paid for by what they evaluate
  all: atOnce,
  exists: atOnce,
  exists_one: atOnce,
  map: atOnce,
  filter: atOnce,
  has: atOnce,
  bind: atOnce,

  dyn: atOnce,
  type: atOnce,
  bool: reads(0),
  int: reads(2, 50),
  uint: reads(2, 50),
  double: reads(2, 20),
  timestamp: reads(0, 50),
  duration: ([text], call) => {
    // the library looks for the unit from every digit on, through all digits, cut in two in every way
    pay(150 + lengthOf(text) ** 3 / 16)
    return call()
  },
  string: reads(2),
  bytes: reads(3),
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
  indexOf: searches,
  lastIndexOf: searches,
  lowerAscii: reads(2),
  upperAscii: reads(2),
  trim: reads(2),
  substring: reads(0),
  split: (given, call) => {
    const [text, separator] = given
    if (typeof text === "string" && typeof separator === "string") {
      pay(placesTimesLength(text.length, separator.length) / 32)
      // no further than what there is room for
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
  // a regular expression can run for very long, see `refuseUnbounded`
  matches: atOnce,

  json: reads(32, 50),
  hex: reads(4),
  base64: reads(4),
  at: atOnce,

  hasValue: atOnce,
  value: atOnce,
  none: atOnce,
  of: atOnce,
  or: atOnce,
  orValue: atOnce,

  getDate: inTimeZone,
  getDayOfMonth: inTimeZone,
  getDayOfWeek: inTimeZone,
  getDayOfYear: inTimeZone,
  getFullYear: inTimeZone,
  getHours: inTimeZone,
  getMilliseconds: inTimeZone,
  getMinutes: inTimeZone,
  getMonth: inTimeZone,
  getSeconds: inTimeZone
}

/** Bytes of a piece of a text, besides the text. */
const PART = 40

/** Where the search of the runtime may take the product of the lengths, one that takes their sum (Knuth, Morris, Pratt). */
const contains = (text: string, part: string): boolean => {
  if (part.length > text.length) return false
  if (part.length < 2 || text.length * part.length <= 65_536) {
    pay((text.length * part.length) >> 6)
    return text.includes(part)
  }
  pay((text.length + part.length) >> 3)
  allocate(4 * part.length)
  /** Of each beginning of the part, how much of its end is a beginning again. */
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
