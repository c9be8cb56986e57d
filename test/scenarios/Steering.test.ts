import * as Effect from "effect/Effect"
import { assert, describe } from "vitest"
import { Step } from "../../src/effect.ts"
import { type FunctionContext, NonRetryableError, type StepClient } from "../../src/index.ts"
import { bodyOf, effectOf, type Part, scenario, type Stage } from "./Story.ts"

/** A function with a held step, `charge`, and a step `pack`. */
const ordering: Part = {
  promise:
    (stage) =>
    async ({ signal, step }) => {
      signal.addEventListener("abort", () => stage.log.push(`turn: ${(signal.reason as Error).name}`))
      const receipt = await step.run("charge", (context) => stage.holdUntilAborted("charge", context.signal))
      await step.run("pack", () => stage.does("pack", 1))
      return receipt
    },
  effect: (stage) => () =>
    Effect.gen(function* () {
      const receipt = yield* Step.run(
        "charge",
        bodyOf(({ signal }) => stage.holdUntilAborted("charge", signal))
      )
      yield* Step.run(
        "pack",
        Effect.sync(() => stage.does("pack", 1))
      )
      return receipt
    }).pipe(Effect.onInterrupt(() => Effect.sync(() => stage.log.push("turn: RunCancelledError"))))
}

describe("cancel", () => {
  scenario(
    "cancelling aborts the running step and the turn with a typed reason, and no step starts afterwards",
    ordering,
    ({ client, log, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the step runs", () => stage.isHeld("charge"))
        const cancelled = yield* client.cancelRun(runId, "changed their mind")
        yield* world.settle

        assert.deepInclude(cancelled, { status: "cancelled" })
        assert.deepInclude(cancelled.error, { code: "RUN_CANCELLED", message: "changed their mind" })
        assert.sameMembers(log, ["charge", "charge aborted: RunCancelledError", "turn: RunCancelledError"])
        assert.deepStrictEqual(yield* world.steps(runId), [])
        const { code, message } = yield* client.explain(runId)
        assert.strictEqual(code, "CANCELLED")
        assert.include(message, "changed their mind")
      })
  )

  scenario(
    "cancelling a suspended run ends it at once, and its wait no longer wakes it",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          await step.sleep("nap", "1h")
          stage.log.push("woke")
        },
      effect: (stage) => () =>
        Effect.andThen(
          Step.sleep("nap", "1h"),
          Effect.sync(() => stage.log.push("woke"))
        )
    },
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* client.cancelRun(runId)
        yield* world.advance("2 hours")

        assert.strictEqual((yield* client.getRun(runId)).status, "cancelled")
        assert.deepStrictEqual(log, [])
        // a run that has ended does not change
        assert.strictEqual((yield* client.cancelRun(runId, "again")).error?.message, "Cancelled by a client")
      })
  )

  scenario(
    "a run that is cancelled while the report of its turn's end is on its way frees its slot on the worker",
    {
      world: { worker: { maxConcurrentJobs: 1 } },
      promise:
        (stage) =>
        async ({ event, onTurnEnd, step }) => {
          if (event.data.last === true) return "done"
          onTurnEnd(() => stage.release("turn end"))
          await step.sleep("nap", "1h")
        },
      effect:
        (stage) =>
        ({ event }) =>
          event.data.last === true
            ? Effect.succeed("done")
            : Effect.ensuring(
                Step.sleep("nap", "1h"),
                Effect.sync(() => stage.release("turn end"))
              )
    },
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const turnEnd = stage.hold("turn end")
        const runId = yield* world.place()
        yield* Effect.promise(() => turnEnd)
        yield* client.cancelRun(runId)
        assert.deepStrictEqual(yield* world.steps(runId), [])

        assert.strictEqual(
          yield* Effect.flatMap(world.place({ last: true }), (id) => world.completes(id)),
          "done"
        )
      })
  )

  scenario(
    "cancelling a run that waits for its next attempt prevents that attempt",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          await step.run("charge", () => {
            stage.log.push("charge")
            throw new Error("the bank is busy")
          })
        },
      effect: (stage) => () =>
        Step.run(
          "charge",
          bodyOf(() => {
            stage.log.push("charge")
            throw new Error("the bank is busy")
          })
        )
    },
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_RETRY")
        yield* client.cancelRun(runId)
        yield* world.advance("1 hour")

        assert.deepStrictEqual(log, ["charge"])
        assert.strictEqual((yield* client.getRun(runId)).status, "cancelled")
        assert.deepStrictEqual(yield* world.steps(runId), [])
      })
  )

  scenario(
    "a run that was cancelled before a worker took it never begins",
    { ...ordering, world: { worker: { maxConcurrentJobs: 1 } } },
    ({ client, log, stage, world }) =>
      Effect.gen(function* () {
        const first = yield* world.place()
        yield* world.until("the step runs", () => stage.isHeld("charge"))
        const second = yield* world.place()
        yield* client.cancelRun(second)
        stage.release("charge")
        yield* world.completes(first)
        yield* world.settle

        assert.strictEqual(stage.count("charge"), 1)
        assert.strictEqual(log.filter((line) => line === "pack").length, 1)
        assert.notProperty(yield* client.getRun(second), "startedAt")
      })
  )

  scenario(
    "retryRun of a cancelled run keeps the finished steps and continues",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          await step.run("charge", () => stage.does("charge", 1))
          await step.sleep("nap", "1h")
          return "done"
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          yield* Step.run(
            "charge",
            Effect.sync(() => stage.does("charge", 1))
          )
          yield* Step.sleep("nap", "1h")
          return "done"
        })
    },
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* client.cancelRun(runId)
        yield* client.retryRun(runId)
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("1 hour")

        assert.strictEqual(yield* world.completes(runId), "done")
        assert.deepStrictEqual(log, ["charge"])
      })
  )
})

