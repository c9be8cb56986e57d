/** The metrics of an engine: `/metrics`, the minutes of the day, the registry of Effect's metrics, and the alert rules. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"
import { createClient, createFunction, createProjection } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { afterEach, describe, expect, it } from "vitest"
import { MAX_FUNCTIONS } from "../../src/Engine/Runs/RunStats.ts"

const cleanups: Array<() => unknown> = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

const triggers = [{ event: "order.placed" }]
const soon = { maxAttempts: 2, initialDelayMs: 10 }

const start = async (options: Parameters<typeof startEngine>[0] = {}): Promise<IronflowEngine> => {
  const engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 }, ...options })
  cleanups.push(() => engine.close())
  return engine
}

const read = async (engine: IronflowEngine, headers: Record<string, string> = {}): Promise<string> => {
  const response = await fetch(`${engine.url}/metrics`, { headers })
  expect(response.status).toBe(200)
  return response.text()
}

interface Sample {
  readonly name: string
  readonly labels: { readonly [name: string]: string }
  readonly value: number
}

/** The samples of a text in the format of Prometheus. Fails for an invalid line. */
const samplesOf = (text: string): ReadonlyArray<Sample> =>
  text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => {
      const [, name, pairs = "", value] = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? expect.fail(line)
      const labels = Object.fromEntries(
        [...pairs.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"(?:,|$)/g)].map(([, label, text]) => [label, text])
      )
      expect(Number.isFinite(Number(value))).toBe(true)
      return { name: name!, labels, value: Number(value) }
    })

const valueOf = (
  text: string,
  name: string,
  labels: { readonly [name: string]: string } = {}
): number | undefined =>
  samplesOf(text).find(
    (sample) =>
      sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value)
  )?.value

/** An engine that has a value for every metric. */
const busy = async () => {
  let fails = true
  const engine = await start({
    functions: [
      createFunction({ id: "charge", triggers, retry: soon }, async ({ step }) => {
        await step.run("pay", async () => {
          if (!fails) return "paid"
          fails = false
          throw new Error("declined")
        })
        await step.sleep("cool off", "10ms")
      }),
      createFunction({ id: "refuse", triggers, retry: { maxAttempts: 1 } }, async () => {
        throw new Error("never")
      }),
      createFunction({ id: "wait", triggers }, async ({ step }) => {
        await step.waitForEvent("for payment", { event: "order.paid", timeout: "1h" })
      })
    ],
    projections: [
      createProjection({
        name: "totals",
        events: ["order.placed"],
        initialState: () => 0,
        handler: (n: number) => n + 1
      })
    ]
  })
  await engine.client.consumerGroups.create({ name: "printers", pattern: "events:order.*" })
  const { runIds } = await engine.client.emit("order.placed", {})
  const byFunction = new Map(
    await Promise.all(runIds.map(async (id) => [(await engine.client.getRun(id)).functionId, id] as const))
  )
  await engine.client.waitForRun(byFunction.get("charge")!)
  await engine.client.waitForRun(byFunction.get("refuse")!)
  await expect
    .poll(async () => (await engine.client.explain(byFunction.get("wait")!)).code)
    .toBe("WAITING_FOR_EVENT")
  return { engine, waiting: byFunction.get("wait")! }
}

