/** The error types of the Effect API: none is a base class or unknown, and all can be handled. */
import { assert, describe, it } from "@effect/vitest"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Stream from "effect/Stream"
import { expectTypeOf } from "vitest"
import type { CallOptions } from "../src/Client/Client.ts"
import type * as Api from "../src/effect.ts"
import { type Client, type Kv, Step } from "../src/effect.ts"
import * as Errors from "../src/Errors.ts"

type IsAny<T> = 0 extends 1 & T ? true : false

/** The path, if the type `E` does not tell what has happened: it is `any`, `unknown`, or a base of all our errors. */
type IfUnnamed<E, Path> = IsAny<E> extends true ? Path : [Errors.IronflowError] extends [E] ? Path : never

/** Types that contain no effects. */
type Plain =
  | string
  | number
  | boolean
  | bigint
  | symbol
  | null
  | undefined
  | Error
  | Date
  | ReadonlyArray<unknown>
  | Uint8Array

/** The paths in `T` of effects, streams and layers with unnamed errors, in results of functions and in services. */
type Unnamed<T, Path extends string = "", Depth extends ReadonlyArray<0> = []> = [T] extends [never]
  ? never
  : Depth["length"] extends 7
    ? never
    : IsAny<T> extends true
      ? never
      : [T] extends [Effect.Effect<infer A, infer E, infer _R>]
        ? IfUnnamed<E, Path> | Unnamed<A, `${Path}!`, [...Depth, 0]>
        : [T] extends [Stream.Stream<infer A, infer E, infer _R>]
          ? IfUnnamed<E, Path> | Unnamed<A, `${Path}!`, [...Depth, 0]>
          : [T] extends [Layer.Layer<infer _A, infer E, infer _R>]
            ? IfUnnamed<E, Path>
            : T extends Context.Key<infer _I, infer S>
              ? Unnamed<S, Path, [...Depth, 0]>
              : T extends (...args: never) => infer R
                ? Unnamed<R, `${Path}()`, [...Depth, 0]>
                : T extends Plain
                  ? never
                  : T extends object
                    ? {
                        [K in keyof T & string]: Unnamed<T[K], `${Path}.${K}`, [...Depth, 0]>
                      }[keyof T & string]
                    : never

type Exported = Omit<typeof Api, "Errors">

/** The failures of these come from the user's own effects. Tests below check them. */
type OfUsers =
  | "IronflowFunction.make().program()"
  | "IronflowFunction.make().failureHandler.program()"
  | "Step.run()"
  | "Step.tx()"
  | "Step.Step.run()"
  | "Step.Step.tx()"
  | "Step.Step!.run()"
  | "Step.Step!.tx()"

/** Here the failures are in the type of the program that is run. */
type OfPrograms = `Store.Store!.${"write" | "read" | "readApart"}()`

type AllUnnamed = { [K in keyof Exported]: Unnamed<Exported[K], K> }[keyof Exported]

type Health = ReturnType<Client.ClientApi<Client.EffectKind>["health"]>
type HealthError = Effect.Error<Health>
const health: Health = Effect.succeed("ok")

