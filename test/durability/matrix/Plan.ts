/** The plan of a storm for a seed: requests, and strikes between them. */
import { type Dice, type Item, makeDice, makeItems } from "../Plan.ts"
import { type Fault, faults, impossible, isPush, type Transport } from "./Cells.ts"

/** How long something lasts: a number of milliseconds, or until others have taken over or should have. */
export type Lasting = number | "until takeover"

export type Strike =
  | { readonly fault: "engine-sigterm" | "engine-sigkill" | "worker-sigkill" }
  | { readonly fault: "engine-freeze"; readonly ms: number }
  | { readonly fault: "worker-freeze"; readonly lasting: Lasting }
  /** Breaks connections in the middle of their traffic; then new ones are refused. */
  | { readonly fault: "cut"; readonly lasting: Lasting }
  /**
   * Sockets stay open and carry nothing to the engine (`up`), to the worker (`down`), or both. Afterwards they break,
   * or continue if this `heals`.
   */
  | {
      readonly fault: "half-open"
      readonly lasting: Lasting
      readonly deaf: "up" | "down" | "both"
      readonly heals: boolean
    }
  | { readonly fault: "garbage"; readonly lasting: Lasting; readonly kind: Garbage }
  /** Everything arrives `each` milliseconds later. */
  | { readonly fault: "delay"; readonly ms: number; readonly each: number }
  /** Flips a bit in one of `oneIn` chunks that workers send. */
  | { readonly fault: "flip"; readonly ms: number; readonly oneIn: number }
  | { readonly fault: "disk-full"; readonly ms: number; readonly isKilled: boolean }
  /**
   * Shifts the engine's clock by `shift`: at once, or, if `isKilled`, when the engine starts again after a kill of it
   * and of a worker.
   */
  | { readonly fault: "clock"; readonly shift: number; readonly isKilled: boolean }

/** What a proxy in between may answer. */
export type Garbage = "bytes" | "page" | "unavailable"

export interface StormPlan {
  readonly transport: Transport
  /** The fault of its cell, or `random`. */
  readonly fault: Fault | "random"
  readonly seed: number
  /** The term of a lease, milliseconds. */
  readonly leaseMs: number
  /** How much later others may take over than they should, milliseconds: 0 unless the machine is busy. */
  readonly slackMs: number
  /** The requests before each strike, and after the last one. */
  readonly shares: ReadonlyArray<ReadonlyArray<Item>>
  readonly strikes: ReadonlyArray<Strike>
  /** The offset of the first engine's clock, milliseconds. */
  readonly shift: number
}

/** How far a clock jumps. An app refuses a request whose time is five minutes off. */
const jumpMs = (transport: Transport): number => (isPush(transport) ? 4 * 60_000 : 3_600_000)

/** How long the engine waits for the response of an app: longer than any body takes here. */
export const pushTimeoutMs = (leaseMs: number): number => 2 * leaseMs

/** The latest time after a strike at which others continue the victim's runs, unless its connection closes before. */
export const takeoverMs = ({ leaseMs, transport }: Pick<StormPlan, "leaseMs" | "transport">): number =>
  // a request that was lost is sent again after a second
  isPush(transport) ? pushTimeoutMs(leaseMs) + 2000 : leaseMs + 1000

export const makeStormPlan = (
  transport: Transport,
  fault: Fault | "random",
  seed: number,
  leaseMs: number
): StormPlan => {
  const dice = makeDice(seed)
  const possible = faults.filter((fault) => impossible({ transport, fault }) === undefined)
  const count = fault === "random" ? dice.between(2, 4) : dice.between(2, 3)
  const strikes = Array.from({ length: count }, (_, nth) =>
    makeStrike(dice, fault === "random" ? dice.pick(possible) : fault, {
      transport,
      leaseMs,
      nth,
      // each seed begins with another kind
      first: seed - 1
    })
  )
  return withStrikes(transport, fault, strikes, { seed, leaseMs, size: dice.between(24, 36) })
}

/** A storm with given strikes, and about `size` requests between them. */
export const withStrikes = (
  transport: Transport,
  fault: Fault | "random",
  strikes: ReadonlyArray<Strike>,
  {
    leaseMs,
    seed,
    size,
    slackMs = 0
  }: { readonly leaseMs: number; readonly seed: number; readonly size: number; readonly slackMs?: number }
): StormPlan => {
  const dice = makeDice(seed + 1)
  const work = () => dice.pick([5, 5, 20, 20, 60, 150, 400, dice.between(5, 1500)])
  const items = makeItems(dice, size, work)
  const shareSize = Math.ceil(items.length / (strikes.length + 1))
  const shares = Array.from({ length: strikes.length + 1 }, (_, nth) => {
    const share = items.slice(nth * shareSize, (nth + 1) * shareSize)
    const strike = strikes[nth]
    return strike === undefined ? share : [...longItems(dice, nth, longestWork(strike, leaseMs)), ...share]
  })
  return {
    transport,
    fault,
    seed,
    leaseMs,
    slackMs,
    shares,
    strikes,
    shift: strikes.some(({ fault }) => fault === "clock") ? jumpMs(transport) : 0
  }
}

