/**
 * Where a subscription begins: after what its client saw before the connection was lost, some events back, or with what comes
 * now.
 *
 * A client that wants to resume gets the position of each event, and names the last one when it subscribes again.
 */
import * as Effect from "effect/Effect"
import { type StoreError, ValidationError } from "../../Errors.ts"
import { MAX_STEPS, stepsTaken } from "../../ExpressionBudget.ts"
import { show } from "../../Show.ts"
import * as LogRows from "../Log/LogRows.ts"
import { accepts, type Shape } from "./Feed.ts"
import type { SubscribeRequest } from "./SubscribeRequest.ts"
import type { SubscriptionHub } from "./SubscriptionHub.ts"
import type { Target } from "./Target.ts"

/** Rows of the log in one read. */
const PAGE = 500

/** Most rows that are looked at to find the events of a replay. */
const REPLAY_ROWS = 100_000

interface PositionOf {
  readonly source: Target["source"]
  /** For positions of system events: they mean nothing to an engine that started later. */
  readonly epoch: string
  /** Whether other engines share these positions, because they use the same database. */
  readonly isShared: boolean
}

/** Formats a position for clients. */
export const writePosition = (position: number, { epoch, source }: PositionOf): string =>
  source === "system" ? `${epoch}.${position}` : String(position)

/** The position after which a client asks to go on; `undefined` when it names none. Throws `ValidationError`. */
export const readPosition = (text: unknown, { epoch, isShared, source }: PositionOf): number | undefined => {
  const system = source === "system"
  if (typeof text !== "string" || text === "") return undefined
  const [first = "", second] = text.split(".")
  const position = Number(system ? second : first)
  if (!Number.isSafeInteger(position) || position < 0) {
    throw new ValidationError(
      `The position ${show(text)} to resume after is not one that this engine has given`
    )
  }
  // events before this engine's start are not remembered: everything that it has is new
  return system && first !== epoch && !isShared ? 0 : position
}

/** The position after which a subscription begins; `undefined` to begin with what comes now. */
export const beginsAfter = (
  hub: SubscriptionHub,
  environment: string,
  { after, replay, shape }: Pick<SubscribeRequest, "after" | "replay" | "shape">
): Effect.Effect<number | undefined, StoreError> =>
  after !== undefined || replay === 0 ? Effect.succeed(after) : replayFrom(hub, environment, shape, replay)

/** The position before the last `count` items of the shape. */
const replayFrom = (
  hub: SubscriptionHub,
  environment: string,
  shape: Shape,
  count: number
): Effect.Effect<number, StoreError> => {
  const { filter, target } = shape
  if (target.source === "system") {
    const items = hub.systemItems(environment, 0)
    const { end } = hub.system
    return Effect.gen(function* () {
      const found: Array<number> = []
      let turn = stepsTaken()
      for (const item of items) {
        if (accepts(shape, item)) found.push(item.position)
        if (stepsTaken() - turn <= MAX_STEPS) continue
        yield* Effect.yieldNow
        turn = stepsTaken()
      }
      const first = found.at(-count) ?? found[0]
      return first === undefined ? end : first - 1
    })
  }
  const end = hub.endOf(target)
  const { store } = hub
  // the store can check kinds and names itself
  const isPlain = filter === undefined && target.fitsEntity === undefined
  return Effect.gen(function* () {
    let before = end + 1
    let found = 0
    for (let rows = 0; rows < REPLAY_ROWS;) {
      const page = yield* store.read(
        LogRows.readLogBack({
          environment,
          before,
          limit: PAGE,
          patterns: [target.names],
          ...(target.kind === undefined ? {} : { kind: target.kind })
        })
      )
      let turn = stepsTaken()
      for (const item of page.entries) {
        if ((isPlain || accepts(shape, item)) && ++found === count) return item.position - 1
        if (stepsTaken() - turn <= MAX_STEPS) continue
        yield* Effect.yieldNow
        turn = stepsTaken()
      }
      if (page.atEnd) return 0
      before = page.position
      rows += page.rows
      // long logs are read in turns with other work
      yield* Effect.yieldNow
    }
    return before - 1
  })
}
