/**
 * The examples of the documented 0.8.0 surface, unchanged, with what we export today: they compile, and they do over HTTP
 * what the text around them promises.
 *
 * `test/readme/*.ts.txt` are verbatim; `prelude.d.ts.txt` declares only the names that they do not declare, and
 * `functions.ts.txt` and `projections.ts.txt` are the modules that they import. Before an example runs, its URL and its ids
 * are replaced by those of the test.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import http from "node:http"
import { pathToFileURL } from "node:url"
import {
  createClient,
  createFunction,
  createWorker,
  type IronflowClient,
  NonRetryableError,
  type Run
} from "@ironflow/node"
import { afterAll, describe, expect, test, vi } from "vitest"
import { z } from "zod"
import { texts, textOf, useDocumented } from "./Documented.ts"
import { makeExamples } from "./Examples.ts"
import { nodeArguments } from "./Built.ts"

describe("the documented examples compile", () => {
  const examples = makeExamples(texts)
  afterAll(() => examples[Symbol.dispose]())

  test("all of them", { timeout: 120_000 }, async () => {
    expect(Object.keys(texts).length).toBeGreaterThanOrEqual(37)
    expect(await examples.typeCheck()).toBe("")
  })
})

describe("the documented examples do what they promise", () => {
  const documented = useDocumented()
  const { begin, cleanups, given, load, placeExample, runOf, untilExplained, waitFor, work, workOn } =
    documented

  describe("defining functions", () => {
    test("a basic function", async () => {
      given({ validateOrder: async ({ orderId }: { orderId: string }) => ({ orderId }) })
      await workOn("defining-functions.01", "processOrder")

      const run = await runOf("order.placed", { orderId: "o-1" })

      expect(run).toMatchObject({ status: "completed", output: { success: true, orderId: "o-1" } })
    })

    test("a schema rejects data that does not fit before it reaches the handler", async () => {
      const chargeCard = vi.fn(async (customerId: string, amount: number) => ({
        id: `${customerId}-${amount}`
      }))
      given({ chargeCard })
      await workOn("defining-functions.02", "processOrder")

      const fits = await runOf("order.placed", { orderId: "o-1", amount: 5, customerId: "c-1" })
      const doesNotFit = await runOf("order.placed", { orderId: "o-2", amount: "5", customerId: "c-1" })

      expect(fits).toMatchObject({ status: "completed", output: { receiptId: "c-1-5" } })
      expect(doesNotFit).toMatchObject({ status: "failed", error: { name: "SchemaValidationError" } })
      expect(chargeCard).toHaveBeenCalledTimes(1)
    })

    test("a full configuration, with secrets and an expression on a trigger", async () => {
      given({ OrderSchema: z.object({ orderId: z.string(), amount: z.number(), customerId: z.string() }) })
      for (const name of ["STRIPE_SECRET_KEY", "SENDGRID_API_KEY"]) {
        const body = JSON.stringify({ name, value: "s3cret" })
        const headers = { "content-type": "application/json" }
        expect(
          (await fetch(`${documented.server.url}/api/v1/secrets`, { method: "POST", headers, body })).ok
        ).toBe(true)
      }
      await workOn("defining-functions.03", "processOrder")
      const order = { orderId: "o-1", amount: 5, customerId: "c-1" }

      const run = await runOf("order.placed", order)
      const [low, high] = [
        await documented.client.emit("order.retry", { ...order, priority: 5 }),
        await documented.client.emit("order.retry", { ...order, priority: 6 })
      ]

      expect(run).toMatchObject({ status: "completed", maxAttempts: 5 })
      expect(low.runIds).toEqual([])
      expect(high.runIds).toHaveLength(1)
    })
  })

  describe("step primitives", () => {
    test("step.run", async () => {
      given({
        chargeCard: async (amount: number) => ({ id: `t-${amount}` }),
        callSlowApi: async (id: string) => `enriched ${id}`
      })
      await workOn("step-primitives.01", "processOrder")

      const run = await runOf("order.placed", { id: "o-1", amount: 5 })

      expect(run.output).toEqual({ transactionId: "t-5", enriched: "enriched o-1" })
    })

    test("step.sleep", async () => {
      const [sendWelcomeEmail, sendTrialEndingEmail] = [vi.fn(async () => "sent"), vi.fn(async () => "sent")]
      given({ sendWelcomeEmail, sendTrialEndingEmail })
      await workOn("step-primitives.02", "delayedNotification")

      const runId = await begin("user.signup", { email: "a@example.com" })
      await untilExplained(runId, "SLEEPING")
      const waiting = (await documented.client.getRunSteps(runId)).find((step) => step.status === "waiting")
      const [{ createdAt }, dueAt] = [await documented.client.getRun(runId), waiting?.dueAt ?? ""]

      expect(sendWelcomeEmail).toHaveBeenCalledWith("a@example.com")
      expect(sendTrialEndingEmail).not.toHaveBeenCalled()
      expect((Date.parse(dueAt) - Date.parse(createdAt)) / 86_400_000).toBeCloseTo(7, 2)

      // an operator can end the sleep before the week is over
      await documented.client.patchStep(waiting?.id ?? "", null)

      expect(await waitFor(runId)).toMatchObject({ status: "completed" })
      expect(sendTrialEndingEmail).toHaveBeenCalledTimes(1)
      expect(sendWelcomeEmail).toHaveBeenCalledTimes(1)
    })

    test("step.sleepUntil", async () => {
      const executeTask = vi.fn(async () => "done")
      given({ executeTask })
      await workOn("step-primitives.03", "scheduledTask")

      const run = await runOf("task.scheduled", { taskId: "t-1", deadline: "2026-01-31T00:00:00Z" })

      expect(run.status).toBe("completed")
      expect(executeTask).toHaveBeenCalledWith("t-1")
    })

    test("step.waitForEvent", async () => {
      const processApproval = vi.fn(async () => "processed")
      given({ sendApprovalRequest: async () => "asked", processApproval })
      await workOn("step-primitives.04", "approvalWorkflow")

      const runId = await begin("approval.requested", { requestId: "r-1", approverId: "a-1" })
      await untilExplained(runId, "WAITING_FOR_EVENT")
      await documented.client.emit("approval.received", { requestId: "r-2", approved: false })
      await documented.client.emit("approval.received", { requestId: "r-1", approved: true })

      expect((await waitFor(runId)).output).toEqual({ approved: true })
      expect(processApproval).toHaveBeenCalledExactlyOnceWith("r-1")
    })

    test("step.invoke", async () => {
      await workOn("step-primitives.05", "orchestrator")
      await work(
        createFunction(
          { id: "process-payment", triggers: [] },
          async ({ event }) => `paid ${event.data.amount}`
        ),
        createFunction(
          { id: "generate-report", triggers: [] },
          async ({ event }) => `of ${event.data.orderId}`
        )
      )

      const run = await runOf("workflow.start", { orderId: "o-1", amount: 5 })

      expect(run.output).toEqual({ paymentResult: "paid 5", report: "of o-1" })
    })

    test("step.invokeAsync", async () => {
      await workOn("step-primitives.06", "orderPipeline")
      await work(
        createFunction({ id: "send-confirmation-email", triggers: [] }, async ({ event }) => event.data.email)
      )

      const run = await runOf("order.placed", { orderId: "o-1", email: "a@example.com" })

      expect(run.status).toBe("completed")
      expect(await waitFor((run.output as { emailRunId: string }).emailRunId)).toMatchObject({
        functionId: "send-confirmation-email",
        status: "completed",
        output: "a@example.com"
      })
    })

    test("step.parallel", async () => {
      given({
        fetchProfile: async (id: string) => `profile of ${id}`,
        fetchCreditScore: async () => 700,
        fetchPreferences: async () => ({ dark: true })
      })
      await workOn("step-primitives.07", "enrichUser")

      const run = await runOf("user.created", { userId: "u-1" })

      expect(run.output).toEqual({ profile: "profile of u-1", creditScore: 700, preferences: { dark: true } })
    })

    test("step.parallel with a limit and allSettled", async () => {
      let [running, most] = [0, 0]
      given({
        items: Array.from({ length: 12 }, (_, i) => ({ id: String(i) })),
        processItem: async ({ id }: { id: string }) => {
          most = Math.max(most, ++running)
          await new Promise((resolve) => setImmediate(resolve))
          running -= 1
          if (id === "7") throw new NonRetryableError("seven is broken")
          return id
        }
      })
      const file = placeExample(textOf("step-primitives.08"), ["results"])
      await work(
        createFunction({ id: "batch", triggers: [{ event: "batch" }] }, async ({ step }) => {
          given({ step })
          const { results }: { results: Array<unknown> } = await import(
            /* @vite-ignore */ pathToFileURL(file).href
          )
          return results.map((result) => (result instanceof Error ? result.message : result))
        })
      )

      const { output: printed, status } = await runOf("batch", {})
      const output = printed as Array<string>

      expect(status).toBe("completed")
      expect(output).toHaveLength(12)
      expect(output.toSpliced(7, 1)).toEqual(["0", "1", "2", "3", "4", "5", "6", "8", "9", "10", "11"])
      expect(output[7]).toContain("seven is broken")
      expect(most).toBe(5)
    })

    test("step.map", async () => {
      const processItem = vi.fn(async (item: number) => item * 2)
      given({ processItem })
      await workOn("step-primitives.09", "batchProcessor")

      const run = await runOf("batch.ready", { items: [1, 2, 3, 4] })

      expect(run.output).toEqual({ processed: 4 })
      expect(processItem.mock.calls.map(([item]) => item).toSorted()).toEqual([1, 2, 3, 4])
    })

    test("step.compensate", async () => {
      const creditAccount = vi.fn(async (account: string, _amount: number) => {
        if (account === "to") throw new NonRetryableError("The account is closed")
        return { ref: "credit" }
      })
      const debitAccount = vi.fn(async () => ({ ref: "debit" }))
      given({ creditAccount, debitAccount })
      await workOn("step-primitives.10", "transferFunds")

      const run = await runOf("transfer.requested", { fromAccount: "from", toAccount: "to", amount: 5 })

      expect(run.status).toBe("failed")
      expect(debitAccount).toHaveBeenCalledExactlyOnceWith("from", 5)
      expect(creditAccount.mock.calls).toEqual([
        ["to", 5],
        ["from", 5]
      ])
    })

    test("step.publish", async () => {
      given({ processOrder: async ({ orderId }: { orderId: string }) => `processed ${orderId}` })
      await workOn("step-primitives.11", "orderProcessor")

      const run = await runOf("order.placed", { orderId: "o-1" })
      const steps = await documented.client.getRunSteps(run.id)

      expect(run.output).toBe("processed o-1")
      expect(steps.find(({ kind }) => kind === "publish")).toMatchObject({ status: "completed" })
    })
  })

  test("a saga is compensated in reverse order", async () => {
    const cancelled: Array<string> = []
    const cancel = async (id: string) => void cancelled.push(id)
    given({
      bookFlight: async () => ({ confirmationId: "flight" }),
      bookHotel: async () => ({ confirmationId: "hotel" }),
      bookCar: async () => ({ available: false }),
      cancelFlight: cancel,
      cancelHotel: cancel,
      cancelCar: cancel
    })
    await workOn("saga-compensation.01", "bookTrip")

    const run = await runOf("trip.requested", { flightId: "f", hotelId: "h", dates: [], carId: "c" })

    expect(run.status).toBe("failed")
    expect(JSON.stringify(run.error)).toContain("Car not available")
    expect(cancelled).toEqual(["hotel", "flight"])
  })

  describe("event versions", () => {
    test("a worker with definitions sees data of the latest version, and the emitted version number", async () => {
      given({
        processOrder: createFunction(
          { id: "process-order", triggers: [{ event: "order.placed" }] },
          async ({ event }) => ({ version: event.version, data: event.data })
        )
      })
      const { worker } = await load<{ worker: ReturnType<typeof createWorker> }>("event-versioning.01", [
        "worker"
      ])
      const working = worker.start()
      cleanups.push(async () => {
        await worker.stop()
        await working
      })
      await worker.ready()

      expect((await runOf("order.placed", { total: 5 })).output).toEqual({
        version: 1,
        data: { amount: 5, currency: "USD" }
      })
    })

    test("a registry of upcasters converts data to a version", async () => {
      given({ v1Data: { orderId: "o-1", total: 5 } })

      const { v3Data } = await load<{ v3Data: unknown }>("event-versioning.02", ["v3Data"])

      expect(v3Data).toEqual({ orderId: "o-1", total: undefined, amount: 5, currency: "USD" })
    })
  })

  test("errors say whether they are retried, and a NonRetryableError fails the run at once", async () => {
    let executions = 0
    const file = placeExample(textOf("error-handling.01"), [])
    await work(
      createFunction({ id: "errors", triggers: [{ event: "errors" }] }, async ({ step }) => {
        executions += 1
        given({ step, err: new NonRetryableError("no", { code: "NO" }) })
        await import(/* @vite-ignore */ pathToFileURL(file).href)
      })
    )

    const run = await runOf("errors", {})

    expect(run).toMatchObject({
      status: "failed",
      error: { name: "NonRetryableError", message: "Payment declined - do not retry", code: "NON_RETRYABLE" }
    })
    expect(console.log).toHaveBeenCalledExactlyOnceWith("NO", false)
    expect(executions).toBe(1)
  })

  describe("server-side client", () => {
    /** A function that fails in its second step until `state` says otherwise. */
    const fallible = () => {
      const state = { works: false, validated: 0 }
      const processOrder = createFunction(
        { id: "process-order", triggers: [{ event: "order.placed" }] },
        async ({ step }) => {
          const checked = await step.run("validate", async () => ({ times: ++state.validated }))
          return await step.run("charge-card", async () => {
            if (!state.works) throw new NonRetryableError("The card was declined")
            return checked
          })
        }
      )
      return { state, processOrder }
    }

    test("createClient and health", async () => {
      const loaded = await load<{ client: IronflowClient }>("server-side-client.01", ["client"])
      given({ client: loaded.client })
      cleanups.push(() => loaded.client.close())

      expect(await load("server-side-client.12", ["status"])).toMatchObject({ status: "ok" })
    })

    test("emit returns the ids of the event and its runs, and the same ids for the same idempotency key", async () => {
      const { processOrder } = fallible()
      await work(processOrder)

      const { result } = await load<{ result: { runIds: Array<string>; eventId: string } }>(
        "server-side-client.02",
        ["result"]
      )
      const emit = vi.spyOn(documented.client, "emit")
      await load("server-side-client.03", [])
      vi.unstubAllGlobals()
      given({ client: documented.client })
      const first = await emit.mock.results[0]?.value
      const again = await documented.client.emit(
        "order.placed",
        { orderId: "123" },
        { idempotencyKey: "order-123-placed" }
      )

      expect(result).toEqual({
        runIds: [expect.any(String)],
        eventId: expect.any(String),
        position: expect.any(Number)
      })
      expect((await documented.client.getRun(result.runIds[0] ?? "")).input).toEqual({
        orderId: "123",
        amount: 99.99
      })
      expect(again).toEqual(first)
    })

    test("getRun shows a completed run with its output, and a failed one with its error", async () => {
      const { processOrder, state } = fallible()
      await work(processOrder)
      const failed = await runOf("order.placed", {})
      state.works = true
      const completed = await runOf("order.placed", {})

      const shown = async (id: string) =>
        (await load<{ run: Run }>("server-side-client.04", ["run"], { run_abc123: id })).run

      expect(await shown(completed.id)).toMatchObject({ status: "completed", output: { times: 2 } })
      expect(await shown(failed.id)).toMatchObject({
        status: "failed",
        error: { message: expect.stringContaining("The card was declined"), code: expect.any(String) }
      })
    })

    test("listRuns filters by function and status, and pages", async () => {
      const { processOrder } = fallible()
      await work(processOrder)
      for (let i = 0; i < 27; i++) await begin("order.placed", { i })
      await vi.waitFor(
        async () => expect((await documented.client.listRuns({ status: "failed" })).totalCount).toBe(27),
        {
          timeout: 10_000
        }
      )
      const first = await documented.client.listRuns({
        functionId: "process-order",
        status: "failed",
        limit: 25
      })

      const { result } = await load<{ result: Awaited<ReturnType<IronflowClient["listRuns"]>> }>(
        "server-side-client.05",
        ["result"],
        { next_page_cursor: first.nextCursor ?? "" }
      )

      expect(first.runs.map((run) => (run.input as { i: number }).i)).toEqual(
        Array.from({ length: 25 }, (_, i) => 26 - i)
      )
      expect(result.runs.map((run) => (run.input as { i: number }).i)).toEqual([1, 0])
      expect(result.totalCount).toBe(27)
      expect(result.nextCursor).toBeUndefined()
    })

    test("cancelRun ends a run that waits", async () => {
      await work(
        createFunction({ id: "sleeper", triggers: [{ event: "sleep" }] }, ({ step }) =>
          step.sleep("long", "7d")
        )
      )
      const runId = await begin("sleep", {})
      await untilExplained(runId, "SLEEPING")

      const { run } = await load<{ run: Run }>("server-side-client.06", ["run"], { run_abc123: runId })

      expect(run).toMatchObject({ id: runId, status: "cancelled" })
    })

    test.for([
      { call: "retryRun", name: "server-side-client.07", fromStep: "'validate'", validated: 2 },
      { call: "resumeRun", name: "server-side-client.08", fromStep: "'charge-card'", validated: 1 }
    ])(
      "$call runs a failed run again, from a step on if it is given",
      async ({ fromStep, name, validated }) => {
        const { processOrder, state } = fallible()
        await work(processOrder)
        const [first, second] = [await runOf("order.placed", {}), await runOf("order.placed", {})]
        state.works = true
        state.validated = 0
        const [plain, named] = textOf(name).trim().split("\n")
        expect(named).toContain(fromStep)

        await import(
          pathToFileURL(
            placeExample(
              `${plain?.replace("run_abc123", first.id)}\n${named?.replace("run_abc123", second.id)}`,
              []
            )
          ).href
        )

        expect(await waitFor(first.id)).toMatchObject({ status: "completed", output: { times: 1 } })
        expect(await waitFor(second.id)).toMatchObject({ status: "completed" })
        expect(state.validated).toBe(validated - 1)
      }
    )

    test("patchStep replaces the result of a step", async () => {
      const { processOrder, state } = fallible()
      await work(processOrder)
      const { id } = await runOf("order.placed", {})
      const validate = (await documented.client.getRunSteps(id)).find((step) => step.name === "validate")

      await load("server-side-client.09", [], { step_xyz: validate?.id ?? "" })
      state.works = true
      await documented.client.retryRun(id)

      expect(await waitFor(id)).toMatchObject({ status: "completed", output: { correctedValue: 42 } })
    })

    test("listFunctions and listWorkers show registered functions and workers", async () => {
      await work(fallible().processOrder)

      const { functions } = await load<{ functions: unknown }>("server-side-client.10", ["functions"])
      const { workers } = await load<{ workers: unknown }>("server-side-client.11", ["workers"])

      expect(functions).toEqual([
        expect.objectContaining({ id: "process-order", triggers: [{ event: "order.placed" }] })
      ])
      expect(workers).toEqual([expect.objectContaining({ functionIds: ["process-order"] })])
    })

    test("publish returns an event id and a sequence number, and starts nothing", async () => {
      await work(
        createFunction({ id: "listener", triggers: [{ event: "notifications" }] }, async () => "must not run")
      )

      const { result } = await load<{ result: unknown }>("server-side-client.13", ["result"])

      expect(result).toEqual({ eventId: expect.any(String), sequence: expect.any(Number) })
      expect((await documented.client.listRuns()).runs).toEqual([])
    })
  })

  test("a worker in a process of its own takes jobs until SIGTERM drains it", async () => {
    const file = placeExample(textOf("pull-mode.01"), [], "worker.ts")
    const child: ChildProcess = spawn(process.execPath, [...nodeArguments(), file], {
      stdio: ["ignore", "ignore", "inherit"],
      env: { ...process.env, IRONFLOW_LOG_LEVEL: "error" }
    })
    cleanups.push(() => child.kill("SIGKILL"))
    const ended = once(child, "exit")
    await vi.waitFor(async () => expect(await documented.client.listWorkers()).toHaveLength(1), {
      timeout: 15_000
    })

    const [worker] = await documented.client.listWorkers()
    const run = await runOf("order.placed", { orderId: "o-1" })
    await vi.waitFor(async () =>
      expect((await documented.client.projections.get("order-totals")).state).toEqual({ count: 1 })
    )
    child.kill("SIGTERM")

    expect(worker).toMatchObject({
      functionIds: ["process-order", "send-notification"],
      maxConcurrentJobs: 20,
      labels: { region: "us-east-1" }
    })
    expect(run).toMatchObject({ status: "completed", output: "o-1" })
    expect(await ended).toEqual([0, null])
    expect(await documented.client.listWorkers()).toEqual([])
  })

  describe("environment variables", () => {
    test("IRONFLOW_SERVER_URL and IRONFLOW_ENV set the server and the environment of clients and workers", async () => {
      vi.stubEnv("IRONFLOW_SERVER_URL", documented.server.url)
      vi.stubEnv("IRONFLOW_ENV", "staging")
      const inStaging = createClient()
      cleanups.push(() => inStaging.close())
      const worker = createWorker({
        functions: [createFunction({ id: "f", triggers: [{ event: "e" }] }, async () => "done")],
        logger: false
      })
      const working = worker.start()
      cleanups.push(async () => {
        await worker.stop()
        await working
      })
      await worker.ready()

      const { runIds } = await inStaging.emit("e", {})

      expect((await inStaging.waitForRun(runIds[0] ?? "", { timeout: 10_000 })).output).toBe("done")
      expect((await documented.client.emit("e", {})).runIds).toEqual([])
    })

    test("IRONFLOW_API_KEY is sent with every request of clients and workers", async () => {
      const seen = new Map<string, string | undefined>()
      const listener = http.createServer((request, response) => {
        seen.set(
          request.url?.startsWith("/api/v1/workers") ? "worker" : "client",
          request.headers.authorization
        )
        response.writeHead(401, { "content-type": "application/json" })
        response.end(JSON.stringify({ error: "no", message: "no", code: "UNAUTHENTICATED" }))
      })
      await once(listener.listen(0, "127.0.0.1"), "listening")
      cleanups.push(() => void listener.close())
      const address = listener.address()
      vi.stubEnv("IRONFLOW_API_KEY", "key-1")
      vi.stubEnv(
        "IRONFLOW_SERVER_URL",
        `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`
      )
      const refused = createClient()
      cleanups.push(() => refused.close())
      const worker = createWorker({ functions: [fixedFunction], logger: false })

      await expect(refused.getRun("run_1")).rejects.toMatchObject({ code: "UNAUTHENTICATED" })
      await expect(worker.start()).rejects.toMatchObject({ code: "UNAUTHENTICATED" })

      expect(Object.fromEntries(seen)).toEqual({ client: "Bearer key-1", worker: "Bearer key-1" })
    })
  })
})

const fixedFunction = createFunction({ id: "f", triggers: [] }, async () => "done")
