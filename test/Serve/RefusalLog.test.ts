/** Which refused webhook requests are warnings. */
import { WebhookError } from "@ironflow/node"
import { expect, it } from "vitest"
import { RefusalLog } from "../../src/Serve/RefusalLog.ts"

it("warns of refusals for the same reason once in ten seconds, with how many others there were", () => {
  const warnings: Array<string> = []
  const ignore = () => undefined
  const log = new RefusalLog({
    debug: ignore,
    info: ignore,
    warn: (line) => void warnings.push(line),
    error: ignore
  })
  const refused = new WebhookError("Wrong signature", { code: "VERIFY_FAILED", status: 401 })
  const add = (webhook: string | undefined, nowMs: number) => log.add(webhook, 401, refused, nowMs)

  for (const nowMs of [0, 1, 9_999, 10_000, 20_000]) add("shop", nowMs)
  add("bank", 20_001)

  const line = 'A request to webhook "shop" was refused with 401 (VERIFY_FAILED): Wrong signature'
  expect(warnings).toEqual([
    line,
    `${line}. Since the last such line, 2 others were refused for this reason`,
    line,
    line.replace("shop", "bank")
  ])
})
