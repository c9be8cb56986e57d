/** The test kit under the test runner of Node.js, as the guide describes it. */
import { execFile } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, test } from "vitest"
import { nodeArguments } from "../Built.ts"

const source = `import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { createFunction } from "@ironflow/node"
import { createTestClient, createTestEngine } from "@ironflow/node/test"

const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
  await step.sleep("cool-off", "7d")
  return await step.run("charge", () => "R-1")
})

describe("order", () => {
  it("charges", async () => {
    const t = createTestClient({ functions: [order] })
    t.mockStep("charge", () => "R-2")
    assert.equal((await t.emit("order.placed", {})).output, "R-2")
  })

  it("charges after a week", async () => {
    await using engine = await createTestEngine({ functions: [order] })
    const { runIds } = await engine.client.emit("order.placed", {})
    await engine.advance("6d")
    assert.equal((await engine.client.explain(runIds[0] ?? "")).code, "SLEEPING")
    assert.equal((await engine.runToEnd(runIds[0] ?? "")).output, "R-1")
  })

  it("fails where an assertion does not hold", async () => {
    assert.equal((await createTestClient({ functions: [order] }).emit("order.placed", {})).status, "completed")
  })
})
`

/** Runs files with node:test, from the main file `order.test.mts`. */
const run = async (files: Readonly<Record<string, string>>) => {
  const folder = mkdtempSync(join(import.meta.dirname, "../.examples-"))
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
    // vitest has set variables in this process that must not reach another test runner
    const { NODE_OPTIONS: _, NODE_TEST_CONTEXT: __, ...env } = process.env
    return await new Promise<{ code: unknown; printed: string }>((resolve) =>
      execFile(
        process.execPath,
        [...nodeArguments(), "--test", "--test-reporter=tap", join(folder, "order.test.mts")],
        { env, timeout: 50_000 },
        (error, stdout, stderr) =>
          resolve({ code: error === null ? 0 : error.code, printed: stdout + stderr })
      )
    )
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

test("the test kit works in node:test, and the process ends by itself", { timeout: 60_000 }, async () => {
  const { code, printed } = await run({ "order.test.mts": source })

  expect(printed).toMatch(/^ +ok 1 - charges$/m)
  expect(printed).toMatch(/^ +ok 2 - charges after a week$/m)
  expect(printed).toMatch(/^ +not ok 3 - fails where an assertion does not hold$/m)
  expect(printed).toMatch(/^# pass 2$/m)
  expect(code).toBe(1)
})

describe("with all timers of node:test mocked", () => {
  const mocking = 'import { mock } from "node:test"\nmock.timers.enable()\n'

  test("before each test, the test kit works", { timeout: 60_000 }, async () => {
    const { printed } = await run({
      "order.test.mts": source
        .replace("import { describe, it }", "import { afterEach, beforeEach, describe, it, mock }")
        .replace(
          'describe("order", () => {',
          "beforeEach(() => mock.timers.enable())\nafterEach(() => mock.timers.reset())\n$&"
        )
    })
    expect(printed).toMatch(/^ +ok 1 - charges$/m)
    expect(printed).toMatch(/^ +ok 2 - charges after a week$/m)
    expect(printed).toMatch(/^# pass 2$/m)
  })

  test("before the test kit is loaded, it works", { timeout: 60_000 }, async () => {
    const { printed } = await run({
      "mocked.mts": mocking,
      "order.test.mts": `import "./mocked.mts"\n${source}`
    })
    expect(printed).toMatch(/^# pass 2$/m)
  })

  test(
    "and synchronized with the modules of Node.js before the test kit is loaded, it says why that fails and what to do",
    {
      timeout: 60_000
    },
    async () => {
      const { printed } = await run({
        "mocked.mts": `${mocking}import { syncBuiltinESMExports } from "node:module"\nsyncBuiltinESMExports()\n`,
        "order.test.mts": `import "./mocked.mts"\n${source}`
      })
      expect(printed).toMatch(/^ +not ok 1 - charges$/m)
      expect(printed).toMatch(/^ +not ok 2 - charges after a week$/m)
      expect(printed).toContain("had replaced setImmediate, setTimeout before @ironflow/node was loaded")
    }
  )
})
