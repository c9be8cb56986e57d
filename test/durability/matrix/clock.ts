/** Loaded before anything else (`--import`), it shifts the wall clock of its process by `IRONFLOW_TEST_CLOCK_SHIFT` milliseconds. */
import process from "node:process"

const shift = Number(process.env.IRONFLOW_TEST_CLOCK_SHIFT)
const now = Date.now.bind(Date)
const shifted = (): number => now() + shift

Date.now = shifted
globalThis.Date = new Proxy(Date, {
  apply: (RealDate) => new RealDate(shifted()).toString(),
  construct: (RealDate, args, newTarget) =>
    Reflect.construct(RealDate, args.length === 0 ? [shifted()] : args, newTarget)
})
