/** `IRONFLOW_LOG_LEVEL` for the loggers of handlers, and for the log of the engine. */
import * as Effect from "effect/Effect"
import { afterEach, assert, beforeEach, describe, it, vi } from "vitest"
import { createFunction } from "@ironflow/node"
import { IronflowFunction } from "@ironflow/node/effect"
import { startEngine } from "@ironflow/node/engine"
import { layerLogger } from "../../src/Promise/EngineLogs.ts"
import type { Logger } from "../../src/Logger.ts"

const levels = ["debug", "info", "warn", "error"] as const

let lines: Array<string> = []
beforeEach(() => {
  lines = []
  for (const level of levels) {
    vi.spyOn(console, level).mockImplementation((line: string) => void lines.push(`${level} ${line}`))
  }
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

const logAll = (logger: Logger): void => {
  for (const level of levels) logger[level]("from the handler")
}
const triggers = [{ event: "order.placed" }]

describe.each([
  ["a Promise handler", createFunction({ id: "f", triggers }, async ({ logger }) => logAll(logger))],
  [
    "an Effect handler",
    IronflowFunction.make({ id: "f", triggers }, ({ logger }) => Effect.sync(() => logAll(logger)))
  ]
])("the logger of %s", (_, fn) => {
  it.each([
    ["debug", ["debug", "info", "warn", "error"]],
    ["warn", ["warn", "error"]],
    ["error", ["error"]],
    ["silent", []]
  ])("shows at level %s the lines of that level and above", async (level, shown) => {
    vi.stubEnv("IRONFLOW_LOG_LEVEL", level)
    vi.stubEnv("IRONFLOW_DEBUG", "")
    await using engine = await startEngine({ filename: ":memory:", functions: [fn], logger: false })

    const { runIds } = await engine.client.emit("order.placed", {})
    await engine.client.waitForRun(runIds[0]!)

    assert.deepStrictEqual(
      lines.filter((line) => line.endsWith("from the handler")).map((line) => line.split(" ")[0]),
      shown
    )
  })
})

it("a logger gets the debug lines of the engine too", async () => {
  const debug = vi.fn()
  const silent = { debug, info: () => undefined, warn: () => undefined, error: () => undefined }

  await Effect.runPromise(Effect.provide(Effect.logDebug("the log was whole"), layerLogger(silent)))

  assert.strictEqual(debug.mock.calls[0]?.[0], "the log was whole")
})
