/** Log lines of handlers are kept with their run, over every transport. */
import { createFunction, type RunLogLine, type RunnableFunction } from "@ironflow/node"
import { IronflowFunction, Step } from "@ironflow/node/effect"
import { startEngine } from "@ironflow/node/engine"
import * as Effect from "effect/Effect"
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import { ways } from "./Ways.ts"

const levels = ["debug", "info", "warn", "error"] as const

/** The lines that reached the console. */
let shown: Array<string> = []
beforeEach(() => {
  shown = []
  // Effect's own logger writes with `console.log`
  vi.spyOn(console, "log").mockImplementation(() => undefined)
  for (const level of levels) {
    vi.spyOn(console, level).mockImplementation((line: string) => void shown.push(line))
  }
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

const triggers = [{ event: "order.placed" }]
const retry = { maxAttempts: 2, initialDelayMs: 10 }

const withPromises = createFunction({ id: "order", triggers, retry }, async ({ event, logger, step }) => {
  logger.info("begins", { order: event.data.orderId })
  await step.run("charge", async ({ attempt }) => {
    logger.warn("charging")
    if (attempt === 1) throw new Error("declined")
  })
  // the next turn replays everything before this sleep
  await step.sleep("cool off", "20ms")
  logger.error("ends")
})

const withEffects = IronflowFunction.make({ id: "order", triggers, retry }, ({ event }) =>
  Effect.gen(function* () {
    const { orderId } = event.data as { readonly orderId: string }
    yield* Effect.logInfo("begins", { order: orderId })
    yield* Step.run(
      "charge",
      Effect.gen(function* () {
        yield* Effect.logWarning("charging")
        const { attempt } = yield* Step.StepAttempt
        if (attempt === 1) return yield* Effect.fail(new Error("declined"))
      })
    )
    yield* Step.sleep("cool off", "20 millis")
    yield* Effect.logError("ends")
  })
)

const withoutTime = ({ attempt, data, level, message, number, step }: RunLogLine) => ({
  number,
  level,
  message,
  data,
  step,
  attempt
})

const apis: ReadonlyArray<readonly [string, RunnableFunction]> = [
  ["a Promise handler", withPromises],
  ["an Effect handler", withEffects]
]

describe.each(Object.entries(ways))("over %s", (way, start) => {
  it.each(apis)("the lines of %s are kept once each, with step and attempt", async (_, fn) => {
    await using host = await start([fn])
    const { client } = host

    const { runIds } = await client.emit("order.placed", { orderId: "o-1" })
    const run = await client.waitForRun(runIds[0]!, { timeout: 20_000 })

    expect(run.status).toBe("completed")
    const lines = await client.getRunLogs(run.id)
    expect(lines.map(withoutTime)).toEqual([
      { number: 1, level: "info", message: "begins", data: { order: "o-1" }, step: undefined, attempt: 1 },
      { number: 2, level: "warn", message: "charging", data: undefined, step: "charge", attempt: 1 },
      { number: 3, level: "warn", message: "charging", data: undefined, step: "charge", attempt: 2 },
      { number: 4, level: "error", message: "ends", data: undefined, step: undefined, attempt: 1 }
    ])
    for (const line of lines) {
      expect(line.worker === undefined).toBe(way.startsWith("push"))
      expect(Math.abs(Date.parse(line.at) - Date.parse(run.createdAt))).toBeLessThan(20_000)
    }
  })
})

/** Runs a handler on an engine with these options, and returns the lines that are kept. */
const linesOf = async (
  fn: RunnableFunction,
  options: Partial<Parameters<typeof startEngine>[0]> = {}
): Promise<ReadonlyArray<RunLogLine>> => {
  await using engine = await startEngine({
    filename: ":memory:",
    functions: [fn],
    logger: false,
    ...options
  })
  const { runIds } = await engine.client.emit("order.placed", {})
  await engine.client.waitForRun(runIds[0]!, { timeout: 20_000 })
  return await engine.client.getRunLogs(runIds[0]!)
}

const logs = (how: Parameters<typeof createFunction>[1]) =>
  createFunction({ id: "order", triggers, secrets: ["API_TOKEN", "PIN"] }, how)

describe("the kept log of a run", () => {
  it("has the last 1,000 lines of one turn, and their numbers show that there were earlier ones", async () => {
    const lines = await linesOf(
      createFunction({ id: "order", triggers }, async ({ logger }) => {
        for (let i = 1; i <= 2500; i++) logger.info(`line ${i}`)
      })
    )

    expect(lines.length).toBeGreaterThanOrEqual(900)
    expect(lines.length).toBeLessThanOrEqual(1000)
    expect(lines.at(-1)).toMatchObject({ number: 2500, message: "line 2500" })
    expect(lines.every(({ message, number }) => message === `line ${number}`)).toBe(true)
  })

  it("is limited by the option of the engine, for all turns together", async () => {
    const lines = await linesOf(
      createFunction({ id: "order", triggers }, async ({ logger, step }) => {
        for (let i = 1; i <= 9; i++) await step.run(`step ${i}`, async () => logger.info(`line ${i}`))
      }),
      { keepLogs: { lines: 3 } }
    )

    expect(lines.map(({ number, message }) => [number, message])).toEqual([
      [7, "line 7"],
      [8, "line 8"],
      [9, "line 9"]
    ])
  })

  // the lines of one report are deleted together, once all of them are beyond the limit
  it("is limited to a number of characters", async () => {
    const lines = await linesOf(
      createFunction({ id: "order", triggers }, async ({ logger, step }) => {
        for (let i = 1; i <= 9; i++) {
          await step.run(`step ${i}`, async () => logger.info(`${i} ${"x".repeat(300)}`))
        }
      }),
      { keepLogs: { characters: 1000 } }
    )

    expect(lines.map(({ number }) => number)).toEqual([7, 8, 9])
  })

  it("is empty when the engine keeps no lines", async () => {
    const fn = createFunction({ id: "order", triggers }, async ({ logger }) => logger.info("hello"))

    expect(await linesOf(fn, { keepLogs: { lines: 0 } })).toEqual([])
  })

  it("refuses invalid limits", async () => {
    await expect(startEngine({ filename: ":memory:", keepLogs: { lines: -1 } })).rejects.toThrow(
      "`keepLogs.lines` must be an integer, at least 0, got -1"
    )
  })

  it("cuts off long messages and long data, and shows data that is not JSON as text", async () => {
    const cyclic: { self?: unknown } = {}
    cyclic.self = cyclic
    let deep: unknown = "end"
    for (let i = 0; i < 500; i++) deep = [deep]
    const lines = await linesOf(
      createFunction({ id: "order", triggers }, async ({ logger }) => {
        logger.info("m".repeat(50_000))
        logger.info("data", { text: "d".repeat(50_000) })
        logger.info("cyclic", cyclic)
        logger.info("deep", deep)
        logger.info("half \ud83d", "\ud83d")
      })
    )

    expect(lines).toHaveLength(5)
    expect(lines[0]!.message.length).toBe(8 * 1024 + 1)
    expect(lines[1]!.data).toMatch(/^\{"text":"d+…$/)
    expect(lines[2]!.data).toBe("[data that cannot be shown as JSON]")
    expect(lines[3]!.data).toMatch(/^\[{499,}/)
    expect(lines[4]!.message).toBe("half \ud83d")
  })

  // data with so many levels would make the server refuse the whole report, with the results of its steps
  it("shows data with too many levels as text, however many brackets its strings have", async () => {
    let deep: unknown = "end"
    for (let i = 0; i < 150; i++) deep = [deep]
    let allowed: unknown = "end"
    for (let i = 0; i < 100; i++) allowed = [allowed]
    const fn = createFunction({ id: "order", triggers }, async ({ logger }) => {
      logger.info("deep", { quoted: '\\"]' + "]".repeat(200), deep })
      logger.info("flat", { quoted: "[".repeat(200) })
      logger.info("allowed", allowed)
    })
    await using host = await ways["polling"]!([fn])

    const { runIds } = await host.client.emit("order.placed", {})
    const run = await host.client.waitForRun(runIds[0]!, { timeout: 20_000 })

    expect(run.status).toBe("completed")
    const lines = await host.client.getRunLogs(run.id)
    expect(lines[0]!.data).toMatch(/^\{"quoted"/)
    expect(lines[1]!.data).toEqual({ quoted: "[".repeat(200) })
    expect(lines[2]!.data).toEqual(allowed)
  })

  it("has no values of secrets", async () => {
    await using engine = await startEngine({
      filename: ":memory:",
      masterKey: "ab".repeat(32),
      logger: false
    })
    await engine.secrets.set("API_TOKEN", 'tok"en-4711')
    await engine.secrets.set("PIN", "47114711")
    const worker = engine.createWorker({
      functions: [
        logs(async ({ logger, secrets }) => {
          const token = secrets.get("API_TOKEN")
          logger.info(`the token is ${token}`, { token })
          logger.info("the number", { number: Number(secrets.get("PIN")) })
        })
      ],
      logger: false
    })
    worker.start().catch(() => undefined)
    await worker.ready()

    const { runIds } = await engine.client.emit("order.placed", {})
    await engine.client.waitForRun(runIds[0]!)

    expect(await engine.client.getRunLogs(runIds[0]!)).toMatchObject([
      { message: "the token is [secret API_TOKEN]", data: { token: "[secret API_TOKEN]" } },
      { message: "the number", data: '{"number":[secret PIN]}' }
    ])
  })

  it("also has lines below the level of the console, except debug lines", async () => {
    vi.stubEnv("IRONFLOW_LOG_LEVEL", "error")
    vi.stubEnv("IRONFLOW_DEBUG", "")
    const fn = createFunction({ id: "order", triggers }, async ({ logger }) => {
      for (const level of levels) logger[level](`said ${level}`)
    })

    const lines = await linesOf(fn)

    expect(lines.map(({ level }) => level)).toEqual(["info", "warn", "error"])
    expect(shown.filter((line) => line.includes("said"))).toHaveLength(1)
  })

  it("is not found for a run that does not exist", async () => {
    await using engine = await startEngine({ filename: ":memory:", logger: false })

    await expect(engine.client.getRunLogs("run_unknown")).rejects.toMatchObject({ code: "RUN_NOT_FOUND" })
  })
})
