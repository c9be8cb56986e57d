import { assert, describe, it } from "vitest"
import { encodeCompletedSteps } from "../../src/Protocol/LegacyJobs.ts"
import { NonRetryableError } from "../../src/Errors.ts"
import type { Job } from "../../src/Protocol/Worker.ts"
import { encodeResult } from "../../src/ResultEncoding.ts"

describe("the journal for a worker of another SDK", () => {
  it("keeps the messages of errors in results", () => {
    const reason = new NonRetryableError("declined", { code: "CARD_DECLINED" })
    const job: Pick<Job, "journal" | "runId"> = {
      runId: "run_1",
      journal: [
        {
          stepKey: "settle:0",
          name: "settle",
          kind: "run",
          outcome: { _tag: "Success", value: encodeResult({ reason }, "Result") },
          attempt: 1
        }
      ]
    }

    // the test reads no other field of the job
    const [step] = encodeCompletedSteps(job as Job, "step_id")

    assert.deepStrictEqual(JSON.parse(step ?? ""), {
      step_id: "run_1:settle:0",
      name: "settle",
      output: { reason: { name: "NonRetryableError", message: "declined", code: "CARD_DECLINED" } }
    })
  })
})
