/** A function behaves the same wherever it runs: one suite for a worker in memory, a polling worker, and push. */
import {
  createEventDefinitionRegistry,
  createFunction,
  defineEvent,
  type FunctionConfig,
  type FunctionContext,
  InvokeError,
  IronflowError,
  NonRetryableError,
  type Run,
  StepError,
  WaitTimeoutError
} from "@ironflow/node"
import { describe, expect, it, vi } from "vitest"
import { z } from "zod"
import { createDeferred } from "../../src/Deferred.ts"
import { type Host, type HostOptions, hosts, pushedAsExisting, type StartHost } from "./Hosts.ts"

const soon = { initialDelayMs: 20, maxAttempts: 3 }

const order = (
  handler: (context: FunctionContext) => Promise<unknown>,
  config: Partial<FunctionConfig> = {}
) => createFunction({ id: "order", triggers: [{ event: "order.placed" }], retry: soon, ...config }, handler)

const place = async ({ client }: Host, data: unknown = { orderId: "o-1" }): Promise<string> => {
  const { runIds } = await client.emit("order.placed", data)
  expect(runIds).toHaveLength(1)
  return runIds[0] ?? ""
}

const ended = ({ client }: Host, runId: string): Promise<Run> => client.waitForRun(runId, { timeout: 20_000 })

const runOf = async (host: Host, data?: unknown): Promise<Run> => ended(host, await place(host, data))

const reaches = ({ client }: Host, runId: string, code: string) =>
  vi.waitFor(async () => expect((await client.explain(runId)).code).toBe(code), { timeout: 10_000 })

