/** The statements of a run without failure listeners and traces: each one is needed. */
import { StatementSync } from "node:sqlite"
import { createFunction } from "@ironflow/node"
import { createTestEngine } from "@ironflow/node/test"
import { assert, describe, it } from "vitest"

/** What is asked of the database, as verb and table, while `during` goes on. */
const asked = async (during: () => Promise<unknown>): Promise<ReadonlyArray<string>> => {
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
  it("that completes are those for its event, its row and its steps, in one commit each", async () => {
    const order = createFunction({ id: "order", triggers }, async ({ step }) => {
      await step.run("charge", async () => "charged")
      await step.run("ship", async () => "shipped")
    })
    await using engine = await createTestEngine({ functions: [order] })
    const place = async () => {
      await engine.client.emit("order.placed", { orderId: "o-1" })
      await engine.settle()
    }
    // what is remembered is asked for once
    await place()
    const seen = await asked(place)

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

  it("that fails are no more than that when there is no onFailure", async () => {
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
      return await asked(place)
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
