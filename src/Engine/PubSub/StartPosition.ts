/**
 * Finds where a subscription begins: after the last event that its client got before the connection was lost, some events back,
 * or at the end of the log.
 *
 * A client that wants to resume gets the position of each event. When it subscribes again, it names the last position.
 */
import * as Effect from "effect/Effect"
import { type StoreError, ValidationError } from "../../Errors.ts"
import { MAX_EXPRESSION_STEPS, expressionSteps } from "../../ExpressionBudget.ts"
import { show } from "../../Show.ts"
import * as LogRows from "../Log/LogRows.ts"
import { accepts, type ItemFormat } from "./Feed.ts"
import type { SubscribeRequest } from "./SubscribeRequest.ts"
import type { SubscriptionHub } from "./SubscriptionHub.ts"
import type { Target } from "./Target.ts"

/** How many rows of the log one read looks at. */
const PAGE = 500

/** To find the events of a replay, the log is read back until this many rows were looked at, or a page more. */
const REPLAY_ROWS = 100_000

interface PositionOrigin {
  readonly source: Target["source"]
  /** Identifies the start of the engine, for positions of system events. Positions from before that start mean nothing. */
  readonly epoch: string
  /** Whether several engines use the database, and so have the same positions of system events. */
  readonly isShared: boolean
}

/** Formats a position for clients. */
export const writePosition = (position: number, { epoch, source }: PositionOrigin): string =>
  source === "system" ? `${epoch}.${position}` : String(position)

/** The position after which a client wants to resume; `undefined` when it gives none. Throws `ValidationError`. */
export const readPosition = (
  text: unknown,
  { epoch, isShared, source }: PositionOrigin
): number | undefined => {
  const isOfSystemEvents = source === "system"
  if (typeof text !== "string" || text === "") return undefined
  const [first = "", second] = text.split(".")
  const position = Number(isOfSystemEvents ? second : first)
  if (!Number.isSafeInteger(position) || position < 0) {
    throw new ValidationError(
      `\`resume.after\` must be a position that this engine has sent, got ${show(text)}`
    )
  }
  // 0 for a position from before the engine started: the client has seen no system event since the start
  return isOfSystemEvents && first !== epoch && !isShared ? 0 : position
}

/** The position after which a subscription begins; `undefined` to begin at the end of the log. */
export const findStartPosition = (
  hub: SubscriptionHub,
  environment: string,
  { after, replay, format }: Pick<SubscribeRequest, "after" | "replay" | "format">
): Effect.Effect<number | undefined, StoreError> =>
  after !== undefined || replay === 0
    ? Effect.succeed(after)
    : positionOfReplay(hub, environment, format, replay)

/**
 * The position before the last `count` items that match. If these items lie more than {@link REPLAY_ROWS} rows back, this is the
 * position that many rows back, and fewer items are replayed.
 */
const positionOfReplay = (
  hub: SubscriptionHub,
  environment: string,
  format: ItemFormat,
  count: number
): Effect.Effect<number, StoreError> =>
  format.target.source === "system"
    ? positionOfSystemReplay(hub, environment, format, count)
    : positionOfLogReplay(hub, environment, format, count)

const positionOfSystemReplay = (
  hub: SubscriptionHub,
  environment: string,
  format: ItemFormat,
  count: number
): Effect.Effect<number> => {
  const { end } = hub.system
  const items = hub.systemItems(environment, 0)
  return Effect.gen(function* () {
    const positions: Array<number> = []
    yield* visitWithPauses(items, (item) => void (accepts(format, item) && positions.push(item.position)))
    const first = positions.at(-count) ?? positions[0]
    return first === undefined ? end : first - 1
  })
}

const positionOfLogReplay = (
  hub: SubscriptionHub,
  environment: string,
  format: ItemFormat,
  count: number
): Effect.Effect<number, StoreError> => {
  const { filter, target } = format
  // the store itself can check kinds and names, but no filter and no entity
  const isPlain = filter === undefined && target.matchesEntity === undefined
  return Effect.gen(function* () {
    let before = hub.endOf(target) + 1
    let matches = 0
    for (let rows = 0; rows < REPLAY_ROWS;) {
      const page = yield* hub.store.read(
        LogRows.readLogBack({
          environment,
          before,
          limit: PAGE,
          patterns: [target.names],
          ...(target.kind === undefined ? {} : { kind: target.kind })
        })
      )
      const first = yield* visitWithPauses(page.entries, (item) =>
        (isPlain || accepts(format, item)) && ++matches === count ? item : undefined
      )
      if (first !== undefined) return first.position - 1
      // the log was read back to its beginning
      if (page.atEnd) return 0
      before = page.position
      rows += page.rowsRead
      // a log may be long, so other work may run between two pages
      yield* Effect.yieldNow
    }
    return before - 1
  })
}

/** Visits items until `visit` returns something. Expressions may take long, so other work may run in between. */
const visitWithPauses = <A>(
  items: Iterable<A>,
  visit: (item: A) => A | undefined | void
): Effect.Effect<A | undefined> =>
  Effect.gen(function* () {
    let stepsAtYield = expressionSteps()
    for (const item of items) {
      const result = visit(item)
      if (result !== undefined) return result as A
      if (expressionSteps() - stepsAtYield <= MAX_EXPRESSION_STEPS) continue
      yield* Effect.yieldNow
      stepsAtYield = expressionSteps()
    }
    return undefined
  })