describe("pause and resume", () => {
  scenario(
    "pausing keeps the result of the step that is running, starts no other, and resuming continues there",
    ordering,
    ({ client, log, stage, style, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the step runs", () => stage.isHeld("charge"))
        yield* client.pauseRun(runId, "the bank is down")
        stage.release("charge", "r-1")
        const { details, message } = yield* world.reaches(runId, "PAUSED")
        yield* world.settle
        assert.include(message, "the bank is down")
        assert.strictEqual(details.code, "PAUSED")
        assert.strictEqual((yield* client.getRun(runId)).pauseReason, "the bank is down")
        assert.deepStrictEqual(yield* world.steps(runId), ["charge completed"])
        assert.notInclude(log, "pack")
        yield* client.resumeRun(runId)

        assert.strictEqual(yield* world.completes(runId), "r-1")
        assert.strictEqual(stage.count("charge"), 1)
        assert.strictEqual(stage.count("pack"), 1)
        assert.isAbove(log.length, 2, style)
      })
  )

  scenario(
    "resuming from a step starts what followed it again: the child, the wait and the sleep",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          const value = await step.run("value", () => stage.does("value", stage.count("value") + 1))
          const [shipped, paid] = await step.parallel("both", [
            (branch) => branch.invoke<number>("ship", value, { timeout: "1d" }),
            async (branch) =>
              (
                await branch.waitForEvent<{ value: number }>("paid", {
                  event: "order.paid",
                  match: `event.data.value == ${value}`
                })
              ).data.value,
            (branch) => branch.sleep("rest", "1h")
          ])
          return [shipped, paid]
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          const value = yield* Step.run(
            "value",
            Effect.sync(() => stage.does("value", stage.count("value") + 1))
          )
          const [shipped, paid] = yield* Step.parallel("both", [
            Step.invoke("ship", value, { timeout: "1 day" }),
            Effect.map(
              Step.waitForEvent<{ value: number }>("paid", {
                event: "order.paid",
                match: `event.data.value == ${value}`
              }),
              ({ data }) => data.value
            ),
            Step.sleep("rest", "1 hour")
          ])
          return [shipped, paid]
        }),
      also: {
        ship: {
          promise:
            () =>
            async ({ event, step }) => {
              await step.sleep("on the road", "2h")
              return event.data
            },
          effect:
            () =>
            ({ event }) =>
              Effect.as(Step.sleep("on the road", "2 hours"), event.data)
        }
      }
    },
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("50 minutes")
        yield* client.pauseRun(runId)
        yield* world.reaches(runId, "PAUSED")
        yield* client.resumeRun(runId, "value")
        yield* world.reaches(runId, "SLEEPING")
        yield* world.settle

        const ships = (yield* client.listRuns({ functionId: "ship" })).runs
        assert.deepStrictEqual(
          ships.map(({ input, status }) => [input, status]),
          [
            [2, "waiting"],
            [1, "cancelled"]
          ]
        )
        yield* world.advance("30 minutes")
        assert.strictEqual(
          (yield* client.explain(runId)).code,
          "SLEEPING",
          "the sleep takes its whole hour again"
        )
        yield* client.emit("order.paid", { value: 1 })
        yield* client.emit("order.paid", { value: 2 })
        yield* world.settle
        for (const time of ["30 minutes", "1 hour"] as const) {
          yield* world.advance(time)
          yield* world.settle
        }
        assert.deepStrictEqual(yield* world.completes(runId), [2, 2])
        assert.deepStrictEqual(log, ["value", "value"])
      })
  )

  scenario(
    "a sleep that ends while its run is paused wakes the run when it is resumed",
    {
      promise:
        () =>
        async ({ step }) => {
          await step.sleep("nap", "1h")
          return "up"
        },
      effect: () => () => Effect.as(Step.sleep("nap", "1h"), "up")
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* client.pauseRun(runId)
        yield* world.advance("3 hours")
        assert.strictEqual((yield* client.explain(runId)).code, "PAUSED")
        yield* client.resumeRun(runId)

        assert.strictEqual(yield* world.completes(runId), "up")
      })
  )

  scenario(
    "run control that the state of a run does not allow is refused with INVALID_STATE",
    { promise: () => async () => "done", effect: () => () => Effect.succeed("done") },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.completes(runId)

        for (const control of [client.pauseRun, client.resumeRun, client.retryRun]) {
          const error = yield* Effect.flip(control(runId))
          assert.deepInclude(error, { code: "INVALID_STATE" })
        }
        assert.deepInclude(yield* Effect.flip(client.cancelRun("run_unknown")), { code: "RUN_NOT_FOUND" })
      })
  )
})

