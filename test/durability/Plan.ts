/** The plan of a seed: the events to emit, and how each process ends. */

/** Random numbers: the same seed gives the same numbers. */
export interface Dice {
  /** From 0 up to 1. */
  readonly next: () => number
  /** An integer, both ends included. */
  readonly between: (low: number, high: number) => number
  readonly pick: <A>(values: ReadonlyArray<A>) => A
}

export const makeDice = (seed: number): Dice => {
  let state = seed >>> 0
  // mulberry32: small, and good enough to choose among kills
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  const between = (low: number, high: number) => low + Math.floor(next() * (high - low + 1))
  return { next, between, pick: (values) => values[between(0, values.length - 1)]! }
}

/** One request of the shop's client. Because of its key it takes effect once, however often it is repeated. */
export type Item =
  | { readonly op: "emit"; readonly key: string; readonly name: string; readonly data: EventData }
  | { readonly op: "publish"; readonly key: string; readonly topic: string; readonly data: EventData }
  /** Cancels the runs of an event that was emitted before. */
  | { readonly op: "cancel"; readonly key: string; readonly of: string }

export type EventData = Readonly<Record<string, string | number | boolean | ReadonlyArray<number>>>

/** A place in a process: where it writes a line of this sort into the side log. */
export type Place =
  "begin" | "end" | "fail" | "compensation begin" | "compensation end" | "throw" | "acknowledgement"

/** How a process ends. */
export type Fate =
  /** It kills itself, `turns` turns of the event loop after the place. */
  | { readonly _tag: "At"; readonly place: Place; readonly nth: number; readonly turns: number }
  /** It is killed from outside, `ms` milliseconds after it was started, or after it was ready. */
  | { readonly _tag: "After"; readonly from: "start" | "ready"; readonly ms: number }
  /**
   * It is frozen `ms` milliseconds after it was ready, continues when another process has tried to take its place, and
   * is killed `restMs` milliseconds later.
   */
  | { readonly _tag: "Frozen"; readonly ms: number; readonly restMs: number }

export interface Plan {
  readonly seed: number
  readonly items: ReadonlyArray<Item>
  /** One for each process that dies; the one after them finishes everything. */
  readonly fates: ReadonlyArray<Fate>
}

export const makePlan = (seed: number): Plan => {
  const dice = makeDice(seed)
  const items = makeItems(dice, dice.between(24, 40))
  const fates = Array.from({ length: dice.between(4, 7) }, () => makeFate(dice))
  return { seed, items, fates }
}

const makeFate = (dice: Dice): Fate => {
  const kind = dice.next()
  if (kind < 0.1) return { _tag: "After", from: "start", ms: dice.between(100, 700) }
  if (kind < 0.3) return { _tag: "After", from: "ready", ms: dice.between(0, 400) }
  if (kind < 0.37) return { _tag: "Frozen", ms: dice.between(5, 150), restMs: dice.between(5, 200) }
  const place = dice.pick<Place>([
    "begin",
    "end",
    "end",
    "end",
    "fail",
    "compensation begin",
    "compensation end",
    "throw",
    "acknowledgement"
  ])
  const often = place === "begin" || place === "end" || place === "acknowledgement"
  return {
    _tag: "At",
    place,
    nth: often ? dice.between(1, 15) : dice.between(1, 2),
    // mostly while the result is on its way to the disk
    turns: dice.pick([0, 0, 1, 2, 3, 5, 8])
  }
}

/** Longer than any test, even one that moves clocks. In milliseconds. */
export const FOREVER = 10 * 24 * 3_600_000

/** `work` is how long the bodies of the steps that an item starts take, milliseconds. */
export const makeItems = (
  dice: Dice,
  count: number,
  work: () => number = () => dice.between(0, 20)
): ReadonlyArray<Item> => {
  const items: Array<Item> = []
  /** Items that have to follow an earlier event. */
  const later: Array<Item> = []
  let n = 0
  const emit = (name: string, data: EventData): Item => ({
    op: "emit",
    key: `${name}/${++n}`,
    name,
    data: { work: work(), ...data }
  })

  const makers: ReadonlyArray<() => Item> = [
    () => emit("order.placed", { orderId: `o-${n}`, pause: dice.between(5, 150) }),
    () => {
      const orderId = `o-${n}`
      const payments = dice.between(0, 2)
      const item = emit("payment.requested", {
        orderId,
        firstTimeout: payments > 0 ? FOREVER : dice.between(20, 250),
        secondTimeout: payments > 1 ? FOREVER : dice.between(20, 250)
      })
      for (let i = 0; i < payments; i++)
        later.push(emit("payment.received", { orderId, amount: dice.between(1, 99) }))
      return item
    },
    () => {
      const item = emit("payment.requested", {
        orderId: `o-${n}`,
        firstTimeout: FOREVER,
        secondTimeout: FOREVER
      })
      later.push({ op: "cancel", key: `cancel/${++n}`, of: item.key })
      return item
    },
    () => emit("payment.received", { orderId: "nobody", amount: dice.between(1, 99) }),
    () => emit("bill.requested", { child: dice.pick(["good", "good", "broken", "slow"]) }),
    () => emit("text.requested", { failures: dice.between(0, 3) }),
    () =>
      emit("trip.requested", {
        failAt: dice.pick(["none", "flight", "hotel", "car", "car", "end", "end"]),
        stubborn: dice.next() < 0.3
      }),
    () => {
      // several requests for one printer
      const printer = dice.pick(["p-1", "p-2"])
      const request = () =>
        emit("pages.requested", { printer, pages: dice.between(1, 3), pause: dice.between(1, 60) })
      for (let i = dice.between(2, 4); i > 0; i--) items.push(request())
      return request()
    },
    () => emit("report.requested", { failures: dice.between(0, 3) }),
    () => emit("news.written", { pause: dice.between(1, 80) }),
    () =>
      emit("labels.requested", {
        parcels: dice.between(1, 5),
        bad: [dice.between(0, 5)],
        concurrency: dice.between(1, 3)
      }),
    () => emit("parcel.packed", {}),
    () =>
      emit("courier.called", {
        patience: dice.between(1, 60),
        answer: dice.between(1, 60),
        pause: dice.between(1, 80)
      }),
    () => emit("nap.requested", { naps: dice.between(0, 2) }),
    () => ({
      op: "publish",
      key: `shipments/${++n}`,
      topic: "shipments",
      data: { parcel: n }
    })
  ]
  while (items.length < count) {
    items.push(dice.pick(makers)())
    while (later.length > 0 && dice.next() < 0.4) items.push(later.shift()!)
  }
  return [...items, ...later]
}
