/**
 * Loaded before anything else (`--import`), it sets the wall clock of its process off by the milliseconds in the file that
 * `IRONFLOW_TEST_CLOCK` names, and reads them again at SIGUSR2.
 */
import fs from "node:fs"
import process from "node:process"

const read = (): number => Number(fs.readFileSync(process.env.IRONFLOW_TEST_CLOCK ?? "", "utf8"))
const now = Date.now.bind(Date)
let shift = read()
const shifted = (): number => now() + shift
process.on("SIGUSR2", () => (shift = read()))

Date.now = shifted
globalThis.Date = new Proxy(Date, {
  apply: (RealDate) => new RealDate(shifted()).toString(),
  construct: (RealDate, args, newTarget) =>
    Reflect.construct(RealDate, args.length === 0 ? [shifted()] : args, newTarget)
})