/** What every kind of host can do, legacy handlers included. */
const common = (start: StartHost) => {
  it("runs each step once, and passes its result to every later turn", async () => {
    const log: Array<string> = []
    await using host = await start([
      order(async ({ event, step }) => {
        const price = await step.run("price", async () => (log.push("price"), { cents: 250 }))
        await step.sleep("cool off", "50ms")
        const receipt = await step.run("charge", async () => (log.push("charge"), `paid ${price.cents}`))
        return { receipt, orderId: event.data.orderId }
      })
    ])

    const run = await runOf(host)

    expect(run).toMatchObject({ status: "completed", output: { receipt: "paid 250", orderId: "o-1" } })
    expect(log).toEqual(["price", "charge"])
  })

  it("retries a failing step after its delay, and no other steps", async () => {
    const log: Array<string> = []
    await using host = await start([
      order(async ({ step }) => {
        await step.run("reserve", async () => void log.push("reserve"))
        return step.run("charge", async () => {
          log.push("charge")
          if (log.filter((line) => line === "charge").length < 3) throw new Error("The card terminal is busy")
          return "paid"
        })
      })
    ])

    expect(await runOf(host)).toMatchObject({ status: "completed", output: "paid", attempt: 1 })
    expect(log).toEqual(["reserve", "charge", "charge", "charge"])
  })

  it("fails after the last attempt with a StepError that the handler may catch", async () => {
    let attempts = 0
    await using host = await start([
      order(async ({ step }) => {
        try {
          await step.run("charge", async () => {
            attempts++
            throw new Error("declined")
          })
        } catch (error) {
          return error instanceof StepError && error.message
        }
        return "no error"
      })
    ])

    expect(await runOf(host)).toMatchObject({
      status: "completed",
      output: expect.stringContaining("declined")
    })
    expect(attempts).toBe(3)
  })

  it("does not retry errors that are not retryable", async () => {
    let attempts = 0
    await using host = await start([
      order(async ({ step }) =>
        step.run("charge", async () => {
          attempts++
          throw new NonRetryableError("The card is stolen")
        })
      )
    ])

    expect(await runOf(host)).toMatchObject({
      status: "failed",
      error: { message: expect.stringContaining("The card is stolen") }
    })
    expect(attempts).toBe(1)
  })

  it("retries the run when code outside steps fails", async () => {
    let turns = 0
    await using host = await start([
      order(async ({ run }) => {
        turns++
        if (run.attempt < 2) throw new IronflowError("The rates are not there yet", { retryable: true })
        return run.attempt
      })
    ])

    expect(await runOf(host)).toMatchObject({ status: "completed", output: 2, attempt: 2 })
    expect(turns).toBe(2)
  })

  it("waits for an event whose value matches", async () => {
    await using host = await start([
      order(async ({ step }) => {
        const paid = await step.waitForEvent<{ orderId: string; cents: number }>("payment", {
          event: "order.paid",
          match: "data.orderId",
          timeout: "30s"
        })
        return paid.data.cents
      })
    ])
    const runId = await place(host)
    await reaches(host, runId, "WAITING_FOR_EVENT")

    await host.client.emit("order.paid", { orderId: "o-2", cents: 1 })
    await host.client.emit("order.paid", { orderId: "o-1", cents: 250 })

    expect(await ended(host, runId)).toMatchObject({ status: "completed", output: 250 })
  })

  it("invokes a function and gets its output, and starts another without waiting", async () => {
    const child = createFunction({ id: "ship", triggers: [] }, async ({ event }) => ({ shipped: event.data }))
    await using host = await start([
      order(async ({ step }) => {
        const shipped = await step.invoke("ship", { parcel: 1 })
        const { runId } = await step.invokeAsync("ship", { parcel: 2 })
        return { shipped, runId }
      }),
      child
    ])

    const run = await runOf(host)

    expect(run).toMatchObject({ status: "completed", output: { shipped: { shipped: { parcel: 1 } } } })
    const { runId } = run.output as { readonly runId: string }
    expect(await ended(host, runId)).toMatchObject({
      status: "completed",
      output: { shipped: { parcel: 2 } }
    })
  })

  it("runs branches in parallel, each step once, and collects their results", async () => {
    const log: Array<string> = []
    await using host = await start([
      order(async ({ step }) => {
        const [a, b] = await step.parallel("prepare", [
          (branch) => branch.run("pack", async () => (log.push("pack"), "packed")),
          async (branch) => {
            await branch.sleep("wait for label", "30ms")
            return branch.run("label", async () => (log.push("label"), "labelled"))
          }
        ])
        const doubled = await step.map("double", [1, 2, 3], (n, branch, i) =>
          branch.run(`double ${i}`, async () => n * 2)
        )
        return { a, b, doubled }
      })
    ])

    expect(await runOf(host)).toMatchObject({
      status: "completed",
      output: { a: "packed", b: "labelled", doubled: [2, 4, 6] }
    })
    expect(log.toSorted()).toEqual(["label", "pack"])
  })

  it("compensates in reverse order when the run fails", async () => {
    const log: Array<string> = []
    await using host = await start([
      order(async ({ step }) => {
        await step.run("reserve", async () => void log.push("reserve"))
        step.compensate("reserve", async () => void log.push("undo reserve"))
        await step.run("charge", async () => void log.push("charge"))
        step.compensate("charge", async () => void log.push("undo charge"))
        await step.run("ship", async () => {
          throw new NonRetryableError("No van")
        })
      })
    ])

    expect(await runOf(host)).toMatchObject({
      status: "failed",
      error: { message: expect.stringContaining("No van") }
    })
    expect(log).toEqual(["reserve", "charge", "undo charge", "undo reserve"])
  })

  it("publishes once, whatever the number of turns", async () => {
    await using host = await start([
      order(async ({ step }) => {
        const { sequence } = await step.publish("orders", { orderId: "o-1" })
        await step.sleep("a while", "30ms")
        await step.sleep("another", "30ms")
        return sequence
      })
    ])

    const run = await runOf(host)
    const next = await host.client.publish("orders", {})

    expect(run.status).toBe("completed")
    // the log contains only the message of this run between the two
    expect(next.sequence).toBeGreaterThan(Number(run.output))
    const steps = await host.client.getRunSteps(run.id)
    expect(steps.filter(({ name }) => name.startsWith("publish:"))).toHaveLength(1)
  })

  it("runs at most the limit of a function at once", async () => {
    let running = 0
    let begun = 0
    let most = 0
    const placed = createDeferred<void>()
    await using host = await start([
      order(
        async ({ step }) =>
          step.run("pack", async () => {
            const nth = ++begun
            most = Math.max(most, ++running)
            // a run waits until all were placed, and until every run that may start has its partner
            await placed.promise
            await vi.waitFor(() => expect(begun).toBeGreaterThanOrEqual(nth + (nth % 2)))
            await host.client.listRuns()
            running--
          }),
        { concurrency: { limit: 2 } }
      )
    ])

    const runIds = await Promise.all(Array.from({ length: 6 }, () => place(host)))
    placed.resolve()
    for (const runId of runIds) expect(await ended(host, runId)).toMatchObject({ status: "completed" })

    expect(most).toBe(2)
  })

  it("fails a run whose data does not match the schema, and runs nothing", async () => {
    let ran = false
    const checked = createFunction(
      { id: "order", triggers: [{ event: "order.placed" }], schema: z.object({ orderId: z.string() }) },
      async () => void (ran = true)
    )
    await using host = await start([checked])

    expect(await runOf(host, { orderId: 7 })).toMatchObject({
      status: "failed",
      error: { message: expect.stringContaining("orderId") }
    })
    expect(ran).toBe(false)
  })

  it("passes events in their newest version", async () => {
    const eventDefinitions = createEventDefinitionRegistry()
    eventDefinitions.register(defineEvent({ name: "order.placed", version: 1 }))
    eventDefinitions.register(
      defineEvent({
        name: "order.placed",
        version: 2,
        upcast: (data) => ({ orderId: (data as { readonly id: string }).id })
      })
    )
    await using host = await start([order(async ({ event }) => event.data)], { eventDefinitions })

    expect(await runOf(host, { id: "o-9" })).toMatchObject({
      status: "completed",
      output: { orderId: "o-9" }
    })
  })

  it("gives the handler the secrets that its function names, and no others", async () => {
    const options: HostOptions = { masterKey: "ab".repeat(32) }
    await using host = await start(
      [
        order(
          async ({ secrets }) => ({
            key: secrets.get("CARRIER_KEY").length,
            other: secrets.has("OTHER_KEY")
          }),
          { secrets: ["CARRIER_KEY"] }
        )
      ],
      options
    )
    await host.engine.secrets.set("CARRIER_KEY", "12345")
    await host.engine.secrets.set("OTHER_KEY", "x")

    expect(await runOf(host)).toMatchObject({ status: "completed", output: { key: 5, other: false } })
  })

  it("fails a step that takes longer than its timeout", async () => {
    let attempts = 0
    await using host = await start([
      order(async ({ step }) =>
        step.run(
          "charge",
          async () => {
            if (++attempts === 1) await new Promise(() => undefined)
            return attempts
          },
          { timeout: "50ms" }
        )
      )
    ])

    expect(await runOf(host)).toMatchObject({ status: "completed", output: 2 })
  })
}

