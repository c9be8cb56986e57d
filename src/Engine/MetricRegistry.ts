/** Puts measured values into the registry of Effect's metrics. */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import type { HistogramData } from "../Histogram.ts"
import type { MetricFamily } from "./MetricFamily.ts"

/** Maximum number of series in the registry of Effect's metrics. Further series are only in `/metrics`. */
const MAX_SERIES = 5000

/**
 * Returns a function that puts measured values into the registry of Effect's metrics, from which exporters read the values.
 * `onRead` is called whenever an exporter reads a value.
 */
export const makeRegistry = (
  onRead: () => void
): Effect.Effect<(families: ReadonlyArray<MetricFamily>) => void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    const states = new Map<string, { current: unknown }>()
    const registrations: Array<Metric.Registration> = []
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const registration of registrations) registration.remove()
      })
    )
    const put = (key: string, state: unknown, register: (get: () => never) => Metric.Registration): void => {
      const registered = states.get(key)
      if (registered !== undefined) {
        registered.current = state
        return
      }
      if (states.size >= MAX_SERIES) return
      const newState = { current: state }
      states.set(key, newState)
      registrations.push(
        register(() => {
          onRead()
          // safe cast: all states of one key are of the same kind
          return newState.current as never
        })
      )
    }
    const nothing = () => undefined
    return (families) => {
      for (const family of families) {
        const { help: description, name } = family
        if (family.kind === "histogram") {
          const metric = Metric.histogram(name, { description, boundaries: family.histogram.bounds })
          put(name, histogramState(family.histogram), (get) =>
            Metric.registerUnsafe(metric, context, { get, update: nothing, modify: nothing })
          )
          continue
        }
        const sampled = new Set<string>()
        for (const { labels, value } of family.samples) {
          const key = `${name}${JSON.stringify(labels)}`
          sampled.add(key)
          if (family.kind === "counter") {
            const metric = Metric.counter(name, { description, attributes: labels, incremental: true })
            put(key, { count: value, incremental: true }, (get) =>
              Metric.registerUnsafe(metric, context, { get, update: nothing, modify: nothing })
            )
          } else {
            const metric = Metric.gauge(name, { description, attributes: labels })
            put(key, { value }, (get) =>
              Metric.registerUnsafe(metric, context, { get, update: nothing, modify: nothing })
            )
          }
        }
        // a series that was registered earlier and has no sample now is set to 0: a function whose last waiting run has started,
        // for example
        if (family.kind === "gauge") {
          for (const [key, state] of states) {
            if (key.startsWith(`${name}{`) && !sampled.has(key)) state.current = { value: 0 }
          }
        }
      }
    }
  })

const histogramState = ({ bounds, count, counts, max, min, sum }: HistogramData): Metric.HistogramState => {
  let countUpTo = 0
  const buckets = [...bounds, Number.POSITIVE_INFINITY].map((bound, i) => {
    countUpTo += counts[i] ?? 0
    return [bound, countUpTo] as [number, number]
  })
  return { buckets, count, sum, min, max }
}
