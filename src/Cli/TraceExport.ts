/**
 * Sends the spans of a command to an OTLP receiver, configured by the variables of OpenTelemetry
 * (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME` ...). When a receiver is down or slow, only spans are lost: a
 * request times out after five seconds, its spans are dropped, and sending resumes a minute later.
 */
import type * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as OtlpSerialization from "effect/observability/OtlpSerialization"
import * as OtlpTracer from "effect/observability/OtlpTracer"
import { ConnectionError } from "../Errors.ts"
import { SDK_VERSION } from "../SdkVersion.ts"

const ANSWER_TIMEOUT_MS = 5000

const layerReceiver = Layer.effect(
  HttpClient.HttpClient,
  Effect.gen(function* () {
    let isAway = false
    return HttpClient.transform(yield* HttpClient.HttpClient, (sent, { url }) =>
      sent.pipe(
        Effect.timeoutOrElse({
          duration: ANSWER_TIMEOUT_MS,
          orElse: () =>
            Effect.die(
              new ConnectionError(
                `The receiver of traces at ${url} has not answered for ${ANSWER_TIMEOUT_MS / 1000} s`
              )
            )
        }),
        Effect.tap(() => Effect.sync(() => (isAway = false))),
        Effect.tapCause((cause) => {
          if (isAway) return Effect.void
          isAway = true
          return Effect.logWarning(
            `Traces cannot be sent to ${url}, and are dropped until the receiver accepts them; everything else works. Check OTEL_EXPORTER_OTLP_ENDPOINT`,
            cause
          )
        })
      )
    )
  })
).pipe(Layer.provide(FetchHttpClient.layer))

/** Makes the layer from the current environment variables. */
export const make = (): Layer.Layer<never> =>
  OtlpTracer.layerFromConfig({
    resource: { serviceName: process.env.OTEL_SERVICE_NAME ?? "ironflow", serviceVersion: SDK_VERSION }
  }).pipe(
    Layer.provide(OtlpSerialization.layerJson),
    Layer.provide(layerReceiver),
    // naming a receiver turns the export on, unless OTEL_TRACES_EXPORTER turns it off
    Layer.provide(
      ConfigProvider.layer(ConfigProvider.fromEnv({ env: { OTEL_TRACES_EXPORTER: "otlp", ...process.env } }))
    ),
    Layer.catch((error: Config.ConfigError) =>
      Layer.effectDiscard(Effect.logWarning(`Traces are not sent: ${error.message}`))
    )
  )