describe("/metrics", () => {
  it("counts runs by function, durations and backlogs", async () => {
    const { engine } = await busy()

    const text = await read(engine)

    const runs = (fn: string, what: string) =>
      valueOf(text, "ironflow_function_runs_total", { environment: "default", function: fn, what })
    expect(["started", "completed", "failed", "retried"].map((what) => runs("charge", what))).toEqual([
      1, 1, 0, 1
    ])
    expect(["started", "completed", "failed", "retried"].map((what) => runs("refuse", what))).toEqual([
      1, 0, 1, 0
    ])
    expect(valueOf(text, "ironflow_runs_waiting", { kind: "event" })).toBe(1)
    for (const [name, count] of [
      ["ironflow_run_wait_to_start_seconds", 3],
      ["ironflow_run_duration_seconds", 2],
      ["ironflow_timer_lateness_seconds", 2]
    ] as const) {
      expect([name, valueOf(text, `${name}_count`)]).toEqual([name, count])
      expect(valueOf(text, `${name}_bucket`, { le: "+Inf" })).toBe(count)
    }
    expect(valueOf(text, "ironflow_step_duration_seconds_count")).toBeGreaterThan(0)
    expect(valueOf(text, "ironflow_turn_duration_seconds_count")).toBeGreaterThan(2)
    expect(valueOf(text, "ironflow_store_commit_seconds_count")).toBeGreaterThan(0)
    expect(valueOf(text, "ironflow_database_bytes")).toBeGreaterThan(0)
    expect(valueOf(text, "ironflow_runs_stuck")).toBe(0)
    expect(valueOf(text, "ironflow_group_lag_rows", { group: "printers" })).toBe(1)
    expect(valueOf(text, "ironflow_projection_lag_rows", { projection: "totals" })).toBeDefined()
  })

  it("has histogram buckets that grow up to the count", async () => {
    const { engine } = await busy()

    const samples = samplesOf(await read(engine))

    for (const name of new Set(samples.map(({ name }) => name).filter((name) => name.endsWith("_bucket")))) {
      const buckets = samples.filter((sample) => sample.name === name).map(({ value }) => value)
      expect(buckets).toEqual(buckets.toSorted((a, b) => a - b))
      expect(buckets.at(-1)).toBe(valueOf(await read(engine), name.replace(/_bucket$/, "_count")))
    }
  })

  it("says how many runs wait for a worker, and how long the oldest has waited", async () => {
    const engine = await start()
    await fetch(`${engine.url}/ironflow.v1.IronflowService/RegisterFunction`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ id: "charge", triggers, retry: soon })
    })
    for (let i = 0; i < 7; i++) await engine.client.emit("order.placed", {})

    const text = await read(engine)

    const of = { environment: "default", function: "charge" }
    expect(valueOf(text, "ironflow_runs_ready", of)).toBe(7)
    expect(valueOf(text, "ironflow_runs_ready_oldest_age_seconds", of)).toBeGreaterThanOrEqual(0)
  })

  it("has the series of a function at 0 before its first run, so that the first failure is an increase", async () => {
    const charge = createFunction({ id: "charge", triggers, retry: { maxAttempts: 1 } }, async () => {
      throw new Error("declined")
    })
    const engine = await start({ functions: [charge] })
    const failures = async () =>
      valueOf(await read(engine), "ironflow_function_runs_total", {
        environment: "default",
        function: "charge",
        what: "failed"
      })

    const before = await failures()
    const { runIds } = await engine.client.emit("order.placed", {})
    await engine.client.waitForRun(runIds[0]!)

    expect([before, await failures()]).toEqual([0, 1])
  })

  it("counts failed runs, and fewer once they are retried", async () => {
    let fails = true
    const charge = createFunction({ id: "charge", triggers, retry: { maxAttempts: 1 } }, async () => {
      if (fails) throw new Error("declined")
    })
    const filename = path.join(mkdtempSync(path.join(tmpdir(), "ironflow-metrics-")), "ironflow.db")
    cleanups.push(() => rmSync(path.dirname(filename), { recursive: true }))
    const failedRuns = async (engine: IronflowEngine) =>
      valueOf(await read(engine), "ironflow_failed_runs", { environment: "default", function: "charge" })
    const first = await start({ filename, functions: [charge] })
    expect(await failedRuns(first)).toBe(0)
    const { runIds } = await first.client.emit("order.placed", {})
    await first.client.waitForRun(runIds[0]!)
    await first.close()

    // the count comes from the database, so a second engine has it too
    const second = await start({ filename, functions: [charge] })
    expect(await failedRuns(second)).toBe(1)
    fails = false
    await second.client.retryRun(runIds[0]!)
    expect(await second.client.waitForRun(runIds[0]!)).toMatchObject({ status: "completed" })
    await second.close()

    expect(await failedRuns(await start({ filename, functions: [charge] }))).toBe(0)
  })

  it("has separate series for a limited number of functions, and one for all others", async () => {
    const engine = await start()
    const many = MAX_FUNCTIONS + 20
    for (let i = 0; i < many; i++) {
      await fetch(`${engine.url}/ironflow.v1.IronflowService/RegisterFunction`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ id: `charge-${i}`, triggers, retry: soon })
      })
    }
    await engine.client.emit("order.placed", {})

    const text = await read(engine)

    const started = samplesOf(text).filter(
      ({ labels, name }) => name === "ironflow_function_runs_total" && labels.what === "started"
    )
    expect(started.reduce((sum, { value }) => sum + value, 0)).toBe(many)
    expect(started).toHaveLength(MAX_FUNCTIONS + 1)
    expect(valueOf(text, "ironflow_runs_ready", { function: "other" })).toBe(20)
  })

  it("hides other environments from a key that is bound to one environment", async () => {
    const { engine } = await busy()
    // the first key of an engine is for all environments
    await engine.client.apiKeys.create({ name: "first" })
    const { secret } = await engine.client.apiKeys.create({ name: "reader", envId: "staging" })

    const text = await read(engine, { authorization: `Bearer ${secret}` })

    expect(text).not.toContain('environment="default"')
    expect(valueOf(text, "ironflow_runs_completed_total")).toBe(1)
  })
})

it("the minutes of the day show what happened in them", async () => {
  const { engine } = await busy()

  const response = await fetch(`${engine.url}/api/v1/metrics/minutes`)

  const { minutes } = (await response.json()) as { readonly minutes: ReadonlyArray<Record<string, number>> }
  const sum = (what: string) => minutes.reduce((total, minute) => total + minute[what]!, 0)
  expect(["started", "completed", "failed", "retried"].map(sum)).toEqual([3, 1, 1, 1])
  expect(sum("steps")).toBeGreaterThan(0)
  expect(sum("turns")).toBeGreaterThan(2)
})