/** What requires whole turns. */
const wholeTurns = (start: StartHost) => {
  it("ends a wait at its timeout with an error that the handler may catch", async () => {
    await using host = await start([
      order(async ({ step }) => {
        try {
          await step.waitForEvent("payment", { event: "order.paid", timeout: "50ms" })
        } catch (error) {
          return error instanceof WaitTimeoutError
        }
        return "an event"
      })
    ])

    expect(await runOf(host)).toMatchObject({ status: "completed", output: true })
  })

  it("waits for several steps at once", async () => {
    await using host = await start([
      order(async ({ step }) =>
        step.parallel("both", [
          async (branch) => (await branch.waitForEvent("paid", { event: "order.paid", timeout: "30s" })).name,
          async (branch) =>
            (await branch.waitForEvent("packed", { event: "order.packed", timeout: "30s" })).name
        ])
      )
    ])
    const runId = await place(host)
    await reaches(host, runId, "WAITING_FOR_EVENT")

    await host.client.emit("order.packed", {})
    await host.client.emit("order.paid", {})

    expect(await ended(host, runId)).toMatchObject({ output: ["order.paid", "order.packed"] })
  })

  it("rejects with the first error of failFast, and returns errors of allSettled", async () => {
    await using host = await start([
      order(async ({ step }) => {
        const settled = await step.parallel(
          "try both",
          [
            (branch) => branch.run("good", async () => "good"),
            (branch) =>
              branch.run("bad", async () => {
                throw new NonRetryableError("bad")
              })
          ],
          { onError: "allSettled" }
        )
        const caught = await step
          .parallel("fail fast", [
            (branch) =>
              branch.run("worse", async () => {
                throw new NonRetryableError("worse")
              })
          ])
          .catch((error: unknown) => (error instanceof Error ? error.message : "none"))
        return { settled: settled.map((one) => (one instanceof Error ? one.message : one)), caught }
      })
    ])

    expect(await runOf(host)).toMatchObject({
      status: "completed",
      output: { settled: ["good", expect.stringContaining("bad")], caught: expect.stringContaining("worse") }
    })
  })

  it("aborts the running step of a run that is cancelled, and starts no other", async () => {
    const log: Array<string> = []
    await using host = await start([
      order(async ({ step }) => {
        await step.run("charge", async ({ signal }) => {
          log.push("charge")
          await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()))
          log.push("aborted")
        })
        await step.run("ship", async () => void log.push("ship"))
      })
    ])
    const runId = await place(host)
    await vi.waitFor(() => expect(log).toEqual(["charge"]), { timeout: 10_000 })

    await host.client.cancelRun(runId, "The customer has called")

    await vi.waitFor(() => expect(log).toEqual(["charge", "aborted"]), { timeout: 10_000 })
    expect(await ended(host, runId)).toMatchObject({ status: "cancelled" })
  })

  it("fails the parent of a failed function with an error that names the function", async () => {
    const child = createFunction({ id: "ship", triggers: [] }, async () => {
      throw new NonRetryableError("No van")
    })
    await using host = await start([
      order(async ({ step }) => step.invoke("ship").catch((error: Error) => error.name)),
      child
    ])

    expect(await runOf(host)).toMatchObject({ status: "completed", output: "InvokeError" })
  })
}

