/** Reads the metrics of the engine, which are in the text format of Prometheus. */
import { descriptions } from "../../Protocol/Server.ts"
import { send } from "./Calls.ts"

export interface Sample {
  readonly name: string
  readonly labels: { readonly [name: string]: string }
  readonly value: number
}

/** Reads all metrics. Fails with a `CallError`. */
export const readMetrics = async (signal?: AbortSignal): Promise<ReadonlyArray<Sample>> =>
  parseSamples(await send(descriptions.metrics, signal === undefined ? {} : { signal }))

const parseSamples = (text: string): ReadonlyArray<Sample> =>
  text.split("\n").flatMap((line) => {
    const [, name, labelText = "", value] = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
    if (name === undefined) return []
    const labels = [...labelText.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(
      ([, label = "", escaped = ""]) => [
        label,
        escaped.replace(/\\(.)/g, (_, letter: string) => (letter === "n" ? "\n" : letter))
      ]
    )
    return [{ name, labels: Object.fromEntries(labels), value: Number(value) }]
  })

/** The sum of a metric over all samples with these labels. */
export const sumOf = (samples: ReadonlyArray<Sample>, name: string, labels: Sample["labels"] = {}): number =>
  samples
    .filter(
      (one) =>
        one.name === name && Object.entries(labels).every(([label, value]) => one.labels[label] === value)
    )
    .reduce((sum, { value }) => sum + value, 0)
