import { afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"
import * as Cause from "effect/Cause"
import { lineOf } from "../src/EffectLogger.ts"
import { notStoredError } from "../src/Engine/Workers/ConnectedWorker.ts"
import { StoreError } from "../src/Errors.ts"
import {
  createLogger,
  createNoopLogger,
  type Logger,
  type LogLevel,
  resolveLogger,
  runLogger
} from "../src/Logger.ts"

const levels = ["debug", "info", "warn", "error"] as const

/** The lines that reached the console, as `<level> <line>`. */
let lines: Array<string> = []

beforeEach(() => {
  lines = []
  for (const level of levels) {
    vi.spyOn(console, level).mockImplementation((line: string) => {
      lines.push(`${level} ${line}`)
    })
  }
})

afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

const logAll = (logger: Logger) => {
  for (const level of levels) logger[level]("hello")
}

describe("createLogger", () => {
  it.each<readonly [LogLevel, ReadonlyArray<string>]>([
    ["debug", ["debug", "info", "warn", "error"]],
    ["info", ["info", "warn", "error"]],
    ["warn", ["warn", "error"]],
    ["error", ["error"]],
    ["silent", []]
  ])("at level %s shows %o", (level, shown) => {
    logAll(createLogger({ level }))

    assert.deepStrictEqual(
      lines,
      shown.map((at) => `${at} [ironflow] hello`)
    )
  })

  it.each<readonly [string, number]>([
    ["WARN", 2],
    ["silent", 0],
    ["", 3]
  ])("uses the level %o of IRONFLOW_LOG_LEVEL", (level, shown) => {
    vi.stubEnv("IRONFLOW_LOG_LEVEL", level)

    logAll(createLogger())

    assert.strictEqual(lines.length, shown)
  })

  it("says once that IRONFLOW_LOG_LEVEL is invalid, and uses the default level", () => {
    vi.stubEnv("IRONFLOW_LOG_LEVEL", "verbose")

    logAll(createLogger())
    logAll(createLogger())

    const said = lines.filter((line) => line.includes("IRONFLOW_LOG_LEVEL"))
    assert.deepStrictEqual(said, [
      'warn [ironflow] IRONFLOW_LOG_LEVEL must be "debug", "info", "warn", "error" or "silent", got "verbose". "info" is used instead'
    ])
    assert.strictEqual(lines.length, 1 + 2 * 3)
  })

  it("refuses an unknown level", () => {
    assert.throws(
      () => createLogger({ level: "verbose" as LogLevel }),
      /^createLogger: `level` must be "debug", "info", "warn", "error" or "silent", got "verbose"$/
    )
  })

  const cyclic: { self?: unknown } = {}
  cyclic.self = cyclic
  it.each<readonly [data: unknown, text: string]>([
    [{ a: 1 }, ' {"a":1}'],
    ["text", ' "text"'],
    [0, " 0"],
    [null, " null"],
    [undefined, ""],
    [{ n: 5n }, ' {"n":"5n"}'],
    [cyclic, " [data that cannot be shown as JSON]"]
  ])("shows the data %o as%s", (data, text) => {
    createLogger({ prefix: "[p]" }).info("message", data)

    assert.deepStrictEqual(lines, [`info [p] message${text}`])
  })

  it("shows errors inside the data", () => {
    createLogger().error("failed", { error: new TypeError("bad") })

    assert.match(lines[0] ?? "", /"error":\{"name":"TypeError","message":"bad"/)
  })
})

describe("resolveLogger", () => {
  it("uses a given logger, is silent for false, and otherwise makes a logger with the prefix", () => {
    const own = createNoopLogger()

    assert.strictEqual(resolveLogger(own, "[p]"), own)
    logAll(resolveLogger(false, "[p]"))
    assert.deepStrictEqual(lines, [])
    resolveLogger(undefined, "[p]").warn("hello")
    assert.deepStrictEqual(lines, ["warn [p] hello"])
  })
})

describe("runLogger", () => {
  it("is silent while replaying", () => {
    let replaying = true
    const logger = runLogger("run_0123456789", () => replaying)

    logger.info("old")
    replaying = false
    logger.info("new", { a: 1 })

    assert.deepStrictEqual(lines, ['info [ironflow:23456789] new {"a":1}'])
  })

  it.each<readonly [string, ReadonlyArray<string>]>([
    ["", ["info", "warn", "error"]],
    ["debug", ["debug", "info", "warn", "error"]],
    ["WARN", ["warn", "error"]],
    ["error", ["error"]],
    ["silent", []]
  ])("uses the level %o of IRONFLOW_LOG_LEVEL", (level, shown) => {
    vi.stubEnv("IRONFLOW_LOG_LEVEL", level)
    vi.stubEnv("IRONFLOW_DEBUG", "")

    logAll(runLogger("r", () => false))

    assert.deepStrictEqual(
      lines,
      shown.map((at) => `${at} [ironflow:r] hello`)
    )
  })

  it("shows debug lines with IRONFLOW_DEBUG", () => {
    vi.stubEnv("IRONFLOW_LOG_LEVEL", "error")
    vi.stubEnv("IRONFLOW_DEBUG", "1")

    runLogger("r", () => false).debug("now")

    assert.deepStrictEqual(lines, ["debug [ironflow:r] now"])
  })

  it("passes every level to a logger of the user", () => {
    const seen: Array<readonly [string, unknown]> = []
    const take = (message: string, data?: unknown) => void seen.push([message, data])

    logAll(runLogger("run_0123456789", () => false, { debug: take, info: take, warn: take, error: take }))

    assert.strictEqual(seen.length, 4)
    assert.deepStrictEqual(seen[0], ["[ironflow:23456789] hello", undefined])
    assert.deepStrictEqual(lines, [])
  })
})

describe("the formats", () => {
  const fields = { run: "run_1", function: "charge", step: "pay the bill", attempt: 2 }

  it("json has time, level, message, fields and data in one line", () => {
    createLogger({ format: "json" }).warn(
      "declined\nby the bank",
      { code: 51, error: new Error("no") },
      fields
    )

    const { time, ...line } = JSON.parse(lines[0]!.slice("warn ".length))
    assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000)
    assert.deepInclude(line, {
      level: "warn",
      message: "declined\nby the bank",
      run: "run_1",
      function: "charge",
      step: "pay the bill",
      attempt: 2
    })
    assert.deepInclude(line.data, { code: 51 })
    assert.notInclude(lines[0]!, "\n")
  })

  it("logfmt has them as pairs, quoted where necessary", () => {
    createLogger({ format: "logfmt" }).warn('say "no"', { code: 51 }, fields)

    assert.match(
      lines[0]!,
      /^warn time=\S+ level=warn message="say \\"no\\"" run=run_1 function=charge step="pay the bill" attempt=2 data="\{\\"code\\":51\}"$/
    )
  })

  it("shows the stack of an error, unless the database cannot be reached or is closed", () => {
    const unavailable = new StoreError("Cannot read the log", { code: "STORE_UNAVAILABLE", retryable: true })
    const closed = new StoreError("The store is closed", { code: "STORE_UNAVAILABLE" })
    for (const error of [new Error("no money"), unavailable, closed, notStoredError(unavailable)]) {
      createLogger({ format: "json" }).warn("It has failed", error)
    }

    const stacks = lines.map((line) => typeof JSON.parse(line.slice("warn ".length)).data.stack)
    assert.deepStrictEqual(stacks, ["string", "undefined", "undefined", "undefined"])
  })

  it("does the same for errors that an engine logs with Effect", () => {
    const stackOf = (error: Error) => {
      const { data } = lineOf({ cause: Cause.empty, logLevel: "Warn", message: ["It has failed", error] })
      return typeof Object(data).stack
    }
    assert.strictEqual(stackOf(new Error("no money")), "string")
    assert.strictEqual(
      stackOf(new StoreError("Cannot read", { code: "STORE_UNAVAILABLE", retryable: true })),
      "undefined"
    )
  })

  it.each(["json", "logfmt"] as const)("%s has one line for each entry, whatever is logged", (format) => {
    const cyclic: { self?: unknown } = {}
    cyclic.self = cyclic
    createLogger({ format }).info("\u001b[31m\r\n\u009b", cyclic, { "a b=": "\n", time: "now" })

    assert.strictEqual(lines.length, 1)
    assert.match(lines[0]!, /data that cannot be shown/)
    // oxlint-disable-next-line eslint/no-control-regex -- the test checks that there are none
    assert.notMatch(lines[0]!, /[\u0000-\u001f]/)
    if (format === "json") assert.notStrictEqual(JSON.parse(lines[0]!.slice("info ".length)).time, "now")
  })

  it("can be chosen with IRONFLOW_LOG_FORMAT, in upper or lower case, also for handlers", () => {
    vi.stubEnv("IRONFLOW_LOG_FORMAT", "JSON")

    createLogger().info("hello")
    runLogger("run_1", () => false).info("hello", { a: 1 })

    for (const line of lines) assert.strictEqual(JSON.parse(line.slice("info ".length)).message, "hello")
    assert.deepInclude(JSON.parse(lines[1]!.slice("info ".length)), { run: "run_1", data: { a: 1 } })
  })

  it("warns once that IRONFLOW_LOG_FORMAT is invalid", () => {
    vi.stubEnv("IRONFLOW_LOG_FORMAT", "xml")

    createLogger().info("hello")
    createLogger().info("hello")

    assert.deepStrictEqual(lines, [
      'warn [ironflow] IRONFLOW_LOG_FORMAT must be "pretty", "json" or "logfmt", got "xml". "pretty" is used instead',
      "info [ironflow] hello",
      "info [ironflow] hello"
    ])
  })

  it("refuses an unknown format", () => {
    assert.throws(
      () => createLogger({ format: "xml" as "json" }),
      /^createLogger: `format` must be "pretty", "json" or "logfmt", got "xml"$/
    )
  })
})

describe("a terminal that is not read", () => {
  it("costs no memory, and later shows once how many lines are missing", () => {
    const waiting = vi.spyOn(process.stderr, "writableLength", "get").mockReturnValue(2 ** 21)
    const logger = createLogger({ prefix: "[p]" })

    logger.warn("lost")
    logger.error("lost")
    waiting.mockReturnValue(0)
    logger.warn("back")
    logger.warn("again")

    assert.deepStrictEqual(lines, [
      "warn [ironflow] 2 log lines are missing here: they could not be written",
      "warn [p] back",
      "warn [p] again"
    ])
  })
})
