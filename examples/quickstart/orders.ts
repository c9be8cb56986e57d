/** Two functions of a shop: one that processes an order, and one that fails and rolls back. */
import { createFunction, NonRetryableError } from "@ironflow/node"
import { record } from "./ledger.ts"

export interface Shop {
  /** The file of the ledger. */
  readonly ledger: string
  /** 1 in the first process, 2 in the process after the crash. */
  readonly life: number
  /** Asks a person to approve an order. The answer comes later, as an event. */
  readonly askForApproval: (orderId: string) => void
}

export const makeFunctions = (shop: Shop) => {
  /** Every step does this first: it writes a line to the ledger, and prints one. */
  const work = (functionId: string, step: string, remark: string, mark = "✓"): void => {
    record(shop.ledger, { life: shop.life, functionId, step })
    console.log(`   ${mark} ${step.padEnd(16)} ${remark}`)
  }

  const processOrder = createFunction(
    { id: "process-order", triggers: [{ event: "order.placed" }] },
    async ({ event, step }) => {
      const note = (name: string, remark: string) => work("process-order", name, remark)

      const order = await step.run("validate", () => {
        const total = event.data.price * event.data.quantity
        note("validate", `${event.data.quantity} x ${event.data.item}, ${total} EUR`)
        return { id: event.data.orderId, total }
      })

      const payment = await step.run("charge", () => {
        note("charge", `${order.total} EUR; what follows is a durable sleep of one second`)
        return { receipt: `receipt-${order.id}` }
      })

      // Nothing stays in memory during the sleep: this function runs again from the top afterwards, and the results above come
      // from the journal.
      await step.sleep("let-it-settle", "1s")

      const [stock, parcel] = await step.parallel("prepare", [
        (branch) =>
          branch.run("reserve-stock", () => {
            note("reserve-stock", "in parallel with ...")
            return { shelf: "B7" }
          }),
        (branch) =>
          branch.run("print-label", () => {
            note("print-label", "... this")
            return { label: `label-${order.id}` }
          })
      ])

      await step.run("pack", () => {
        if (shop.life === 1) {
          work("process-order", "pack", "the box is half full when SIGKILL comes", "✗")
          process.kill(process.pid, "SIGKILL")
        }
        note("pack", `from shelf ${stock.shelf} with ${parcel.label}, from the beginning`)
      })

      await step.run("ask-approval", () => {
        note("ask-approval", "a person has to say yes")
        shop.askForApproval(order.id)
      })
      const approval = await step.waitForEvent("approval", {
        event: "order.approved",
        match: "data.orderId",
        timeout: "1h"
      })

      return step.run("ship", () => {
        note("ship", `approved by ${approval.data.by}`)
        return { orderId: order.id, receipt: payment.receipt, approvedBy: approval.data.by }
      })
    }
  )

  const sendGift = createFunction(
    { id: "send-gift", triggers: [{ event: "gift.ordered" }] },
    async ({ event, step }) => {
      const note = (name: string, remark: string) => work("send-gift", name, remark)
      const undo = (name: string, remark: string) => work("send-gift", name, remark, "↩")

      await step.run("reserve-stock", () => note("reserve-stock", event.data.item))
      step.compensate("reserve-stock", () => undo("release-stock", "back on the shelf"))

      await step.run("charge", () => note("charge", "30 EUR"))
      step.compensate("charge", () => undo("refund", "30 EUR"))

      await step.run("book-courier", () => {
        work("send-gift", "book-courier", `no courier goes to ${event.data.to}`, "✗")
        throw new NonRetryableError(`No courier goes to ${event.data.to}`)
      })
    }
  )

  return [processOrder, sendGift]
}
