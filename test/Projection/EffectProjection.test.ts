/** Projections with Effect handlers: their services come from the layer of the worker, and failures become dead letters. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import {
  Client,
  Engine,
  Errors,
  Event,
  Projection,
  Projections,
  Store,
  Worker,
  WorkerTransport
} from "@ironflow/node/effect"

class Rates extends Context.Service<
  Rates,
  { readonly of: (currency: string) => Effect.Effect<number, Error> }
>()("Rates") {}

const OrderPlaced = Event.define("order.placed", {
  data: Schema.Struct({ amount: Schema.Number, currency: Schema.String })
})

const totals = Projection.make({
  name: "totals",
  events: [OrderPlaced],
  maxRetries: 2,
  initialState: () => ({ total: 0 }),
  handler: Effect.fnUntraced(function* (state, event) {
    const rates = yield* Rates
    return { total: state.total + event.data.amount * (yield* rates.of(event.data.currency)) }
  })
})

const Base = Engine.layer.pipe(Layer.provide(Store.layerSqlite({ filename: ":memory:" })))
const setup = (rates: Rates["Service"]) =>
  Worker.layer({ functions: [], projections: [totals], logger: false }).pipe(
    Layer.provide(Layer.succeed(Rates, rates)),
    Layer.provide(WorkerTransport.layerMemory),
    Layer.provideMerge(Engine.layerClient),
    Layer.provide(Base)
  )

describe("a projection with an Effect handler", () => {
  it.effect("gets its services, and is read by the Projections service", () =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const projections = yield* Projections.Projections

      yield* client.emit("order.placed", { amount: 2, currency: "EUR" })
      const { position } = yield* client.emit("order.placed", { amount: 1, currency: "EUR" })
      const { state } = yield* projections.get("totals", { after: position })

      assert.deepStrictEqual(state, { total: 6 })
    }).pipe(Effect.provide(setup({ of: () => Effect.succeed(2) })))
  )

  it.effect(
    "retries an event with growing delays, and gives up at once on data that its schema refuses",
    () => {
      let calls = 0
      const rates: Rates["Service"] = {
        of: () =>
          Effect.suspend(() => (++calls < 3 ? Effect.fail(new Error("no rate yet")) : Effect.succeed(1)))
      }
      return Effect.gen(function* () {
        const client = yield* Client.Client
        const projections = yield* Projections.Projections
        yield* client.emit("order.placed", { amount: "a lot" })
        const { position = 0 } = yield* client.emit("order.placed", { amount: 5, currency: "EUR" })
        const failed = (failures: number) =>
          Effect.gen(function* () {
            while (true) {
              const info = yield* projections.status("totals")
              if (info.failing?.failures === failures) return
            }
          })

        yield* failed(1)
        yield* TestClock.adjust("1 second")
        yield* failed(2)
        yield* TestClock.adjust("1999 millis")
        yield* failed(2)
        yield* TestClock.adjust("1 millis")
        const { state } = yield* projections.get("totals", { after: position })
        const letters = yield* projections.deadLetters("totals")

        assert.deepStrictEqual(state, { total: 5 })
        assert.deepStrictEqual(
          letters.map(({ attempts, error }) => [attempts, error.name]),
          [[1, "SchemaValidationError"]]
        )
        assert.strictEqual(calls, 3)
      }).pipe(Effect.provide(setup(rates)))
    }
  )

  it.effect("is followed as a stream, whose consumer gets the newest state however slow it is", () =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const projections = yield* Projections.Projections
      const emit = (amount: number) =>
        Effect.gen(function* () {
          const { position } = yield* client.emit("order.placed", { amount, currency: "EUR" })
          yield* projections.waitForCatchup("totals", { after: position })
        })
      const opened = yield* Deferred.make<void>()
      const started = yield* Deferred.make<void>()
      const states = projections.subscribe<{ readonly total: number }>("totals", {
        onOpen: () => Deferred.doneUnsafe(opened, Exit.void)
      })
      const seen = yield* states.pipe(
        Stream.tap(() => Effect.andThen(Deferred.succeed(started, undefined), Effect.sleep("1 hour"))),
        Stream.take(2),
        Stream.runCollect,
        Effect.forkChild
      )
      yield* Deferred.await(opened)
      yield* emit(1)
      yield* Deferred.await(started)
      for (let i = 0; i < 10; i++) yield* emit(1)
      // messages over the connection in this process arrive in later turns of the event loop
      for (let i = 0; i < 20; i++) yield* Effect.promise(() => new Promise(setImmediate))
      yield* TestClock.adjust("1 hour")
      yield* TestClock.adjust("1 hour")

      assert.deepStrictEqual(
        (yield* Fiber.join(seen)).map(({ state }) => state.total),
        [1, 11]
      )
    }).pipe(Effect.provide(setup({ of: () => Effect.succeed(1) })))
  )

  it.effect("is a typed failure to read when it does not exist", () =>
    Effect.gen(function* () {
      const projections = yield* Projections.Projections

      const error = yield* Effect.flip(projections.get("nope"))
      const missingError = yield* Effect.flip(Stream.runDrain(projections.subscribe("nope")))

      assert.instanceOf(error, Errors.ProjectionNotFoundError)
      assert.instanceOf(missingError, Errors.ProjectionNotFoundError)
    }).pipe(Effect.provide(setup({ of: () => Effect.succeed(1) })))
  )
})
