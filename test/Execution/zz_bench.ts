import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { createFunction, make } from "../../src/Function.ts"
import * as Step from "../../src/Step.ts"
import * as Alarm from "../../src/Execution/Alarm.ts"
import { startTurn } from "../../src/Execution/Turn.ts"
import { createLogger } from "../../src/Logger.ts"

const main = Effect.scoped(
  Effect.gen(function* () {
    const alarm = yield* Alarm.make
    const clock = yield* Clock.Clock
    const context = yield* Effect.context<never>()
    const payload = {
      orderId: "o-1",
      items: [
        { sku: "a", quantity: 2 },
        { sku: "b", quantity: 1 }
      ],
      note: "x".repeat(80),
      total: 12.5
    }
    const p = createFunction({ id: "p", triggers: [] }, async ({ step }) => {
      const a = await step.run("a", async () => payload)
      const b = await step.run("b", async () => payload)
      const c = await step.run("c", async () => payload)
      return [a.total, b.total, c.total]
    })
    const e = make({ id: "e", triggers: [] }, () =>
      Effect.gen(function* () {
        const a = yield* Step.run("a", Effect.succeed(payload))
        const b = yield* Step.run("b", Effect.succeed(payload))
        const c = yield* Step.run("c", Effect.succeed(payload))
        return [a.total, b.total, c.total]
      })
    )
    const once = (fn: any, mode: "sync" | "micro", ops: Array<any> = []) =>
      new Promise<void>((resolve) => {
        startTurn(
          fn,
          {
            jobId: "j",
            runId: "run_1",
            functionId: fn.config.id,
            environment: "default",
            attempt: 1,
            generation: 0,
            event: { id: "e", name: "n", version: 1, data: '{"a":1}', timestamp: 0 },
            journal: ops,
            open: [],
            lingerMs: 0,
            createdAt: 0
          },
          {
            report: (op, ack) => {
              const outcome = undefined
              if (mode === "sync") ack?.(outcome)
              else setImmediate(() => ack?.(outcome))
            },
            clock,
            alarm,
            logger: createLogger(),
            context,
            late: () => {}
          },
          () => resolve()
        )
      })
    const run = async (
      name: string,
      fn: any,
      mode: "sync" | "micro",
      n: number,
      inflight: number,
      journal: Array<any> = []
    ) => {
      let left = n
      const cpu = process.cpuUsage()
      const t = performance.now()
      await Promise.all(
        Array.from({ length: inflight }, async () => {
          while (left-- > 0) await once(fn, mode, journal)
        })
      )
      const c = process.cpuUsage(cpu)
      if (name)
        console.log(
          name,
          "wall us/turn",
          ((1000 * (performance.now() - t)) / n).toFixed(1),
          "cpu us/turn",
          ((c.user + c.system) / n).toFixed(1)
        )
    }
    const journal = ["a", "b", "c"].map((name) => ({
      stepKey: `${name}:0`,
      name,
      kind: "run",
      attempt: 1,
      outcome: { _tag: "Success", value: JSON.stringify(payload) }
    }))
    yield* Effect.promise(async () => {
      for (const warm of [1, 2]) {
        const l = (s: string) => (warm === 2 ? s : "")
        await run(l("promise, sync ack, 1 in flight"), p, "sync", 20000, 1)
        await run(l("promise, sync ack, 64 in flight"), p, "sync", 20000, 64)
        await run(l("promise, immediate ack, 64"), p, "micro", 20000, 64)
        await run(l("promise, replay of 3, 64"), p, "sync", 20000, 64, journal)
        await run(l("effect, sync ack, 64"), e, "sync", 20000, 64)
        await run(l("effect, immediate ack, 64"), e, "micro", 20000, 64)
        await run(l("effect, replay of 3, 64"), e, "sync", 20000, 64, journal)
      }
    })
  })
)
await Effect.runPromise(main)
