/** Identifiers: types that keep them apart, and the making of new ones. */

declare const brand: unique symbol

/** A `T` that is known to be a `Name`. At run time it is the `T`. */
export type Branded<T, Name extends string> = T & {
  /** Keeps ids of different things apart; there is no such member when a program runs. */ readonly [brand]: Name
}

/** Id of a run, as a type of its own. */
export type RunId = Branded<string, "RunId">
/** Id of a function, as a type of its own. */
export type FunctionId = Branded<string, "FunctionId">
/** Id of a step, as a type of its own. */
export type StepId = Branded<string, "StepId">
/** Id of an event, as a type of its own. */
export type EventId = Branded<string, "EventId">
/** Id of a job, as a type of its own. */
export type JobId = Branded<string, "JobId">
/** Id of a worker, as a type of its own. */
export type WorkerId = Branded<string, "WorkerId">
/** Id of a subscription, as a type of its own. */
export type SubscriptionId = Branded<string, "SubscriptionId">

// A brand exists for the compiler only, so giving one is a cast.
/** A text as the id of a run. The text is not looked at. */
export const createRunId = (id: string): RunId => id as RunId
/** A text as the id of a function. The text is not looked at. */
export const createFunctionId = (id: string): FunctionId => id as FunctionId
/** A text as the id of a step. The text is not looked at. */
export const createStepId = (id: string): StepId => id as StepId
/** A text as the id of an event. The text is not looked at. */
export const createEventId = (id: string): EventId => id as EventId
/** A text as the id of a job. The text is not looked at. */
export const createJobId = (id: string): JobId => id as JobId
/** A text as the id of a worker. The text is not looked at. */
export const createWorkerId = (id: string): WorkerId => id as WorkerId
/** A text as the id of a subscription. The text is not looked at. */
export const createSubscriptionId = (id: string): SubscriptionId => id as SubscriptionId

/**
 * Makes ids: a prefix that says what for, and 25 characters of `[0-9a-z]`. Later ids of one generator sort after earlier
 * ones of their kind.
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
  /** `key_...`: an API key, which this names and does not reveal. */
  readonly apiKey: () => string
  /** `org_...` */
  readonly org: () => string
  /** `role_...` */
  readonly role: () => string
  /** `policy_...` */
  readonly policy: () => string
  /** `hook_...`: a call of a hook. */
  readonly hookCall: () => string
  /** `bulk_...`: something that is done to many runs. */
  readonly bulk: () => string
}

/** One of several generators that take turns. */
export interface SharedIds extends IdGenerator {
  /** The time in the newest id, epoch milliseconds; -1 when there is none. */
  readonly lastTime: () => number
  /** Another generator has made ids up to this time: those that this one makes sort after them. */
  readonly follow: (time: number) => void
}

const timeWidth = 9
const countWidth = 4
const randomWidth = 6
const maxCount = 32 ** countWidth
const maxRandom = 32 ** randomWidth

/**
 * A generator over a clock (`nowMs`, epoch milliseconds) and a source of chance (`randomInt(n)`: an integer from 0 to
 * `n - 1`). Ids hold the time, a count within the millisecond that starts anywhere in its lower half, and 60 random
 * bits. A clock that stands still or goes back does not disturb their order, nor that to an id of another generator from
 * before: `after`.
 */
export const makeIdGenerator = (
  nowMs: () => number,
  randomInt: (below: number) => number,
  after?: string
): SharedIds => {
  let time = after === undefined ? -1 : timeOf(after) + 1
  let count = 0
  let timeText = after === undefined ? "" : base32(time, timeWidth)
  const make = (prefix: string) => () => {
    const now = Math.floor(nowMs())
    if (now > time) {
      time = now
      count = randomInt(maxCount / 2)
      timeText = base32(time, timeWidth)
    } else if (++count === maxCount) {
      // More ids in a millisecond than there are counts: borrow the next one.
      time += 1
      count = 0
      timeText = base32(time, timeWidth)
    }
    return (
      prefix +
      timeText +
      base32(count, countWidth) +
      base32(randomInt(maxRandom), randomWidth) +
      base32(randomInt(maxRandom), randomWidth)
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
    follow: (other) => {
      if (other < time) return
      time = other + 1
      count = 0
      timeText = base32(time, timeWidth)
    }
  }
}

/** Digits in the order of their character codes, without the letters that are easily misread. */
const digits = "0123456789abcdefghjkmnpqrstvwxyz"

/** The time in an id, epoch milliseconds; one before all others when there is none. It is as late as that of any id before it. */
export const timeOf = (id: string): number => {
  const start = id.search(/[_-]/) + 1
  let time = 0
  for (let i = start; i < start + timeWidth; i++) {
    const digit = digits.indexOf(id.charAt(i) || " ")
    if (digit < 0) return -1
    time = time * 32 + digit
  }
  return time
}

/** All pairs of digits: every run has three ids, and a text that is put together out of single digits costs each of them. */
const pairs: ReadonlyArray<string> = Array.from(
  { length: 32 * 32 },
  (_, i) => digits.charAt(Math.floor(i / 32)) + digits.charAt(i % 32)
)

const base32 = (value: number, width: number): string => {
  let text = ""
  let rest = value
  let left = width
  for (; left >= 2; left -= 2) {
    text = pairs[rest % 1024]! + text
    rest = Math.floor(rest / 1024)
  }
  return left === 0 ? text : digits.charAt(rest % 32) + text
}

/** An id for one's own use: `<time>-<chance>`, both in base 36. */
export const generateId = (): string => {
  // A plain function for users, outside every Effect: there is no Clock or Random service to ask.
  const chance = Math.random().toString(36).slice(2, 8)
  return `${Date.now().toString(36)}-${chance === "" ? "0" : chance}`
}
