/**
 * The shop's functions as async handlers, one for every kind of step. The data of the event decides the outcome of a
 * run.
 */
import { setTimeout as delay } from "node:timers/promises"
import {
  createFunction,
  type FunctionContext,
  InvokeError,
  InvokeTimeoutError,
  NonRetryableError,
  StepError,
  WaitTimeoutError
} from "@ironflow/node"
import { Diary, type Execution, type Receipt } from "./Diary.ts"
import { FOREVER } from "./Plan.ts"
import type { SideLog } from "./SideLog.ts"

const retry = { maxAttempts: 3, initialDelayMs: 20, backoffFactor: 2 }

export const makeFunctions = (log: SideLog) => {
  const open = ({ event, run }: FunctionContext) => {
    const diary = new Diary(log, run)
    /** The body of a step: takes `ms`, and fails as configured. */
    const body =
      (options: { readonly ms?: number; readonly failsWith?: (attempt: number) => Error | undefined } = {}) =>
      async (execution: Execution & { readonly signal: AbortSignal }): Promise<Receipt> => {
        const entry = diary.begin(execution)
        const { signal } = execution
        await delay(options.ms ?? event.data.work ?? 0, undefined, { signal }).catch(() => {
          entry.abort()
          throw signal.reason
        })
        const error = options.failsWith?.(execution.attempt)
        if (error === undefined) return entry.end()
        entry.fail()
        throw error
      }
    return { diary, body }
  }

  const processOrder = createFunction(
    { id: "process-order", triggers: [{ event: "order.placed" }], retry },
    async (context) => {
      const { event, step } = context
      const { body, diary } = open(context)
      diary.saw(await step.run("charge", body()))
      await step.sleep("settle", event.data.pause)
      const prepared = await step.parallel("prepare", [
        (branch) => branch.run("stock", body()),
        async (branch) => {
          await branch.sleep("ink", 5)
          return branch.run("label", body())
        }
      ])
      for (const receipt of prepared) diary.saw(receipt)
      diary.saw(await step.run("ship", body()))
      return diary.seen
    }
  )

  const collectPayment = createFunction(
    { id: "collect-payment", triggers: [{ event: "payment.requested" }], retry },
    async (context) => {
      const { event, step } = context
      const { body, diary } = open(context)
      diary.saw(await step.run("ask", body()))
      for (const timeout of [event.data.firstTimeout, event.data.secondTimeout]) {
        try {
          const payment = await step.waitForEvent("payment", {
            event: "payment.received",
            match: "data.orderId",
            timeout
          })
          diary.saw(await step.run("thank", body()))
          diary.note(`thanked for ${payment.id}`, "yes")
        } catch (error) {
          if (!(error instanceof WaitTimeoutError)) throw error
          diary.saw(await step.run("remind", body()))
        }
      }
      return diary.seen
    }
  )

  /** Started by a pattern and an expression. */
  const auditPayment = createFunction(
    {
      id: "audit-payment",
      triggers: [{ event: "payment.*", expression: "has(event.data.amount) && event.data.amount > 50" }],
      retry
    },
    async (context) => {
      const { body, diary } = open(context)
      diary.saw(await context.step.run("audit", body()))
      return diary.seen
    }
  )

  const makeInvoice = createFunction({ id: "make-invoice", triggers: [], retry }, async (context) => {
    const { event, step } = context
    const { body, diary } = open(context)
    diary.saw(await step.run("number", body()))
    await step.sleep("ink", event.data.child === "slow" ? 300 : 10)
    const failsWith = () =>
      event.data.child === "broken" ? new NonRetryableError("The printer is broken") : undefined
    diary.saw(await step.run("print", body({ failsWith })))
    return diary.seen
  })

  const notify = createFunction({ id: "notify", triggers: [], retry }, async (context) => {
    const { body, diary } = open(context)
    diary.saw(await context.step.run("send", body()))
    return diary.seen
  })

  const billOrder = createFunction(
    { id: "bill-order", triggers: [{ event: "bill.requested" }], retry },
    async (context) => {
      const { event, run, step } = context
      const { body, diary } = open(context)
      const { token } = diary.saw(await step.run("prepare", body()))
      const { child } = event.data
      try {
        const invoice = await step.invoke(
          "make-invoice",
          { child, by: run.id, token, work: event.data.work },
          { timeout: child === "slow" ? 60 : FOREVER }
        )
        diary.note("invoice", invoice["print:0"])
      } catch (error) {
        if (!(error instanceof InvokeError)) throw error
        diary.note("invoice", error instanceof InvokeTimeoutError ? "too slow" : "failed")
      }
      const { runId } = await step.invokeAsync("notify", { by: run.id, token, work: event.data.work })
      diary.note("notified by", runId)
      diary.saw(await step.run("file", body()))
      return diary.seen
    }
  )

  const sendText = createFunction(
    { id: "send-text", triggers: [{ event: "text.requested" }], retry },
    async (context) => {
      const { event, step } = context
      const { body, diary } = open(context)
      const failsWith = (attempt: number) =>
        attempt <= event.data.failures ? new Error(`No signal at attempt ${attempt}`) : undefined
      try {
        diary.saw(await step.run("text", body({ failsWith })))
      } catch (error) {
        if (!(error instanceof StepError)) throw error
        diary.saw(await step.run("email", body()))
      }
      diary.saw(await step.run("file", body()))
      return diary.seen
    }
  )

  const bookTrip = createFunction(
    { id: "book-trip", triggers: [{ event: "trip.requested" }], retry },
    async (context) => {
      const { event, step } = context
      const { body, diary } = open(context)
      const { failAt, stubborn } = event.data
      for (const name of ["flight", "hotel", "car"]) {
        const failsWith = () => (failAt === name ? new NonRetryableError(`There is no ${name}`) : undefined)
        diary.saw(await step.run(name, body({ failsWith })))
        // this compensation may always fail; the others have to run nevertheless
        const refuses = () => (stubborn && name === "hotel" ? new Error("No refund") : undefined)
        step.compensate(name, body({ failsWith: refuses }))
      }
      await step.sleep("think it over", 10)
      if (failAt === "end") throw new NonRetryableError("The trip is off")
      return diary.seen
    }
  )

  const printPages = createFunction(
    {
      id: "print-pages",
      triggers: [{ event: "pages.requested" }],
      concurrency: { limit: 2, key: "event.data.printer" },
      retry
    },
    async (context) => {
      const { event, step } = context
      const { body, diary } = open(context)
      for (let page = 0; page < event.data.pages; page++) {
        diary.saw(await step.run("page", body()))
        if (page % 2 === 0) await step.sleep("dry", event.data.pause)
      }
      return diary.seen
    }
  )

  const writeReport = createFunction(
    { id: "write-report", triggers: [{ event: "report.requested" }], retry },
    async (context) => {
      const { event, run, step } = context
      const { body, diary } = open(context)
      diary.saw(await step.run("gather", body()))
      if (run.attempt <= event.data.failures) {
        diary.throwing(run.attempt)
        throw new Error(`No paper at attempt ${run.attempt}`)
      }
      diary.saw(await step.run("write", body()))
      return diary.seen
    }
  )

  const announceNews = createFunction(
    { id: "announce-news", triggers: [{ event: "news.written" }], retry },
    async (context) => {
      const { event, run, step } = context
      const { body, diary } = open(context)
      for (let edition = 0; edition < 2; edition++) {
        const { token } = diary.saw(await step.run("edit", body()))
        await step.publish("news", { run: run.id, edition, token })
        if (edition === 0) await step.sleep("until tomorrow", event.data.pause)
      }
      return diary.seen
    }
  )

  const printLabels = createFunction(
    { id: "print-labels", triggers: [{ event: "labels.requested" }], retry },
    async (context) => {
      const { event, step } = context
      const { body, diary } = open(context)
      const parcels = Array.from({ length: event.data.parcels }, (_, i) => i)
      const labels = await step.map(
        "labels",
        parcels,
        async (parcel, branch) => {
          const failsWith = () =>
            event.data.bad.includes(parcel) ? new NonRetryableError("No address") : undefined
          const receipt = await branch.run("print", body({ failsWith }))
          await branch.sleep("dry", 10)
          return receipt
        },
        { concurrency: event.data.concurrency, onError: "allSettled" }
      )
      for (const label of labels) if (!(label instanceof Error)) diary.saw(label)
      diary.saw(await step.run("sort", body()))
      return diary.seen
    }
  )

  /** Writes an event together with the result of a step. */
  const packParcel = createFunction(
    { id: "pack-parcel", triggers: [{ event: "parcel.packed" }], retry },
    async (context) => {
      const { run, step } = context
      const { body, diary } = open(context)
      const { token } = diary.saw(await step.run("weigh", body()))
      await step.tx("book", (tx) => {
        const data = { run: run.id, token }
        tx.streams.append(`parcel-${run.id}`, { name: "parcel.booked", data, entityType: "parcel" })
      })
      diary.saw(await step.run("hand over", body()))
      return diary.seen
    }
  )

  /** A race that must have the same winner in every turn. */
  const callCourier = createFunction(
    { id: "call-courier", triggers: [{ event: "courier.called" }], retry },
    async (context) => {
      const { event, step } = context
      const { body, diary } = open(context)
      const call = step.run("call", body({ ms: event.data.answer }))
      const patience = step.sleep("patience", event.data.patience)
      diary.note("winner", await Promise.race([call.then(() => "call"), patience.then(() => "patience")]))
      diary.saw(await step.run("decide", body()))
      await step.sleep("drive", event.data.pause)
      diary.saw(await call)
      await patience
      diary.saw(await step.run("deliver", body()))
      return diary.seen
    }
  )

  /** A function with a step whose body takes longer than the timeout of the step. */
  const takeNap = createFunction(
    { id: "take-nap", triggers: [{ event: "nap.requested" }], retry },
    async (context) => {
      const { event, step } = context
      const { body, diary } = open(context)
      diary.saw(
        await step.run(
          "nap",
          async (execution) => {
            const entry = diary.begin(execution)
            // ends at once, because on a busy machine anything else may take longer than the timeout
            if (execution.attempt > event.data.naps) return entry.end()
            await new Promise((resolve) => execution.signal.addEventListener("abort", resolve))
            entry.fail()
            throw execution.signal.reason
          },
          { timeout: "60ms" }
        )
      )
      diary.saw(await step.run("wake up", body()))
      return diary.seen
    }
  )

  return [
    processOrder,
    collectPayment,
    auditPayment,
    makeInvoice,
    notify,
    billOrder,
    sendText,
    bookTrip,
    printPages,
    writeReport,
    announceNews,
    printLabels,
    packParcel,
    callCourier,
    takeNap
  ]
}
