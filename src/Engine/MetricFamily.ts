/** Families of measured values, as `/metrics` writes them. */
import type { HistogramData } from "../Histogram.ts"

export type Labels = { readonly [name: string]: string }

interface Described {
  readonly name: string
  readonly help: string
}

/** The measured values under one name: samples, or a histogram. */
export type MetricFamily = Described &
  (
    | {
        readonly kind: "counter" | "gauge"
        readonly samples: ReadonlyArray<{ readonly labels: Labels; readonly value: number }>
      }
    /** Durations in seconds. */
    | { readonly kind: "histogram"; readonly histogram: HistogramData }
  )