describe("patch and retry", () => {
  scenario(
    "patchStep replaces the result of a failed step, and the retried run continues with it",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          const receipt = await step.run("charge", (): string => {
            stage.log.push("charge")
            throw new NonRetryableError("declined")
          })
          return step.run("pack", () => stage.does("pack", `packed after ${receipt}`))
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          const receipt: string = yield* Step.run(
            "charge",
            Effect.suspend(() => {
              stage.log.push("charge")
              return Effect.fail(new NonRetryableError("declined"))
            })
          )
          return yield* Step.run(
            "pack",
            Effect.sync(() => stage.does("pack", `packed after ${receipt}`))
          )
        })
    },
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        assert.strictEqual((yield* world.ends(runId)).status, "failed")
        const [charge] = yield* client.getRunSteps(runId)
        yield* client.patchStep(charge!.id, "by phone", "charged by phone")
        yield* client.retryRun(runId)

        assert.strictEqual(yield* world.completes(runId), "packed after by phone")
        assert.deepStrictEqual(log, ["charge", "pack"])
      })
  )

  scenario(
    "patchStep finishes a step that waits",
    {
      promise:
        () =>
        async ({ step }) =>
          (await step.waitForEvent("approval", { event: "order.approved" })).data.by,
      effect: () => () =>
        Effect.map(Step.waitForEvent("approval", { event: "order.approved" }), ({ data }) => data.by)
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_EVENT")
        const [approval] = yield* client.getRunSteps(runId)
        yield* client.patchStep(approval!.id, {
          id: "evt_1",
          name: "order.approved",
          version: 1,
          data: { by: "hand" },
          timestamp: "1970-01-01T00:00:00Z"
        })

        assert.strictEqual(yield* world.completes(runId), "hand")
      })
  )

  scenario(
    "retryRun from a step runs that step and all later ones again",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          for (const name of ["a", "b", "c"]) await step.run(name, () => stage.does(name, 1))
          await step.run("d", () => {
            throw new NonRetryableError("no")
          })
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          for (const name of ["a", "b", "c"]) {
            yield* Step.run(
              name,
              Effect.sync(() => stage.does(name, 1))
            )
          }
          yield* Step.run("d", Effect.fail(new NonRetryableError("no")))
        })
    },
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.ends(runId)
        yield* client.retryRun(runId, "b")
        yield* world.ends(runId)
        yield* client.retryRun(runId)
        yield* world.ends(runId)

        assert.deepStrictEqual(log, ["a", "b", "c", "b", "c"])
        assert.deepInclude(yield* Effect.flip(client.retryRun(runId, "unknown")), { code: "STEP_NOT_FOUND" })
      })
  )

  const failsOnce = (stage: Stage, name: string): string => {
    stage.log.push(name)
    if (stage.count(name) === 1) throw new NonRetryableError(`${name} failed`)
    return `${name} done`
  }

  scenario(
    "retryRun after an error outside of steps keeps the failure of a step that the handler had caught",
    {
      config: { retry: { maxAttempts: 1 } },
      promise:
        (stage) =>
        async ({ step }) => {
          const sent = await step
            .run("text", () => failsOnce(stage, "text"))
            .catch(() => step.run("email", () => stage.does("email", "by email")))
          if (stage.log.push("handler") && stage.count("handler") === 1) throw new TypeError("a bug")
          return sent
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          const sent = yield* Step.run(
            "text",
            bodyOf(() => failsOnce(stage, "text"))
          ).pipe(
            Effect.catch(() =>
              Step.run(
                "email",
                bodyOf(() => stage.does("email", "by email"))
              )
            )
          )
          if (stage.log.push("handler") && stage.count("handler") === 1) {
            return yield* Effect.fail(new TypeError("a bug"))
          }
          return sent
        })
    },
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        assert.strictEqual((yield* world.ends(runId)).status, "failed")
        yield* client.retryRun(runId)

        assert.strictEqual(yield* world.completes(runId), "by email")
        assert.deepStrictEqual(log, ["text", "email", "handler", "handler"])
      })
  )

  scenario(
    "retryRun of a cancelled run keeps the failure of a step that the handler had caught",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          const sent = await step.run("text", () => failsOnce(stage, "text")).catch(() => "not sent")
          await step.sleep("nap", "1h")
          return sent
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          const sent = yield* Step.run(
            "text",
            bodyOf(() => failsOnce(stage, "text"))
          ).pipe(Effect.catch(() => Effect.succeed("not sent")))
          yield* Step.sleep("nap", "1h")
          return sent
        })
    },
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* client.cancelRun(runId)
        yield* client.retryRun(runId)
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("1 hour")

        assert.strictEqual(yield* world.completes(runId), "not sent")
        assert.deepStrictEqual(log, ["text"])
      })
  )

  const inBranches: Part = {
    promise:
      (stage) =>
      async ({ step }) =>
        step.parallel("checks", [
          (branch: StepClient) => branch.run("stock", () => stage.does("stock", "in stock")),
          (branch: StepClient) => branch.run("credit", () => failsOnce(stage, "credit"))
        ]),
    effect: (stage) => () =>
      Step.parallel("checks", [
        Step.run(
          "stock",
          bodyOf(() => stage.does("stock", "in stock"))
        ),
        Step.run(
          "credit",
          bodyOf(() => failsOnce(stage, "credit"))
        )
      ])
  }
  const wrapped: Part = {
    config: { retry: { maxAttempts: 1 } },
    promise:
      (stage) =>
      async ({ step }) => {
        try {
          return await step.run("credit", () => failsOnce(stage, "credit"))
        } catch (cause) {
          throw new Error("The order cannot be paid", { cause })
        }
      },
    effect: (stage) => () =>
      Step.run(
        "credit",
        bodyOf(() => failsOnce(stage, "credit"))
      ).pipe(Effect.mapError((cause) => new Error("The order cannot be paid", { cause })))
  }
  const thrownInBranch: Part = {
    config: { retry: { maxAttempts: 1 } },
    promise:
      (stage) =>
      async ({ step }) =>
        step.map("checks", ["credit"], async (name) => failsOnce(stage, name)),
    effect: (stage) => () => Step.map("checks", ["credit"], (name) => effectOf(() => failsOnce(stage, name)))
  }
  for (const [how, part, output] of [
    ["in a branch", inBranches, ["in stock", "credit done"]],
    ["when its error was wrapped in another one", wrapped, "credit done"],
    ["when a branch failed and no step in it", thrownInBranch, ["credit done"]]
  ] as const) {
    scenario(`retryRun runs the failed code again ${how}`, part, ({ client, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        assert.strictEqual((yield* world.ends(runId)).status, "failed")
        yield* client.retryRun(runId)

        assert.deepStrictEqual(yield* world.completes(runId), output)
        assert.strictEqual(stage.count("credit"), 2)
        assert.isAtMost(stage.count("stock"), 1)
      })
    )
  }

  scenario(
    "retryRun after a failed invocation or a wait that timed out invokes and waits again",
    {
      promise:
        () =>
        async ({ step }) => {
          const { data } = await step.waitForEvent("approval", { event: "order.approved", timeout: "1h" })
          return [data.by, await step.invoke("invoice")]
        },
      effect: () => () =>
        Effect.gen(function* () {
          const { data } = yield* Step.waitForEvent("approval", { event: "order.approved", timeout: "1h" })
          return [data.by, yield* Step.invoke("invoice")]
        }),
      also: {
        invoice: {
          promise:
            (stage) =>
            async ({ step }) =>
              step.run("print", () => failsOnce(stage, "print")),
          effect: (stage) => () =>
            Step.run(
              "print",
              bodyOf(() => failsOnce(stage, "print"))
            )
        }
      }
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_EVENT")
        yield* world.advance("1 hour")
        assert.strictEqual((yield* world.ends(runId)).error?.code, "WAIT_TIMEOUT")
        yield* client.retryRun(runId)
        yield* world.reaches(runId, "WAITING_FOR_EVENT")
        yield* client.emit("order.approved", { by: "ada" })
        assert.strictEqual((yield* world.ends(runId)).error?.code, "INVOKE_FAILED")
        yield* client.retryRun(runId)

        assert.deepStrictEqual(yield* world.completes(runId), ["ada", "print done"])
      })
  )
})

