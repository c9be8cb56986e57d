/** Ids: branded types and generators. */

declare const brand: unique symbol

/** A `T` that is branded with `Name`. At run time it is a plain `T`. */
export type Branded<T, Name extends string> = T & {
  /** Distinguishes ids of different things at compile time; absent at run time. */ readonly [brand]: Name
}

/** Id of a run, as a branded type. */
export type RunId = Branded<string, "RunId">
/** Id of a function, as a branded type. */
export type FunctionId = Branded<string, "FunctionId">
/** Id of a step, as a branded type. */
export type StepId = Branded<string, "StepId">
/** Id of an event, as a branded type. */
export type EventId = Branded<string, "EventId">
/** Id of a job, as a branded type. */
export type JobId = Branded<string, "JobId">
/** Id of a worker, as a branded type. */
export type WorkerId = Branded<string, "WorkerId">
/** Id of a subscription, as a branded type. */
export type SubscriptionId = Branded<string, "SubscriptionId">

// A brand only exists at compile time, so branding is a cast.
/** A string as the id of a run. The string is not checked. */
export const createRunId = (id: string): RunId => id as RunId
/** A string as the id of a function. The string is not checked. */
export const createFunctionId = (id: string): FunctionId => id as FunctionId
/** A string as the id of a step. The string is not checked. */
export const createStepId = (id: string): StepId => id as StepId
/** A string as the id of an event. The string is not checked. */
export const createEventId = (id: string): EventId => id as EventId
/** A string as the id of a job. The string is not checked. */
export const createJobId = (id: string): JobId => id as JobId
/** A string as the id of a worker. The string is not checked. */
export const createWorkerId = (id: string): WorkerId => id as WorkerId
/** A string as the id of a subscription. The string is not checked. */
export const createSubscriptionId = (id: string): SubscriptionId => id as SubscriptionId

/**
 * Generates ids: a prefix for the kind, and 25 characters of `[0-9a-z]`. Ids of one kind sort in the order in which a generator
 * made them.
 */
export interface IdGenerator {
  /** `run_...` */
  readonly run: () => string
  /** `evt_...` */
  readonly event: () => string
  /** `msg_...`: a published message. */
  readonly message: () => string
  /** `snap_...`: a snapshot of an entity's state. */
  readonly snapshot: () => string
  /** `job_...`: a lease on a run. */
  readonly job: () => string
  /** `sub_...` */
  readonly subscription: () => string
  /** `worker-...` */
  readonly worker: () => string
  /** `key_...`: an API key. It names the key without revealing it. */
  readonly apiKey: () => string
  /** `org_...` */
  readonly org: () => string
  /** `role_...` */
  readonly role: () => string
  /** `policy_...` */
  readonly policy: () => string
  /** `hook_...`: a call of a hook. */
  readonly hookCall: () => string
  /** `bulk_...`: a bulk operation. */
  readonly bulk: () => string
}

/** A generator that can continue the order of the ids of other generators. */
export interface SharedIds extends IdGenerator {
  /** The time in the newest id of this generator, in epoch milliseconds; -1 when there is no id yet. */
  readonly lastTime: () => number
  /**
   * Tells this generator that another one has made ids up to a time: from now on the ids of this generator sort after
   * them.
   */
  readonly follow: (time: number) => void
}

const TIME_WIDTH = 9
const COUNT_WIDTH = 4
const RANDOM_WIDTH = 6
const maxCount = 32 ** COUNT_WIDTH
const maxRandom = 32 ** RANDOM_WIDTH

/**
 * Makes a generator from a clock (`nowMs`, epoch milliseconds) and a random source (`randomInt(n)`: an
 * integer from 0 to `n - 1`). An id holds the time, a count of the ids within a millisecond, and 60 random bits. The
 * count starts at a random number in the lower half of its range. Ids stay in order when the clock stands still or
 * goes back. They sort after `after`, an earlier id of another generator.
 */
export const makeIdGenerator = (
  nowMs: () => number,
  randomInt: (below: number) => number,
  after?: string
): SharedIds => {
  let time = after === undefined ? -1 : timeOf(after) + 1
  let count = 0
  let timeText = after === undefined ? "" : base32(time, TIME_WIDTH)
  const make = (prefix: string) => () => {
    const now = Math.floor(nowMs())
    if (now > time) {
      time = now
      count = randomInt(maxCount / 2)
      timeText = base32(time, TIME_WIDTH)
    } else if (++count === maxCount) {
      // the counts of this millisecond are used up: the ids go on with the next millisecond
      time += 1
      count = 0
      timeText = base32(time, TIME_WIDTH)
    }
    return (
      prefix +
      timeText +
      base32(count, COUNT_WIDTH) +
      base32(randomInt(maxRandom), RANDOM_WIDTH) +
      base32(randomInt(maxRandom), RANDOM_WIDTH)
    )
  }
  return {
    run: make("run_"),
    event: make("evt_"),
    message: make("msg_"),
    snapshot: make("snap_"),
    job: make("job_"),
    subscription: make("sub_"),
    worker: make("worker-"),
    apiKey: make("key_"),
    org: make("org_"),
    role: make("role_"),
    policy: make("policy_"),
    hookCall: make("hook_"),
    bulk: make("bulk_"),
    lastTime: () => time,
    follow: (otherTime) => {
      if (otherTime < time) return
      time = otherTime + 1
      count = 0
      timeText = base32(time, TIME_WIDTH)
    }
  }
}

/** Digits in the order of their character codes. Letters that are easily misread are left out. */
const digits = "0123456789abcdefghjkmnpqrstvwxyz"

/**
 * The time in an id, in epoch milliseconds; -1 when the id has none. Of two ids of one kind, the id that sorts higher
 * never has the earlier time.
 */
export const timeOf = (id: string): number => {
  const start = id.search(/[_-]/) + 1
  let time = 0
  for (let i = start; i < start + TIME_WIDTH; i++) {
    const digit = digits.indexOf(id.charAt(i) || " ")
    if (digit < 0) return -1
    time = time * 32 + digit
  }
  return time
}

/** All pairs of digits, at the index of their value. To write ids digit by digit would be slower. */
const pairs: ReadonlyArray<string> = Array.from(
  { length: 32 * 32 },
  (_, i) => digits.charAt(Math.floor(i / 32)) + digits.charAt(i % 32)
)

const base32 = (value: number, width: number): string => {
  let text = ""
  let rest = value
  let digitsLeft = width
  for (; digitsLeft >= 2; digitsLeft -= 2) {
    text = pairs[rest % 1024]! + text
    rest = Math.floor(rest / 1024)
  }
  return digitsLeft === 0 ? text : digits.charAt(rest % 32) + text
}

/** A simple id for your own use: `<time>-<random>`, both in base 36. */
export const generateId = (): string => {
  // a plain function outside of Effects, where there is no Clock or Random service
  const random = Math.random().toString(36).slice(2, 8)
  return `${Date.now().toString(36)}-${random === "" ? "0" : random}`
}
