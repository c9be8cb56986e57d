/** The statements for a run that has neither failure listeners nor traces: none of them could be left out. */
import { StatementSync } from "node:sqlite"
import { createFunction } from "@ironflow/node"
import { createTestEngine } from "@ironflow/node/test"
import { assert, describe, it } from "vitest"

/** The statements that the database receives during `during`, as verb and table. */
const statementsDuring = async (during: () => Promise<unknown>): Promise<ReadonlyArray<string>> => {
  const seen: Array<string> = []
  const originals = (["run", "get", "all", "iterate"] as const).map(
    (method) => [method, Object.getOwnPropertyDescriptor(StatementSync.prototype, method)!] as const
  )
  for (const [method, original] of originals) {
    Object.defineProperty(StatementSync.prototype, method, {
      ...original,
      value: function (this: StatementSync, ...values: ReadonlyArray<unknown>): unknown {
        const [, verb, table] = /^\s*(\w+)(?:.*?\b(?:INTO|FROM))?\s*(\w*)/s.exec(this.sourceSQL) ?? []
        seen.push(verb === "BEGIN" ? verb : `${verb} ${table}`.trim())
        return original.value.apply(this, values)
      }
    })
  }
  try {
    await during()
  } finally {
    for (const [method, original] of originals) {
      Object.defineProperty(StatementSync.prototype, method, original)
    }
  }
  return seen
}

const triggers = [{ event: "order.placed" }]

describe("the statements of a run", () => {
  it("that completes are those for its event, its row and its steps, with one commit for each report", async () => {
    const order = createFunction({ id: "order", triggers }, async ({ step }) => {
      await step.run("charge", async () => "charged")
      await step.run("ship", async () => "shipped")
    })
    await using engine = await createTestEngine({ functions: [order] })
    const place = async () => {
      await engine.client.emit("order.placed", { orderId: "o-1" })
      await engine.settle()
    }
    // the first run also asks for what the engine then remembers
    await place()
    const seen = await statementsDuring(place)

    assert.deepStrictEqual(seen, [
      "BEGIN",
      "INSERT events",
      "INSERT runs",
      "COMMIT",
      "BEGIN",
      "INSERT steps",
      "COMMIT",
      "BEGIN",
      "INSERT steps",
      "UPDATE runs",
      "COMMIT"
    ])
  })

  it("that fails without onFailure are only those for its event, its step and its row", async () => {
    const failing = async (options: { readonly onFailure?: () => Promise<void> }) => {
      const order = createFunction(
        { id: "order", triggers, retry: { maxAttempts: 1 }, ...options },
        async ({ step }) => {
          await step.run("charge", async () => {
            throw new Error("declined")
          })
        }
      )
      await using engine = await createTestEngine({ functions: [order] })
      const place = async () => {
        await engine.client.emit("order.placed", { orderId: "o-1" })
        await engine.settle()
      }
      await place()
      return await statementsDuring(place)
    }

    const needed = [
      "BEGIN",
      "INSERT events",
      "INSERT runs",
      "COMMIT",
      "BEGIN",
      "INSERT steps",
      "UPDATE runs",
      "COMMIT"
    ]
    assert.deepStrictEqual(await failing({}), needed)
    assert.isAbove((await failing({ onFailure: async () => undefined })).length, needed.length)
  })
})
