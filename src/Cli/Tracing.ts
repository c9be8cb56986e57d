/**
 * Exports the spans of a command when an environment variable names a receiver. Without a receiver, the code of
 * the export is not loaded.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

const variables = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]

export const layerTraces: Layer.Layer<never> = Layer.unwrap(
  Effect.suspend(() =>
    variables.some((name) => (process.env[name] ?? "") !== "")
      ? Effect.map(
          Effect.promise(() => import("./TraceExport.ts")),
          ({ make }) => make()
        )
      : Effect.succeed(Layer.empty)
  )
)