describe("changed code", () => {
  const before: Part = {
    promise:
      () =>
      async ({ step }: FunctionContext) => {
        await step.sleep("settle", "1h")
        return "old"
      },
    effect: () => () => Effect.as(Step.sleep("settle", "1h"), "old")
  }
  const after: Part = {
    promise:
      (stage: Stage) =>
      async ({ step }: FunctionContext) =>
        step.run("settle", () => stage.does("settle", "new")),
    effect: (stage: Stage) => () =>
      Step.run(
        "settle",
        Effect.sync(() => stage.does("settle", "new"))
      )
  }

  for (const [when, slept] of [
    ["is over", true],
    ["is still waiting", false]
  ] as const) {
    scenario(
      `a step that ${when} and is now of another kind continues with the new code when it is patched`,
      { ...before, world: { onDisk: true } },
      ({ toFunction, log, world }) =>
        Effect.gen(function* () {
          const runId = yield* world.place()
          yield* world.reaches(runId, "SLEEPING")
          yield* world.close
          if (slept) {
            yield* world.startAlone
            yield* world.advance("1 hour")
            yield* world.close
          }
          yield* world.start([toFunction(after)])
          if (!slept) {
            yield* world.client.pauseRun(runId)
            yield* world.client.resumeRun(runId)
          }
          yield* world.reaches(runId, "PAUSED")
          const [settle] = yield* world.client.getRunSteps(runId)
          yield* world.client.patchStep(settle!.id, "by hand", "it is a step now")
          yield* world.client.resumeRun(runId)

          assert.strictEqual(yield* world.completes(runId), "by hand")
          assert.deepStrictEqual(log, [])
        })
    )

    scenario(
      `a step that ${when} and is now of another kind pauses the run, which names both kinds and continues with the old code`,
      { ...before, world: { onDisk: true } },
      ({ toFunction, log, world }) =>
        Effect.gen(function* () {
          const runId = yield* world.place()
          yield* world.reaches(runId, "SLEEPING")
          yield* world.close
          if (slept) {
            yield* world.startAlone
            yield* world.advance("1 hour")
            yield* world.close
          }
          yield* world.start([toFunction(after)])
          if (!slept) {
            // pausing and resuming starts the next turn
            yield* world.client.pauseRun(runId)
            yield* world.client.resumeRun(runId)
          }
          const { details, message } = yield* world.reaches(runId, "PAUSED")
          assert.strictEqual(details.code, "NONDETERMINISM")
          assert.deepInclude(details.details, {
            recordedKind: "sleep",
            calledKind: "run",
            stepName: "settle"
          })
          assert.include(message, '"sleep"')
          assert.include(message, '"run"')
          assert.deepStrictEqual(log, [])
          yield* world.deploy([toFunction(before)])
          yield* world.client.resumeRun(runId)
          if (!slept) yield* world.advance("1 hour")

          assert.strictEqual(yield* world.completes(runId), "old")
        })
    )
  }
})
