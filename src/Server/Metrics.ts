/** The metrics of an engine, in the text format of Prometheus. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../Errors.ts"
import type { Caller } from "../Engine/Access/Access.ts"
import type { Labels, MetricFamily } from "../Engine/MetricFamily.ts"
import type { MetricsService } from "../Engine/Metrics.ts"

/** Makes the text of `/metrics`. `openPolls` returns how many polls of workers are open. */
export const make =
  ({ families }: Pick<MetricsService, "families">, openPolls: () => number) =>
  (caller: Caller | undefined): Effect.Effect<string, StoreError> =>
    Effect.map(families, (engineFamilies) =>
      [
        ...engineFamilies.map((family) => visibleFamily(caller, family)),
        {
          name: "ironflow_open_polls",
          kind: "gauge" as const,
          help: "Polls of workers that are open now.",
          samples: [{ labels: {}, value: openPolls() }]
        }
      ]
        .map(textOf)
        .join("")
    )

/**
 * Leaves out the series whose labels name something that the caller may not see: another environment than that of the
 * caller's key, or a function, consumer group or projection that the key may not read.
 */
const visibleFamily = (caller: Caller | undefined, family: MetricFamily): MetricFamily => {
  const keyEnvironment = caller?.key?.environment
  if (caller === undefined || family.kind === "histogram") return family
  const shows = ({ environment, function: fn, group, projection }: Labels): boolean => {
    if (environment === undefined || environment === "other") return true
    if (keyEnvironment !== undefined && environment !== keyEnvironment) return false
    if (fn !== undefined) return caller.isNotDenied("function:read", `function:${fn}`, environment)
    if (group !== undefined) return caller.isNotDenied("subscription:read", `group:${group}`, environment)
    return caller.isNotDenied("projection:read", `projection:${projection}`, environment)
  }
  return { ...family, samples: family.samples.filter(({ labels }) => shows(labels)) }
}

const textOf = (family: MetricFamily): string => {
  const { help, kind, name } = family
  const head = `# HELP ${name} ${help}\n# TYPE ${name} ${kind}\n`
  if (family.kind !== "histogram") {
    return head + family.samples.map(({ labels, value }) => line(name, labels, value)).join("")
  }
  const { bounds, count, counts, sum } = family.histogram
  let cumulativeCount = 0
  const buckets = bounds.map((bound, i) => {
    cumulativeCount += counts[i] ?? 0
    return line(`${name}_bucket`, { le: String(bound) }, cumulativeCount)
  })
  return (
    head +
    buckets.join("") +
    line(`${name}_bucket`, { le: "+Inf" }, count) +
    line(`${name}_sum`, {}, sum) +
    line(`${name}_count`, {}, count)
  )
}

const line = (name: string, labels: Labels, value: number): string => {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`)
  return `${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${value}\n`
}

const escapeLabel = (text: string): string =>
  text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"')
