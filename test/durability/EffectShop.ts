/** The shop's functions once more, as Effect handlers: they do the same, under ids that end in `-effect`. */
import { Errors, Event, IronflowFunction, Step } from "@ironflow/node/effect"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Diary, type Receipt } from "./Diary.ts"
import type { SideLog } from "./SideLog.ts"

const retry = { maxAttempts: 3, initialDelayMs: 20, backoffFactor: 2 }

const OrderPlaced = Event.define("order.placed", {
  data: Schema.Struct({ orderId: Schema.String, work: Schema.Number, pause: Schema.Number })
})
const PaymentRequested = Event.define("payment.requested", {
  data: Schema.Struct({
    orderId: Schema.String,
    work: Schema.Number,
    firstTimeout: Schema.Number,
    secondTimeout: Schema.Number
  })
})
const PaymentReceived = Event.define("payment.received", {
  data: Schema.Struct({ orderId: Schema.String, amount: Schema.Number })
})
const TextRequested = Event.define("text.requested", {
  data: Schema.Struct({ work: Schema.Number, failures: Schema.Number })
})
const TripRequested = Event.define("trip.requested", {
  data: Schema.Struct({ work: Schema.Number, failAt: Schema.String, stubborn: Schema.Boolean })
})

class NoSignal extends Schema.TaggedError<NoSignal>()("NoSignal", { attempt: Schema.Number }) {}

export const makeEffectFunctions = (log: SideLog) => {
  /** The effect of a step: takes `ms`, and fails as configured. */
  const body = <E = never>(
    diary: Diary,
    ms: number,
    failsWith?: (attempt: number) => E | undefined
  ): Effect.Effect<Receipt, E, Step.StepAttempt> =>
    Effect.gen(function* () {
      const execution = yield* Step.StepAttempt
      const entry = diary.begin(execution)
      yield* Effect.onInterrupt(Effect.sleep(ms), () => Effect.sync(entry.abort))
      const error = failsWith?.(execution.attempt)
      if (error === undefined) return entry.end()
      entry.fail()
      return yield* Effect.fail(error)
    })

  const processOrder = IronflowFunction.make(
    { id: "process-order-effect", triggers: [OrderPlaced], retry },
    Effect.fnUntraced(function* ({ event, run }) {
      const diary = new Diary(log, run)
      const work = body(diary, event.data.work)
      diary.saw(yield* Step.run("charge", work))
      yield* Step.sleep("settle", event.data.pause)
      const prepared = yield* Step.parallel("prepare", [
        Step.run("stock", work),
        Effect.andThen(Step.sleep("ink", 5), Step.run("label", work))
      ])
      for (const receipt of prepared) diary.saw(receipt)
      diary.saw(yield* Step.run("ship", work))
      return diary.seen
    })
  )

  const collectPayment = IronflowFunction.make(
    { id: "collect-payment-effect", triggers: [PaymentRequested], retry },
    Effect.fnUntraced(function* ({ event, run }) {
      const diary = new Diary(log, run)
      const work = body(diary, event.data.work)
      diary.saw(yield* Step.run("ask", work))
      for (const timeout of [event.data.firstTimeout, event.data.secondTimeout]) {
        yield* Step.waitForEvent("payment", { event: PaymentReceived, match: "data.orderId", timeout }).pipe(
          Effect.flatMap((payment) =>
            Effect.map(Step.run("thank", work), (receipt) => {
              diary.saw(receipt)
              diary.note(`thanked for ${payment.id}`, "yes")
            })
          ),
          Effect.catchTag("TimeoutError", () =>
            Effect.map(Step.run("remind", work), (receipt) => void diary.saw(receipt))
          )
        )
      }
      return diary.seen
    })
  )

  const sendText = IronflowFunction.make(
    { id: "send-text-effect", triggers: [TextRequested], retry },
    Effect.fnUntraced(function* ({ event, run }) {
      const diary = new Diary(log, run)
      const work = body(diary, event.data.work)
      yield* Step.run(
        "text",
        body(diary, event.data.work, (attempt) =>
          attempt <= event.data.failures ? new NoSignal({ attempt }) : undefined
        ),
        { error: NoSignal }
      ).pipe(
        Effect.map((receipt) => void diary.saw(receipt)),
        Effect.catchTag("NoSignal", () =>
          Effect.map(Step.run("email", work), (receipt) => void diary.saw(receipt))
        )
      )
      diary.saw(yield* Step.run("file", work))
      return diary.seen
    })
  )

  const bookTrip = IronflowFunction.make(
    { id: "book-trip-effect", triggers: [TripRequested], retry },
    Effect.fnUntraced(function* ({ event, run }) {
      const diary = new Diary(log, run)
      const { failAt, stubborn, work } = event.data
      for (const name of ["flight", "hotel", "car"]) {
        const fails = () =>
          failAt === name ? new Errors.NonRetryableError(`There is no ${name}`) : undefined
        diary.saw(yield* Step.run(name, body(diary, work, fails)))
        const refuses = () => (stubborn && name === "hotel" ? new Error("No refund") : undefined)
        yield* Step.compensate(name, body(diary, work, refuses))
      }
      yield* Step.sleep("think it over", 10)
      if (failAt === "end") return yield* Effect.fail(new Errors.NonRetryableError("The trip is off"))
      return diary.seen
    })
  )

  return [processOrder, collectPayment, sendText, bookTrip]
}