interface Circumstances {
  readonly transport: Transport
  readonly leaseMs: number
  readonly nth: number
  readonly first: number
}

/**
 * The duration of the longest bodies: longer than a lease, so that others would run such a body again while it still
 * runs, if it were not stopped.
 */
const longestWork = (strike: Strike, leaseMs: number): number | undefined => {
  const isLong =
    strike.fault === "engine-freeze"
      ? strike.ms > leaseMs
      : "lasting" in strike && strike.lasting === "until takeover"
  return isLong ? leaseMs + 2000 : undefined
}

/** Items with steps so long that a strike finds them running; some take `longest`. */
const longItems = (dice: Dice, nth: number, longest: number | undefined): ReadonlyArray<Item> => [
  ...longOrders(dice, String(nth)),
  ...Array.from({ length: longest === undefined ? 0 : 4 }, (_, i): Item => {
    const data = { orderId: `nobody-${nth}-${i}`, amount: 99, work: longest ?? 0 }
    return { op: "emit", key: `payment.received/long/${nth}/${i}`, name: "payment.received", data }
  })
]

export const longOrders = (dice: Dice, which: string): ReadonlyArray<Item> =>
  Array.from({ length: 4 }, (_, i): Item => {
    const data = { orderId: `long-${which}-${i}`, work: dice.between(600, 1500), pause: dice.between(5, 50) }
    return { op: "emit", key: `order.placed/long/${which}/${i}`, name: "order.placed", data }
  })

/** The `nth` strike of a storm. `first` chooses the kind of the first one. */
const makeStrike = (dice: Dice, fault: Fault, { first, leaseMs, nth, transport }: Circumstances): Strike => {
  /** Shorter than a lease. */
  const short = () => dice.between(100, Math.floor(leaseMs * 0.4))
  const lasting = (): Lasting => (nth === 0 || dice.next() < 0.3 ? "until takeover" : short())
  /** Takes the values in turn, so that a storm has several of them. */
  const inTurn = <A>(...values: ReadonlyArray<A>): A => values[(first + nth) % values.length]!
  switch (fault) {
    case "engine-sigterm":
    case "engine-sigkill":
    case "worker-sigkill":
      return { fault }
    case "engine-freeze":
      // the first two are long, since damage that the first does to a connection appears at the second; in one process
      // nobody else can take over, so there every freeze is short
      return { fault, ms: nth < 2 && transport !== "memory" ? leaseMs + dice.between(500, 5000) : short() }
    case "worker-freeze":
    case "cut":
      return { fault, lasting: lasting() }
    case "half-open":
      return {
        fault,
        lasting: lasting(),
        deaf: inTurn("both", "down", "up"),
        heals: dice.next() < 0.5
      }
    case "garbage":
      return { fault, lasting: lasting(), kind: inTurn<Garbage>("unavailable", "bytes", "page") }
    case "delay":
      return { fault, ms: dice.between(1500, 4000), each: dice.between(50, Math.floor(leaseMs * 0.15)) }
    case "flip":
      return { fault, ms: dice.between(4000, 8000), oneIn: dice.between(3, 12) }
    case "disk-full":
      return { fault, ms: dice.between(500, 3000), isKilled: inTurn(false, true) }
    case "clock":
      // the first strike may set the clock back to the right time: what was written while it was ahead must not last
      // until that time
      return inTurn<Strike>(
        { fault, shift: 0, isKilled: true },
        { fault, shift: -jumpMs(transport), isKilled: false },
        { fault, shift: jumpMs(transport), isKilled: true },
        { fault, shift: 0, isKilled: false },
        { fault, shift: jumpMs(transport), isKilled: false },
        { fault, shift: -jumpMs(transport), isKilled: true }
      )
  }
}

/** Whether this storm has a proxy between worker and engine. */
export const hasWire = ({ strikes, transport }: StormPlan): boolean =>
  isPush(transport) ||
  strikes.some(({ fault }) => ["cut", "half-open", "garbage", "delay", "flip"].includes(fault))
