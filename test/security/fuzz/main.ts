/**
 * The fuzzer: `npm run fuzz -- --seed 7 --minutes 10`.
 *
 * Sends odd requests, frames and answers over every transport to a real `ironflow serve`, while another process watches it. If
 * something breaks, it prints the last inputs and ends with 1.
 *
 * - `--seed`: decides the inputs; random by default
 * - `--minutes`: 1 by default, one half with keys and the other without; no limit with `--count`
 * - `--keys`, `--open`: only with keys, or only without
 * - `--rss`: the limit for the memory of the server and of the app, in MB; 300 by default
 * - `--transports`: only these, such as `http,http2 frames,ws`
 * - `--from`, `--count`: only these inputs of the seed, to reproduce a failure
 */
import process from "node:process"
import { parseArgs } from "node:util"
import { transports } from "./Inputs.ts"
import { defaultBounds, fuzz } from "./Fuzzer.ts"

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    minutes: { type: "string" },
    keys: { type: "boolean", default: false },
    open: { type: "boolean", default: false },
    rss: { type: "string", default: String(defaultBounds.rssMb) },
    transports: { type: "string" },
    from: { type: "string", default: "0" },
    count: { type: "string" }
  }
})

const number = (name: string, text: string): number => {
  const value = Number(text)
  if (!(value >= 0)) throw new Error(`--${name} must be a number, got "${text}"`)
  return value
}

const seed = values.seed === undefined ? Math.floor(Math.random() * 1e9) : number("seed", values.seed)
const count = values.count === undefined ? undefined : number("count", values.count)
const minutes =
  values.minutes !== undefined ? number("minutes", values.minutes) : count === undefined ? 1 : undefined
const chosen = values.transports?.split(",")
const unknown = chosen?.find((name) => !(transports as ReadonlyArray<string>).includes(name))
if (unknown !== undefined) throw new Error(`There is no transport "${unknown}": ${transports.join(", ")}`)
const modes = values.keys === values.open ? [true, false] : [values.keys]

const bounds = { ...defaultBounds, rssMb: number("rss", values.rss) }
console.log(`Seed ${seed}. Bounds: ${JSON.stringify(bounds)}`)
for (const withKeys of modes) {
  const result = await fuzz({
    seed,
    withKeys,
    bounds,
    ...(chosen === undefined ? {} : { transports: transports.filter((name) => chosen.includes(name)) }),
    from: number("from", values.from),
    ...(count === undefined ? {} : { count }),
    ...(minutes === undefined ? {} : { minutes: minutes / modes.length })
  })
  console.log(
    `${withKeys ? "With keys" : "Without keys"}: ${result.inputs} inputs. ${JSON.stringify(result.report)}`
  )
  if (result.broken !== undefined) {
    console.log(`Broken: ${result.broken}`)
    process.exitCode = 1
  }
}
