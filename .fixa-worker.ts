import { createFunction } from "@ironflow/node"
import { readFileSync } from "node:fs"
export const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }], searchBy: ["event.data.customer"], retry: { maxAttempts: 1 } },
  async ({ event, step }) => step.run("charge", () => {
    if (event.data.customer === "c-7" && readFileSync("/tmp/fixa/audit/broken", "utf8").trim() === "yes") throw new Error("card of c-7 was declined")
    return { ok: event.data.n }
  }))
