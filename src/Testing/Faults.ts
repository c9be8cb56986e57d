/**
 * Transports that lose and delay requests, as layers around the real ones. A test on these transports shows that its
 * runs survive such faults.
 */
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import { validated } from "../CheckAsEffect.ts"
import { ConnectionError, ValidationError } from "../Errors.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { WorkerTransport } from "../Protocol/Worker.ts"
import { show } from "../Show.ts"

/** Which requests are lost or delayed. */
export interface FaultOptions {
  /** Loses every n-th request, for an n of at least 2. By default no request is lost in this way. */
  readonly every?: number
  /** The probability that a request is lost, from 0 to below 1; 0 by default. */
  readonly chance?: number
  /**
   * The seed of the random numbers for `chance`; random by default. The error of a lost request names the seed, so that
   * a test can be repeated.
   */
  readonly seed?: number | string
  /**
   * When the request is lost. `"before"`, the default: the request is lost and not carried out. `"after"`: the request is
   * carried out, and its response is lost.
   */
  readonly lose?: "before" | "after"
  /** The delay of each request, in milliseconds; 0 by default. */
  readonly delayMs?: number
}

const faultKeys = {
  every: true,
  chance: true,
  seed: true,
  lose: true,
  delayMs: true
} satisfies Keys<FaultOptions>

type ApplyFaults = <A, E, R, E2>(
  request: Effect.Effect<A, E, R>,
  lost: (which: string) => E2
) => Effect.Effect<A, E | E2, R>

/** Makes the faults of one transport. The requests of that transport are counted together. */
const makeFaults = (options: FaultOptions): Effect.Effect<ApplyFaults, ValidationError> =>
  Effect.gen(function* () {
    yield* validated(() => checkKeys(options, faultKeys, "faults"))
    const { chance = 0, delayMs = 0, every, lose = "before", seed: given } = options
    if (every !== undefined && !(Number.isInteger(every) && every >= 2)) {
      return yield* Effect.fail(
        new ValidationError(`\`every\` of faults must be an integer, at least 2, got ${show(every)}`)
      )
    }
    if (!(chance >= 0 && chance < 1)) {
      return yield* Effect.fail(
        new ValidationError(`\`chance\` of faults must be a number from 0 to below 1, got ${show(chance)}`)
      )
    }
    const seed = given ?? (yield* Random.nextIntBetween(0, 2 ** 31))
    const random = yield* Random.withSeed(Random.Random, seed)
    const seedText = chance === 0 ? "" : `, seed ${JSON.stringify(seed)}`
    let requests = 0
    return (request, lost) =>
      Effect.suspend(() => {
        const number = ++requests
        // a random number is drawn for every request, so that with a given seed `chance` loses the same requests, whatever
        // `every` says
        const isUnlucky = random.nextDoubleUnsafe() < chance
        const failLost = Effect.suspend(() => Effect.fail(lost(`number ${number}${seedText}`)))
        const isLost = isUnlucky || (every !== undefined && number % every === 0)
        const faultyRequest = !isLost
          ? request
          : lose === "before"
            ? failLost
            : Effect.andThen(request, failLost)
        return delayMs > 0 ? Effect.delay(faultyRequest, delayMs) : faultyRequest
      })
  })

/** Loses and delays the reports of a worker; the transport underneath comes from the context. */
export const layerFaultyWorkerTransport = (
  options: FaultOptions
): Layer.Layer<WorkerTransport, ValidationError, WorkerTransport> =>
  Layer.effect(
    WorkerTransport,
    Effect.map(Effect.all([WorkerTransport, makeFaults(options)]), ([transport, applyFaults]) =>
      WorkerTransport.of({
        open: (registration, handlers) =>
          Effect.map(transport.open(registration, handlers), (session) => ({
            ...session,
            report: (reports) =>
              applyFaults(
                session.report(reports),
                (which) => new ConnectionError(`The test lost this report: ${which}`)
              )
          }))
      })
    )
  )

/** Loses and delays the requests of a client over HTTP; the client underneath comes from the context. */
export const layerFaultyHttpClient = (
  options: FaultOptions
): Layer.Layer<HttpClient.HttpClient, ValidationError, HttpClient.HttpClient> =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.map(Effect.all([HttpClient.HttpClient, makeFaults(options)]), ([http, applyFaults]) =>
      HttpClient.transform(http, (effect, request) =>
        applyFaults(
          effect,
          (which) =>
            new HttpClientError.HttpClientError({
              reason: new HttpClientError.TransportError({
                request,
                cause: new Error(`The test lost this request: ${which}`)
              })
            })
        )
      )
    )
  )