describe("the search in the types of the Effect API", () => {
  it("finds unnamed errors", () => {
    interface Bad {
      readonly base: () => Effect.Effect<void, Errors.IronflowError>
      readonly family: () => Effect.Effect<void, Errors.NotFoundError | Errors.IronflowError>
      readonly error: Stream.Stream<number, Error>
      readonly any: (n: number) => Layer.Layer<never, any>
      readonly deep: () => { readonly inner: Effect.Effect<{ readonly next: Effect.Effect<void, unknown> }> }
      readonly good: () => Effect.Effect<void, Errors.RunNotFoundError>
    }
    expectTypeOf<Unnamed<Bad, "Bad">>().toEqualTypeOf<
      "Bad.base()" | "Bad.family()" | "Bad.error" | "Bad.any()" | "Bad.deep().inner!.next"
    >()
  })

  it("finds no unnamed errors except failures of users", () => {
    expectTypeOf<Exclude<AllUnnamed, OfUsers | OfPrograms>>().toEqualTypeOf<never>()
  })

  it("reaches the methods of every service of a client", () => {
    type Methods<S> = { [M in keyof S]: S[M] extends (...args: never) => infer R ? R : never }[keyof S]
    type Service<K> = K extends Context.Key<infer _I, infer S> ? S : never
    type ErrorsOf<K> =
      Methods<Service<K>> extends infer R
        ? R extends Effect.Effect<infer _A, infer E, infer _R>
          ? E
          : R extends Stream.Stream<infer _A, infer E, infer _R>
            ? E
            : never
        : never
    type All =
      | ErrorsOf<typeof Api.Client.Client>
      | ErrorsOf<typeof Api.Streams.Streams>
      | ErrorsOf<typeof Api.Kv.Kv>
      | ErrorsOf<typeof Api.IronflowConfig.Config>
      | ErrorsOf<typeof Api.Projections.Projections>
      | ErrorsOf<typeof Api.Subscriptions.Subscriptions>
      | ErrorsOf<typeof Api.ConsumerGroups.ConsumerGroups>
      | ErrorsOf<typeof Api.ApiKeys.ApiKeys>
      | ErrorsOf<typeof Api.Orgs.Orgs>
      | ErrorsOf<typeof Api.Policies.Policies>
      | ErrorsOf<typeof Api.Roles.Roles>
      | ErrorsOf<typeof Api.Secrets.Secrets>
      | ErrorsOf<typeof Api.Client.PushEndpoints>
    // each of them has a tag
    expectTypeOf<All["_tag"]>().toEqualTypeOf<
      | Client.ClientError["_tag"]
      | "ApiKeyNotFoundError"
      | "BucketExistsError"
      | "BucketNotFoundError"
      | "BulkNotFoundError"
      | "ClosedError"
      | "ConfigNotFoundError"
      | "ConsumerGroupExistsError"
      | "EventNotFoundError"
      | "ConsumerGroupNotFoundError"
      | "EndpointUnavailableError"
      | "FunctionNotFoundError"
      | "InvalidStateError"
      | "MasterKeyError"
      | "NoResultsError"
      | "OrgNotFoundError"
      | "PolicyNotFoundError"
      | "ProjectionNotFoundError"
      | "RevisionGoneError"
      | "RoleNotFoundError"
      | "RunCancelledError"
      | "RunFailedError"
      | "RunNotFoundError"
      | "SecretNotFoundError"
      | "StepNotFoundError"
      | "StreamNotFoundError"
      | "SubscriptionError"
      | "VersionConflictError"
    >()
  })

  it("finds StepError and the errors of step calls in the type of a step", () => {
    class Declined extends Error {
      readonly _tag = "Declined"
    }
    const bare = Step.run("charge", Effect.fail(new Declined()))
    const inTx = Step.tx("charge", () => Effect.fail(new Declined()))

    expectTypeOf<Effect.Error<typeof bare>>().toEqualTypeOf<Errors.StepError | Step.StepCallError>()
    expectTypeOf<Effect.Error<typeof inTx>>().toEqualTypeOf<
      Errors.StepError | Errors.UnsupportedError | Step.StepCallError
    >()
  })
})

/** A handler that returns the name of the class that it got. */
const nameOf = <E extends Errors.IronflowError>(error: E) => Effect.succeed(error.name)

const ofClient = {
  ValidationError: nameOf<Errors.ValidationError>,
  UnauthenticatedError: nameOf<Errors.UnauthenticatedError>,
  UnauthorizedError: nameOf<Errors.UnauthorizedError>,
  EnterpriseRequiredError: nameOf<Errors.EnterpriseRequiredError>,
  ConnectionError: nameOf<Errors.ConnectionError>,
  TimeoutError: nameOf<Errors.TimeoutError>,
  UnavailableError: nameOf<Errors.UnavailableError>,
  StoreError: nameOf<Errors.StoreError>,
  UnsupportedError: nameOf<Errors.UnsupportedError>,
  InvalidResponseError: nameOf<Errors.InvalidResponseError>,
  ServerError: nameOf<Errors.ServerError>
}