describe.each(Object.entries(hosts))("a function in %s", (name, start) => {
  common(start)
  wholeTurns(start)
  // a turn that reports with its response cannot receive a notice before
  it.skipIf(name === "push, reporting with the response")(
    "lets a sleep beside a long step end first",
    async () => {
      await using host = await start([
        order(async ({ step }) =>
          Promise.race([
            step.run("charge", async ({ signal }) => {
              await new Promise<void>((resolve) => {
                const timer = setTimeout(resolve, 8000)
                signal.addEventListener("abort", () => (clearTimeout(timer), resolve()))
              })
              return "paid"
            }),
            step.sleep("patience", "400ms").then(() => "too slow")
          ])
        )
      ])

      expect(await runOf(host)).toMatchObject({ status: "completed", output: "too slow" })
    }
  )
})

describe("a function that the engine calls as a handler of another package", () => {
  common(pushedAsExisting)

  it("is told that an invoked function has failed, and may continue", async () => {
    await using host = await pushedAsExisting([
      createFunction({ id: "charge", triggers: [] }, async () => {
        throw new NonRetryableError("The card was declined")
      }),
      order(async ({ step }) => {
        const outcome = await step.invoke("charge").catch((error: unknown) => error)
        if (!(outcome instanceof InvokeError)) return outcome
        await step.sleep("cool off", "20ms")
        return step.run("note", async () => [outcome.functionId, outcome.errorCause])
      })
    ])

    expect(await runOf(host)).toMatchObject({
      status: "completed",
      output: ["charge", expect.stringContaining("The card was declined")]
    })
  })

  it("compensates when an invoked function fails or times out", async () => {
    for (const [functionId, cause] of [
      ["declined", /The card was declined/],
      ["endless", /timed out after 50ms/]
    ] as const) {
      const log: Array<string> = []
      await using host = await pushedAsExisting([
        createFunction({ id: "declined", triggers: [] }, async () => {
          throw new NonRetryableError("The card was declined")
        }),
        createFunction({ id: "endless", triggers: [] }, async ({ step }) => step.sleep("sleep", "1h")),
        order(async ({ step }) => {
          await step.run("reserve", async () => void log.push("reserve"))
          step.compensate("reserve", async () => void log.push("undo reserve"))
          await step.invoke(functionId, {}, { timeout: functionId === "endless" ? 50 : 10_000 })
        })
      ])

      const run = await runOf(host)

      expect(run).toMatchObject({ status: "failed", error: { message: expect.stringMatching(cause) } })
      expect(log).toEqual(["reserve", "undo reserve"])
    }
  })
})