it("the registry of Effect's metrics has the same metrics for exporters while the engine runs", async () => {
  const { engine } = await busy()
  await read(engine)
  const snapshot = () => Effect.runSync(Metric.snapshot).filter(({ id }) => id.startsWith("ironflow_"))

  const of = (id: string, attributes: Record<string, string> = {}) =>
    snapshot().find(
      (one) =>
        one.id === id && Object.entries(attributes).every(([name, value]) => one.attributes?.[name] === value)
    )
  expect(of("ironflow_function_runs_total", { function: "charge", what: "completed" })).toMatchObject({
    type: "Counter",
    state: { count: 1 }
  })
  expect(of("ironflow_run_duration_seconds")).toMatchObject({ type: "Histogram", state: { count: 2 } })
  expect(of("ironflow_runs_waiting", { kind: "event" })).toMatchObject({ type: "Gauge", state: { value: 1 } })

  await engine.close()
  expect(snapshot()).toEqual([])
})

/** The rules of the file: their names, their conditions, and the labels in their texts. */
const rules = readFileSync(new URL("../../docs/ironflow.rules.yml", import.meta.url), "utf8")
  .split(/^ {6}- alert: /m)
  .slice(1)
  .map((text) => ({
    alert: text.split("\n", 1)[0]!,
    expr: / expr: (.*)/.exec(text)?.[1] ?? expect.fail(text),
    texts: [...text.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label!)
  }))

/** Whether a condition without functions is true for a sample. `undefined` for conditions that only Prometheus can evaluate. */
const holds = (expr: string, samples: ReadonlyArray<Sample>): boolean | undefined => {
  const [, name, matchers = "", operator, limit] =
    /^(ironflow_\w+)(?:\{(.*)\})? (>|==) ([\d.]+)$/.exec(expr) ?? []
  if (name === undefined) return undefined
  const wanted = [...matchers.matchAll(/(\w+)="([^"]*)"/g)]
  return samples.some(
    (sample) =>
      sample.name === name &&
      wanted.every(([, label, value]) => sample.labels[label!] === value) &&
      (operator === ">" ? sample.value > Number(limit) : sample.value === Number(limit))
  )
}

describe("the alert rules", () => {
  it("name existing metrics and labels", async () => {
    const { engine } = await busy()
    // this function has ready runs and no worker
    await fetch(`${engine.url}/ironflow.v1.IronflowService/RegisterFunction`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ id: "nobody-has-it", triggers, retry: soon })
    })
    await engine.client.emit("order.placed", {})
    const samples = samplesOf(await read(engine))

    expect(rules.length).toBeGreaterThan(10)
    for (const { alert, expr, texts } of rules) {
      const metrics = [...expr.matchAll(/\bironflow_\w+/g)].map(([name]) => name)
      if (alert === "IronflowDown") expect(metrics).toEqual([])
      else expect([alert, metrics.length]).toEqual([alert, 1])
      for (const metric of metrics) {
        const found = samples.filter(({ name }) => name === metric)
        expect([alert, metric, found.length > 0]).toEqual([alert, metric, true])
        const labels = new Set(found.flatMap(({ labels }) => Object.keys(labels)))
        const grouped = /by \(([^)]*)\)/.exec(expr)?.[1]?.split(", ") ?? []
        const matched = [...expr.matchAll(/(\w+)="([^"]*)"/g)]
        for (const label of [...grouped, ...texts])
          expect([alert, label, labels.has(label)]).toEqual([alert, label, true])
        for (const [, label, value] of matched) {
          expect([alert, label, value, found.some((one) => one.labels[label!] === value)]).toEqual([
            alert,
            label,
            value,
            true
          ])
        }
        // after grouping, a text can use the labels of the groups only
        if (grouped.length > 0) for (const label of texts) expect(grouped).toContain(label)
      }
    }
  })

  it("do not fire for a healthy engine, and fire for an engine with a paused run", async () => {
    const { engine, waiting } = await busy()
    const firing = async () => {
      const samples = samplesOf(await read(engine))
      return rules.filter(({ expr }) => holds(expr, samples) === true).map(({ alert }) => alert)
    }
    expect(await firing()).toEqual([])

    await engine.client.pauseRun(waiting)
    const other = await start({
      functions: [createFunction({ id: "wait", triggers }, async ({ step }) => step.sleep("long", "1h"))]
    })
    const { runIds } = await other.client.emit("order.placed", {})
    await expect.poll(async () => (await other.client.explain(runIds[0]!)).code).toBe("SLEEPING")
    await other.client.pauseRun(runIds[0]!)

    const samples = samplesOf(await read(other))
    expect(rules.filter(({ expr }) => holds(expr, samples) === true).map(({ alert }) => alert)).toEqual([
      "IronflowRunsPaused"
    ])
  })
})

it("a remote client can read the log lines of a run", async () => {
  const engine = await start({
    functions: [
      createFunction({ id: "charge", triggers }, async ({ logger }) => logger.info("hello", { a: 1 }))
    ]
  })
  await using client = createClient({ serverUrl: engine.url })

  const { runIds } = await client.emit("order.placed", {})
  await client.waitForRun(runIds[0]!)

  expect(await client.getRunLogs(runIds[0]!)).toMatchObject([{ number: 1, message: "hello", data: { a: 1 } }])
})
