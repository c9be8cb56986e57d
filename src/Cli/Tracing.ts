/** Whether the spans of a command are exported; otherwise nothing is loaded for them. */
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