describe("catchTags", () => {
  it.effect("handles all that health() can fail with, and the compiler knows it", () =>
    Effect.gen(function* () {
      const ask = (error: HealthError) => (Effect.fail(error) as Health).pipe(Effect.catchTags(ofClient))
      const handled = ask(new Errors.StoreError("locked", { code: "STORE_LOCKED" }))

      expectTypeOf<Effect.Error<typeof handled>>().toEqualTypeOf<never>()
      assert.strictEqual(yield* handled, "StoreError")
      // the handler of a class also gets its subclasses
      assert.strictEqual(yield* ask(new Errors.LimitExceededError("It", 2, 1, "bytes")), "LimitExceededError")
    })
  )

  it.effect("handles all that kv.get can fail with, and the compiler knows it", () =>
    Effect.gen(function* () {
      const get = (_key: string, _options?: CallOptions): ReturnType<Kv.KvBucket["get"]> =>
        Effect.fail(new Errors.KeyNotFoundError("sessions", "u-1"))
      const handled = get("u-1").pipe(
        Effect.catchTags({
          ...ofClient,
          KeyNotFoundError: ({ bucket, key }) => Effect.succeed(`${bucket}/${key}`),
          BucketNotFoundError: ({ bucket }) => Effect.succeed(bucket)
        })
      )
      // without a handler, an error stays in the type
      const left = get("u-1").pipe(
        Effect.catchTags({ ...ofClient, KeyNotFoundError: () => Effect.succeed("") })
      )

      expectTypeOf<Effect.Error<typeof handled>>().toEqualTypeOf<never>()
      expectTypeOf<Effect.Error<typeof left>>().toEqualTypeOf<Errors.BucketNotFoundError>()
      assert.strictEqual(yield* handled, "sessions/u-1")
    })
  )

  it("does not compile for errors that cannot happen", () => {
    // @ts-expect-error -- `health` is not about a run
    void Effect.catchTags(health, { RunNotFoundError: () => Effect.void })
    // @ts-expect-error -- `health` is not about a key
    void Effect.catchTag(health, "KeyNotFoundError", () => Effect.void)
    const getRun = (client: Client.ClientApi<Client.EffectKind>) => client.getRun("run_1")
    void ((client: Client.ClientApi<Client.EffectKind>) =>
      // @ts-expect-error -- reading a run changes nothing, so no state can forbid it
      Effect.catchTag(getRun(client), "InvalidStateError", () => Effect.void))
    void ((bucket: Kv.KvBucket) =>
      // @ts-expect-error -- a put expects no revision
      Effect.catchTag(bucket.put("u-1", {}), "RevisionConflictError", () => Effect.void))
  })

  it("catches the family of not-found errors by its class", () => {
    const run = (client: Client.ClientApi<Client.EffectKind>) =>
      client.getRun("run_1").pipe(
        Effect.catchIf(
          (error) => error instanceof Errors.NotFoundError,
          () => Effect.succeed(undefined)
        )
      )
    expectTypeOf<Effect.Error<ReturnType<typeof run>>>().toEqualTypeOf<Client.ClientError>()

    const family = [
      new Errors.RunNotFoundError("run_1"),
      new Errors.KeyNotFoundError("sessions", "u-1"),
      new Errors.RoleNotFoundError("role_1"),
      new Errors.NoResultsError("order.placed", "evt_1")
    ]
    for (const error of family) {
      assert.isTrue(error instanceof Errors.NotFoundError)
      assert.instanceOf(error, Errors.IronflowError)
    }
    assert.deepStrictEqual(
      family.map(({ _tag, code, name, status }) => ({ _tag, code, name, status })),
      [
        { _tag: "RunNotFoundError", code: "RUN_NOT_FOUND", name: "RunNotFoundError", status: 404 },
        { _tag: "KeyNotFoundError", code: "KEY_NOT_FOUND", name: "KeyNotFoundError", status: 404 },
        { _tag: "RoleNotFoundError", code: "ROLE_NOT_FOUND", name: "RoleNotFoundError", status: 404 },
        { _tag: "NoResultsError", code: "NO_RESULTS", name: "NoResultsError", status: undefined }
      ]
    )
  })
})
