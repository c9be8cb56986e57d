import { RawWorker, stepResult } from "../../wire/RawWorker.ts"
import { type Given, type Noun, rpc, type Spec } from "../Noun.ts"
import type { Rig } from "../Rig.ts"

const started = async (rig: Rig): Promise<string> =>
  (await rpc(rig, "Trigger", { event: "order.placed", data: { id: "o-1" } })).runIds[0]

/** Runs in all states, with their steps. */
const setUp = async (rig: Rig): Promise<Given> => {
  const retry = { maxAttempts: 1 }
  const triggers = [{ event: "order.placed" }]
  const worker = new RawWorker(rig.url, [{ id: "ship-order", triggers, retry, recording: true }])
  await worker.register()
  const completed = await started(rig)
  const job = await worker.take()
  await worker.update(job, {
    status: "progress",
    steps: [stepResult(job, "charge", { output: { paid: true } })]
  })
  await rig.pass(5)
  await worker.update(job, {
    status: "completed",
    steps: [stepResult(job, "pack", { output: 1 })],
    output: { ok: true }
  })
  const failed = await started(rig)
  const second = await worker.take()
  await worker.update(second, {
    status: "failed",
    steps: [
      stepResult(second, "charge", {
        status: "failed",
        error: { message: "declined", code: "DECLINED", retryable: false }
      })
    ],
    error: { message: "declined", code: "DECLINED", retryable: false }
  })
  const sleeping = await started(rig)
  const third = await worker.take()
  await worker.update(third, {
    status: "yielded",
    steps: [stepResult(third, "charge", { output: { paid: true } })],
    yield: { type: "sleep", step_id: `${sleeping}:nap:0`, until: "2030-01-02T03:04:05.000Z" }
  })
  const waiting = await started(rig)
  const fourth = await worker.take()
  await worker.update(fourth, {
    status: "yielded",
    steps: [],
    yield: {
      type: "wait_for_event",
      step_id: `${waiting}:paid:0`,
      event_filter: { event: "order.paid", match: "data.id", timeout: "1h" }
    }
  })
  const running = await started(rig)
  await worker.take()
  return { completed, failed, sleeping, waiting, running, pending: await started(rig) }
}

const states = ["completed", "failed", "sleeping", "waiting", "running", "pending"]

/** A call for the run in each state. */
const ofEachState = (call: Spec["call"]): NonNullable<Spec["more"]> =>
  Object.fromEntries(
    states.map((state) => [`of one that is ${state}`, (given) => call({ ...given, id: given[state]! })])
  )

const byId = (body: (id: string) => object, more: Spec["more"] = {}): Spec => {
  const call: Spec["call"] = ({ id = "" }) => ({ body: body(id) })
  return {
    fresh: async (rig) => ({ id: await started(rig) }),
    call,
    more: { "one that is not there": () => ({ body: body("run_none") }), ...ofEachState(call), ...more }
  }
}
const inPath: Spec = {
  fresh: async (_, { completed = "" }) => ({ id: completed }),
  call: ({ id = "" }) => ({ variables: { id } }),
  more: ofEachState(({ id = "" }) => ({ variables: { id } }))
}
const again = (name: "id" | "runId" | "run_id", after: "CancelRun" | "PauseRun"): Spec => {
  const body = ({ failed = "" }: Given) => ({ [name]: failed })
  const fresh: Spec["fresh"] = async (rig) => {
    const id = await started(rig)
    await rpc(rig, after, { id })
    return { id }
  }
  const fromStep = (given: Given, step: string) => ({ body: { ...body(given), fromStep: step } })
  return {
    ...byId((id) => ({ [name]: id })),
    fresh,
    more: {
      ...byId((id) => ({ [name]: id })).more,
      "from a step that is not there": (given) => fromStep(given, "pack"),
      "from a step": (given) => fromStep(given, "charge"),
      "from a step in the other case": (given) => ({ body: { ...body(given), from_step: "charge" } }),
      "from a wrong step": (given) => ({ body: { ...body(given), fromStep: 5 } })
    }
  }
}

const patch = (name: "stepId" | "step_id"): Spec => ({
  free: ["output"],
  call: ({ sleeping }) => ({
    body: { [name]: `${sleeping}:nap:0`, output: { by: "hand" }, reason: "no time" }
  }),
  more: {
    "a step that is done": ({ completed }) => ({ body: { [name]: `${completed}:charge:0`, output: 2 } }),
    "a step that waits for an event": ({ waiting }) => ({ body: { [name]: `${waiting}:paid:0` } }),
    "a step that failed": ({ failed }) => ({ body: { [name]: `${failed}:charge:0`, output: null } }),
    "a step that is not there": ({ completed }) => ({ body: { [name]: `${completed}:post:0`, output: 2 } }),
    "a run that is not there": () => ({ body: { [name]: "run_none:charge:0", output: 2 } }),
    "an invalid id": () => ({ body: { [name]: "charge", output: 2 } })
  }
})

