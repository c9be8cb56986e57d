/** The plan of a storm over several engines on Postgres, from a seed. */
import type { Ending } from "../../postgres/Server.ts"
import type { WorkerOptions } from "../matrix/worker.ts"
import { type Dice, type Item, makeDice, makeItems } from "../Plan.ts"

/** The index of one of them, or all. */
export type Which = number | "all"

export type Strike =
  | { readonly fault: "kill"; readonly at: "node" | "worker"; readonly which: Which }
  /** Freezes it for `ms`. */
  | { readonly fault: "freeze"; readonly at: "node" | "worker"; readonly which: Which; readonly ms: number }
  /** Ends random sessions of Postgres, again and again. */
  | { readonly fault: "terminate"; readonly ms: number }
  /** Postgres ends as `ending` says, and is down for `ms`. */
  | { readonly fault: "restart"; readonly ending: Ending; readonly ms: number }
  /** The connections from a node to Postgres are cut. */
  | { readonly fault: "cut"; readonly which: Which; readonly ms: number }
  /** Connections to Postgres stay open and carry nothing in one direction or both: then they break, or continue. */
  | {
      readonly fault: "half-open"
      readonly which: Which
      readonly deaf: "up" | "down" | "both"
      readonly heals: boolean
      readonly ms: number
    }
  /** Connections to Postgres are dead without an error: only new ones work. */
  | { readonly fault: "lose"; readonly which: Which; readonly ms: number }
  /** Everything between a node and Postgres arrives `each` milliseconds later. */
  | { readonly fault: "slow"; readonly which: Which; readonly each: number; readonly ms: number }
  /** The offset of a node's clock from then on. */
  | { readonly fault: "clock"; readonly which: number; readonly shift: number }

export interface NodePlan {
  readonly seed: number
  /** The requests before each strike, and after the last one. */
  readonly shares: ReadonlyArray<ReadonlyArray<Item>>
  readonly strikes: ReadonlyArray<Strike>
  /** The term of a lease, milliseconds. */
  readonly leaseMs: number
  /**
   * The transports of the workers. Unless `isEmbedded`, workers with push have the Effect functions of the shop, and
   * the others its async functions.
   */
  readonly transports: ReadonlyArray<WorkerOptions["transport"]>
  /** Whether each engine shares a process with a worker, instead of `ironflow serve` and workers of every transport. */
  readonly isEmbedded: boolean
  /** The first offsets of the nodes' clocks, milliseconds. */
  readonly shifts: ReadonlyArray<number>
}

export const NODES = 3

/** Runs that an item starts on average. */
const RUNS_AN_ITEM = 1.35

/** A plan with given strikes, and about `size` requests before each of them and after the last. */
export const withStrikes = (
  strikes: ReadonlyArray<Strike>,
  {
    isEmbedded = false,
    leaseMs,
    seed,
    size,
    transports
  }: {
    readonly transports: NodePlan["transports"]
    readonly seed: number
    readonly size: number
    readonly leaseMs: number
    readonly isEmbedded?: boolean
  }
): NodePlan => {
  const dice = makeDice(seed)
  const items = makeItems(dice, size * (strikes.length + 1), () => dice.between(20, 400))
  const shareSize = Math.ceil(items.length / (strikes.length + 1))
  return {
    seed,
    leaseMs,
    isEmbedded,
    transports,
    strikes,
    shares: Array.from({ length: strikes.length + 1 }, (_, nth) =>
      items.slice(nth * shareSize, (nth + 1) * shareSize)
    ),
    shifts: strikes.some(({ fault }) => fault === "clock")
      ? Array.from({ length: NODES }, () => dice.between(-300_000, 300_000))
      : []
  }
}

/** A plan with every strike once, in a random order. */
export const makeNodePlan = (seed: number, runs: number, leaseMs: number): NodePlan => {
  const dice = makeDice(seed)
  const anyNode = () => dice.between(0, NODES - 1)
  const anyNodeOrAll = (): Which => dice.pick([anyNode(), anyNode(), "all"])
  const short = () => dice.between(500, 4000)
  const strikes: ReadonlyArray<Strike> = [
    { fault: "kill", at: "node", which: anyNode() },
    { fault: "kill", at: "node", which: "all" },
    { fault: "kill", at: "worker", which: dice.between(0, 5) },
    { fault: "kill", at: "worker", which: "all" },
    // shorter and longer than the time after which the others take it for dead
    { fault: "freeze", at: "node", which: anyNode(), ms: dice.pick([3000, 7000, 18_000]) },
    { fault: "freeze", at: "node", which: "all", ms: short() },
    {
      fault: "freeze",
      at: "worker",
      which: dice.pick<Which>([dice.between(0, 5), "all"]),
      ms: dice.between(1000, 8000)
    },
    { fault: "terminate", ms: dice.between(3000, 8000) },
    { fault: "restart", ending: "fast", ms: short() },
    { fault: "restart", ending: dice.pick<Ending>(["immediate", "killed"]), ms: short() },
    { fault: "cut", which: anyNodeOrAll(), ms: dice.pick([1000, 4000, 16_000]) },
    {
      fault: "half-open",
      which: anyNodeOrAll(),
      deaf: dice.pick(["up", "down", "both"]),
      heals: dice.next() < 0.5,
      ms: dice.pick([2000, 6000, 16_000])
    },
    { fault: "lose", which: anyNodeOrAll(), ms: short() },
    { fault: "slow", which: anyNodeOrAll(), each: dice.between(5, 60), ms: dice.between(2000, 5000) },
    { fault: "clock", which: anyNode(), shift: dice.between(-600_000, 600_000) }
  ]
  return withStrikes(shuffled(dice, strikes), {
    seed,
    leaseMs,
    transports: ["http", "channel", "rpc", "connect", "push", "push"],
    size: Math.ceil(runs / RUNS_AN_ITEM / (strikes.length + 1))
  })
}

const shuffled = <A>(dice: Dice, values: ReadonlyArray<A>): ReadonlyArray<A> =>
  values
    .map((value) => ({ value, at: dice.next() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ value }) => value)
