/**
 * The real engine in memory, on virtual time. Retries, waits, cron and concurrency are real, and take
 * milliseconds.
 *
 * ```ts
 * const Test = Testing.layer({ functions: [processOrder] })
 *
 * const program = Effect.gen(function* () {
 *   const client = yield* Client.Client
 *   const engine = yield* Testing.TestEngine
 *   const { runIds } = yield* client.emit("order.placed", { orderId: "o-1" })
 *   yield* TestClock.adjust("7 days")
 *   return yield* engine.runToEnd(runIds[0])
 * }).pipe(Effect.provide(Test))
 * ```
 */
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { ClientServices } from "../Client/Services.ts"
import type { TestError } from "./TestError.ts"
import type { AnyFunction } from "../Function.ts"
import type { AnyProjection } from "../Projection/Projection.ts"
import {
  type HandlerRequirements,
  makeVirtual,
  type TestEngine,
  type TestEngineOptions
} from "./VirtualEngine.ts"

export type { RepeatedSteps } from "./RepeatedSteps.ts"
export type { RunHistory } from "../Protocol/History.ts"
export type { Divergence, StepName } from "./Replay.ts"
export { type FaultOptions, layerFaultyHttpClient, layerFaultyWorkerTransport } from "./Faults.ts"
export {
  layerPlayingHttpClient,
  layerRecordingHttpClient,
  makeTape,
  type PlayOptions,
  type Tape,
  type TapeExchange,
  type TapeRequest
} from "./Tape.ts"
export {
  type RunToEndOptions,
  TestEngine,
  type TestEngineOptions,
  type TestEngineService
} from "./VirtualEngine.ts"
export { verifyEffect as verify, type VerifyOptions } from "./Verify.ts"

/**
 * Makes an engine in memory, a worker for the functions and projections, and a client of the engine. All of
 * them are on virtual time, which `TestClock` shows and advances. Handlers can use the services that are made
 * here too.
 */
export const make: <
  const Functions extends ReadonlyArray<AnyFunction> = [],
  const Projections extends ReadonlyArray<AnyProjection> = []
>(
  options: TestEngineOptions<Functions, Projections>
) => Effect.Effect<
  Context.Context<TestEngine | ClientServices>,
  TestError,
  HandlerRequirements<Functions, Projections> | Scope.Scope
> = makeVirtual

/** {@link make} as a layer. */
export const layer = <
  const Functions extends ReadonlyArray<AnyFunction> = [],
  const Projections extends ReadonlyArray<AnyProjection> = []
>(
  options: TestEngineOptions<Functions, Projections> = {}
): Layer.Layer<TestEngine | ClientServices, TestError, HandlerRequirements<Functions, Projections>> =>
  Layer.effectContext(make(options))