export const runs: Noun = {
  setUp,
  calls: {
    getRun: byId((id) => ({ id }), { "by its other name": ({ failed }) => ({ body: { runId: failed } }) }),
    listRuns: {
      pages: "body",
      call: () => ({ body: { functionId: "ship-order", status: "completed", limit: 10 } }),
      more: {
        all: () => ({ body: {} }),
        "a status in another spelling": () => ({ body: { status: "RUN_STATUS_FAILED" } }),
        "an invalid status": () => ({ body: { status: "lost" } }),
        "a function that is not there": () => ({ body: { functionId: "nobody" } })
      }
    },
    countRuns: {
      call: () => ({
        body: {
          by: "function",
          limit: 10,
          timeLimit: 5000,
          durations: false,
          filters: { status: "completed" }
        }
      }),
      more: {
        "by status": () => ({ body: { by: "status", timeLimit: 10_000 } }),
        "by a path": () => ({ body: { by: "event.data.id", filters: { statuses: ["failed", "waiting"] } } }),
        "by error": () => ({ body: { by: "error" } }),
        "by nothing that there is": () => ({ body: { by: "colour" } }),
        "an invalid filter": () => ({ body: { by: "day", filters: { lost: true } } }),
        "a filter that says nothing": () => ({ body: { by: "day", filters: { error: " " } } }),
        "a time that is too long": () => ({ body: { by: "day", time_limit: 60_000 } })
      }
    },
    restRuns: {
      pages: "query",
      call: () => ({ query: "function_id=ship-order&status=completed" }),
      more: {
        all: () => ({}),
        "the other case of letters": () => ({ query: "functionId=nobody" }),
        "a status in another spelling": () => ({ query: "status=RUN_STATUS_FAILED" }),
        "an invalid status": () => ({ query: "status=lost" }),
        "an empty status": () => ({ query: "status=" }),
        "a function that is not there": () => ({ query: "function_id=nobody" })
      }
    },
    pauseRun: byId((id) => ({ id, reason: "look" }), {
      "a second time": ({ running }) => ({ body: { id: running } })
    }),
    resumeRun: again("id", "PauseRun"),
    restResumeRun: again("run_id", "PauseRun"),
    cancelRun: byId((id) => ({ id, reason: "over" })),
    retryRun: again("id", "CancelRun"),
    forkRun: {
      free: ["steps", "data"],
      fresh: async (_, { completed = "" }) => ({ id: completed }),
      call: ({ id = "" }) => ({
        variables: { id },
        body: { from: "pack", steps: { charge: { paid: "by hand" } }, data: { id: "o-2" } }
      }),
      more: {
        ...ofEachState(({ id = "" }) => ({ variables: { id }, body: {} })),
        "without a body": ({ completed = "" }) => ({ variables: { id: completed } }),
        "one that is not there": () => ({ variables: { id: "run_none" }, body: {} }),
        "from a step that is not there": ({ completed = "" }) => ({
          variables: { id: completed },
          body: { from: "post" }
        }),
        "a result for a step that is not there": ({ completed = "" }) => ({
          variables: { id: completed },
          body: { steps: { post: 1 } }
        })
      }
    },
    moveRun: {
      fresh: async (_, { sleeping = "" }) => ({ id: sleeping }),
      call: ({ id = "" }) => ({ variables: { id }, body: { version: "2" } }),
      more: {
        ...ofEachState(({ id = "" }) => ({ variables: { id }, body: {} })),
        "one that is not there": () => ({ variables: { id: "run_none" }, body: {} })
      }
    },
    getRunSteps: byId((id) => ({ id })),
    restRunSteps: { ...inPath, pages: "query" },
    patchStep: patch("stepId"),
    restPatchStep: patch("step_id"),
    explainRun: inPath,
    waitForRun: {
      ...inPath,
      more: {
        "one that has failed": ({ failed = "" }) => ({ variables: { id: failed } }),
        "one that goes on": ({ sleeping = "" }) => ({
          variables: { id: sleeping },
          query: "timeout=5",
          waitsMs: 5
        }),
        "a timeout of 0": ({ sleeping = "" }) => ({ variables: { id: sleeping }, query: "timeout=0" }),
        "an invalid timeout": ({ sleeping = "" }) => ({
          variables: { id: sleeping },
          query: "timeout=soon"
        }),
        "a negative timeout": ({ sleeping = "" }) => ({ variables: { id: sleeping }, query: "timeout=-5" })
      }
    },
    runAudit: { ...inPath, pages: "query" },
    runLogs: { ...inPath, pages: "query" }
  }
}
