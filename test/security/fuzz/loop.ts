/**
 * Loaded into a process beside its own program (`node --import loop.ts ...`). Writes the longest delay of the event loop in
 * the last quarter of a second, in milliseconds, into the file that `FUZZ_LOOP_FILE` names.
 */
import fs from "node:fs"
import { monitorEventLoopDelay } from "node:perf_hooks"
import process from "node:process"

const file = process.env.FUZZ_LOOP_FILE
// a child process would otherwise overwrite the file
delete process.env.FUZZ_LOOP_FILE

if (file !== undefined) {
  const fd = fs.openSync(file, "w")
  const number = Buffer.alloc(8)
  const histogram = monitorEventLoopDelay({ resolution: 10 })
  const write = (): void => {
    number.writeDoubleLE(histogram.max / 1e6)
    histogram.reset()
    fs.writeSync(fd, number, 0, 8, 0)
  }
  // the start of the process does not count as a delay
  fs.writeSync(fd, number, 0, 8, 0)
  setTimeout(() => {
    histogram.enable()
    setInterval(write, 250).unref()
  }, 500).unref()
}
