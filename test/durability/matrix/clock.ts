/**
 * Shifts the wall clock of its process by the milliseconds in the file that `IRONFLOW_TEST_CLOCK` names, and reads the
 * file again at SIGUSR2. It has to be loaded before anything else, with `--import`.
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
