/** The functions of the benchmarks: some steps in a row with small results, and a sleep of one second. */
import { createFunction } from "@ironflow/node"

const stepsInARow = (kind: string, count: number) =>
  createFunction({ id: kind, triggers: [{ event: `bench.${kind}` }] }, async ({ step }) => {
    let last = { ok: true, i: -1 }
    for (let i = 0; i < count; i++) last = await step.run(`step-${i}`, async () => ({ ok: true, i }))
    return last
  })

const oneSecondOfSleep = createFunction(
  { id: "sleep", triggers: [{ event: "bench.sleep" }] },
  async ({ step }) => {
    await step.sleep("nap", 1000)
    return { ok: true }
  }
)

export const functions = [
  stepsInARow("s1", 1),
  stepsInARow("s3", 3),
  stepsInARow("s10", 10),
  oneSecondOfSleep
]
