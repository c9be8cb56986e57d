/** The Promise API ends a call with an `AbortSignal`. An Effect is interrupted instead, so its services have no signal option. */
import { createClient, type IronflowClient, type KVBucketHandle } from "@ironflow/node"
import {
  type ApiKeys,
  Client,
  type IronflowConfig,
  type ConsumerGroups,
  Engine,
  Kv,
  type Orgs,
  type Policies,
  type Projections,
  type Roles,
  type Secrets,
  Store,
  type Streams,
  type Subscriptions
} from "@ironflow/node/effect"
import { startEngine } from "@ironflow/node/engine"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { assert, describe, expectTypeOf, it } from "vitest"

/** The names of methods that have a `signal` among their arguments. Data does not count, because it may contain anything. */
type WithSignal<Api> = {
  [M in keyof Api]: Api[M] extends (...args: infer P) => unknown
    ? true extends { [I in keyof P]-?: HasSignal<NonNullable<P[I]>> }[number]
      ? M
      : never
    : never
}[keyof Api]
type HasSignal<Argument> = 0 extends 1 & Argument ? false : "signal" extends keyof Argument ? true : false

describe("a signal", () => {
  it("is not among the options of any Effect service", () => {
    type Services =
      | WithSignal<Client.Client["Service"]>
      | WithSignal<Streams.Streams["Service"]>
      | WithSignal<Projections.Projections["Service"]>
      | WithSignal<Subscriptions.Subscriptions["Service"]>
      | WithSignal<ConsumerGroups.ConsumerGroups["Service"]>
      | WithSignal<Kv.Kv["Service"]>
      | WithSignal<Kv.KvBucket>
      | WithSignal<IronflowConfig.Config["Service"]>
      | WithSignal<ApiKeys.ApiKeys["Service"]>
      | WithSignal<Orgs.Orgs["Service"]>
      | WithSignal<Policies.Policies["Service"]>
      | WithSignal<Roles.Roles["Service"]>
      | WithSignal<Secrets.Secrets["Service"]>
    expectTypeOf<Services>().toBeNever()
    expectTypeOf<Parameters<Client.Client["Service"]["getRun"]>["length"]>().toEqualTypeOf<1>()
    expectTypeOf<Parameters<Client.Client["Service"]["waitForRun"]>[1]>().toEqualTypeOf<
      Client.WaitForRunOptions | undefined
    >()
  })

  it("is among the options of every call on the Promise API", () => {
    expectTypeOf<"emit" | "getRun" | "waitForRun" | "health" | "listRuns">().toExtend<
      WithSignal<IronflowClient>
    >()
    expectTypeOf<"read" | "append" | "getInfo">().toExtend<WithSignal<IronflowClient["streams"]>>()
    expectTypeOf<"get" | "put" | "delete" | "write">().toExtend<WithSignal<KVBucketHandle>>()
    expectTypeOf<"get" | "waitForCatchup" | "rebuild">().toExtend<WithSignal<IronflowClient["projections"]>>()
  })

  it.each(["in process", "over HTTP"])(
    "ends a call of the Promise API with its reason, %s",
    async (where) => {
      await using engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
      await using remote = createClient({ serverUrl: engine.url })
      const client = where === "in process" ? engine.client : remote
      const signal = AbortSignal.abort(new Error("enough"))

      const calls = [
        client.health({ signal }),
        client.listRuns({ signal, limit: 1 }),
        client.kv().bucket("b").get("k", { signal }),
        client.streams.read("order-1", { signal })
      ]
      for (const call of await Promise.allSettled(calls)) {
        assert.deepInclude(call, { status: "rejected" })
        assert.strictEqual(call.status === "rejected" && call.reason, signal.reason)
      }
    }
  )
})

describe("an Effect", () => {
  it("is ended by interruption", () =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      // @ts-expect-error -- interrupt the fiber instead
      void (() => client.getRun("run_1", { signal: AbortSignal.abort() }))
      // @ts-expect-error -- interrupt the fiber instead
      void (() => client.waitForRun("run_1", { signal: AbortSignal.abort() }))
      const kv = yield* Kv.Kv
      // @ts-expect-error -- interrupt the fiber instead
      void (() => kv.bucket("b").get("k", { signal: AbortSignal.abort() }))

      const { eventId } = yield* client.emit("order.placed", {})
      assert.isString(eventId)
      const waiting = yield* Effect.forkChild(
        Effect.flatMap(client.health(), () => Effect.never),
        {
          startImmediately: true
        }
      )
      yield* Fiber.interrupt(waiting)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(waiting)))
    }).pipe(
      Effect.provide(
        Engine.layerClient.pipe(
          Layer.provide(Engine.layer),
          Layer.provide(Store.layerSqlite({ filename: ":memory:" }))
        )
      ),
      Effect.runPromise
    ))
})
