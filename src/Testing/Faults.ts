/** Transports that lose and delay requests, as layers around the real ones, to prove that runs survive it. */
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as Layer from "effect/Layer"
import { ConnectionError } from "../Errors.ts"
import { WorkerTransport } from "../Protocol/Worker.ts"

export interface FaultOptions {
  /** Every n-th request is lost, at least 2; none by default. */
  readonly every?: number
  /** Whether a lost request is lost before it was carried out, or its answer after that; `"before"` by default. */
  readonly lose?: "before" | "after"
  /** How long each request is held up first, milliseconds; 0 by default. */
  readonly delayMs?: number
}

/** Requests of one transport go through here, one after the other. */
const faults = ({ delayMs = 0, every, lose = "before" }: FaultOptions) => {
  let requests = 0
  return <A, E, R, E2>(request: Effect.Effect<A, E, R>, lost: () => E2): Effect.Effect<A, E | E2, R> =>
    Effect.suspend((): Effect.Effect<A, E | E2, R> => {
      const isLost = every !== undefined && ++requests % every === 0
      const sent: Effect.Effect<A, E | E2, R> = !isLost
        ? request
        : lose === "before"
          ? Effect.suspend(() => Effect.fail(lost()))
          : Effect.andThen(
              request,
              Effect.suspend(() => Effect.fail(lost()))
            )
      return delayMs > 0 ? Effect.delay(sent, delayMs) : sent
    })
}

/** What the worker reports is lost and delayed; the transport underneath comes from the context. */
export const layerFaultyWorkerTransport = (
  options: FaultOptions
): Layer.Layer<WorkerTransport, never, WorkerTransport> =>
  Layer.effect(
    WorkerTransport,
    Effect.map(WorkerTransport, (transport) => {
      const through = faults(options)
      return WorkerTransport.of({
        open: (registration, handlers) =>
          Effect.map(transport.open(registration, handlers), (session) => ({
            ...session,
            report: (reports) =>
              through(session.report(reports), () => new ConnectionError("The test lost this report"))
          }))
      })
    })
  )

/** What a client asks over HTTP is lost and delayed; the client underneath comes from the context. */
export const layerFaultyHttpClient = (
  options: FaultOptions
): Layer.Layer<HttpClient.HttpClient, never, HttpClient.HttpClient> =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.map(HttpClient.HttpClient, (http) => {
      const through = faults(options)
      return HttpClient.transform(http, (effect, request) =>
        through(
          effect,
          () =>
            new HttpClientError.HttpClientError({
              reason: new HttpClientError.TransportError({
                request,
                cause: new Error("The test lost this request")
              })
            })
        )
      )
    })
  )
