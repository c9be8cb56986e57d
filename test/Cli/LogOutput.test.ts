/** Log lines of commands, also when no program reads them. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { countingSink, stderrLogger } from "../../src/Cli/LogOutput.ts"

const root = join(import.meta.dirname, "../..")

describe("a logger of a command", () => {
  it("writes lines of its level and above, and reports how many could not be written", () => {
    const written: Array<string> = []
    let takes = true
    const sink = countingSink((text) => takes && written.push(text) > 0)
    const logger = stderrLogger({ format: "logfmt", level: "warn" }, sink)

    logger.info("below")
    logger.warn("first", undefined, { run: "run_1" })
    takes = false
    logger.warn("lost")
    logger.error("lost")
    takes = true
    logger.error("last")

    expect(written.join("").replaceAll(/time=\S+ /g, "")).toBe(
      "level=warn message=first run=run_1\n" +
        'level=warn message="2 log lines are missing here: they could not be written" missing=2\n' +
        "level=error message=last\n"
    )
  })
})

/** Logs 10,000 lines of a kilobyte, then says on standard output that it has finished. */
const program = `
  import { stderrLogger } from "./src/Cli/LogOutput.ts"
  const logger = stderrLogger({ format: "json", level: "info" })
  process.stderr.on("error", () => undefined)
  for (let i = 0; i < 10000; i++) {
    logger.info("x".repeat(1000))
    if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  process.stdout.write("done " + (process.stderr.writableLength < 2 * 1024 * 1024))
  process.exit(0)
`

const start = (stderr: "pipe" | number) =>
  spawn(
    process.execPath,
    [
      "--conditions=@ironflow/source",
      "--input-type=module",
      "--disable-warning=ExperimentalWarning",
      "-e",
      program
    ],
    { cwd: root, stdio: ["ignore", "pipe", stderr] }
  )

const outcome = async (child: ReturnType<typeof start>) => {
  let text = ""
  child.stdout!.on("data", (chunk) => (text += String(chunk)))
  const [code] = await once(child, "exit")
  return { code, text }
}

describe("a process whose log lines", () => {
  it("are never read continues, in bounded memory", async () => {
    // the test never reads the pipe
    expect(await outcome(start("pipe"))).toEqual({ code: 0, text: "done true" })
  })

  it("go to a closed pipe continues", async () => {
    const child = start("pipe")
    child.stderr!.destroy()

    expect(await outcome(child)).toEqual({ code: 0, text: "done true" })
  })

  it.skipIf(process.platform !== "linux")("go to a full disk continues", async () => {
    const full = openSync("/dev/full", "w")
    try {
      expect(await outcome(start(full))).toEqual({ code: 0, text: "done true" })
    } finally {
      closeSync(full)
    }
  })

  it("go to a file has all of them in the file", async () => {
    const folder = mkdtempSync(join(tmpdir(), "ironflow-"))
    try {
      const file = openSync(join(folder, "log"), "w")
      expect((await outcome(start(file))).code).toBe(0)
      closeSync(file)
      expect(readFileSync(join(folder, "log"), "utf8").trim().split("\n")).toHaveLength(10_000)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
})
