import { assert, describe, it } from "@effect/vitest"
import type { Run } from "../../src/Client/Client.ts"
import type { RunStatus } from "../../src/RunStatus.ts"
import { explain, type LiveWorker } from "../../src/Engine/Runs/Explain.ts"
import type { RunSituation } from "../../src/Engine/Runs/RunRecords.ts"
import type { Lease } from "../../src/Engine/Runs/Stuck.ts"
import { handles } from "./Store/suite/Shop.ts"

const NOW = 100_000
const at = (ms: number) => new Date(ms).toISOString()

const situation = (
  status: RunStatus,
  rest: Omit<Partial<RunSituation>, "run"> & { readonly run?: Partial<Run> } = {}
): RunSituation => ({
  environment: "default",
  held: 0,
  holders: [],
  waits: [],
  registration: handles("charge"),
  ...rest,
  run: {
    id: "run_1",
    functionId: "charge",
    eventId: "evt_1",
    status,
    attempt: 1,
    maxAttempts: 3,
    createdAt: at(0),
    updatedAt: at(0),
    ...rest.run
  }
})

const worker = (id: string, rest: Partial<LiveWorker> = {}): LiveWorker => ({
  id,
  functionIds: new Set(["charge"]),
  codeVersions: new Map([["charge", "1"]]),
  labels: {},
  maxConcurrentJobs: 10,
  activeJobs: 0,
  turnLimits: new Map([["charge", 60_000]]),
  ...rest
})

const lease = (rest: Partial<Lease> = {}): Lease => ({
  workerId: "worker-1",
  functionId: "charge",
  since: NOW - 5000,
  until: undefined,
  isRollback: false,
  ...rest
})

const wait = (
  kind: RunSituation["waits"][number]["kind"],
  name: string,
  rest: Partial<RunSituation["waits"][number]> = {}
): RunSituation["waits"][number] => ({
  stepId: `run_1:${name}:0`,
  name,
  kind,
  fired: false,
  dueAt: NOW + 90_000,
  ...rest
})

const ready = { readyAt: NOW - 2500 }
const since = { readySince: at(NOW - 2500), waitingMs: 2500 }
const due = { dueAt: at(NOW + 90_000), dueInMs: 90_000 }
const until = `${at(NOW + 90_000)} (in 1m)`

interface Case {
  readonly title: string
  readonly situation: RunSituation
  readonly workers?: ReadonlyArray<LiveWorker>
  readonly code: string
  readonly message: string
  readonly details: { readonly [key: string]: unknown }
}

const error = { message: "no stock", code: "ERROR" }
const stepFailed = {
  message: "no stock",
  code: "STEP_FAILED",
  name: "StepError",
  details: { stepId: "run_1:reserve:0", stepName: "reserve" },
  cause: { message: "no stock", code: "ERROR", name: "TypeError" }
}
const limited = handles("charge", { concurrency: { limit: 2, key: "event.data.customer" } })

const cases: ReadonlyArray<Case> = [
  {
    title: "a completed run",
    situation: situation("completed", { run: { endedAt: at(5) } }),
    code: "COMPLETED",
    message: `It completed at ${at(5)}.`,
    details: { endedAt: at(5) }
  },
  {
    title: "a run that has ended, even if its schedule still has it for a moment",
    situation: situation("completed", {
      run: { endedAt: at(5) },
      heldBack: { cron: "0 * * * *", timezone: "UTC", overlap: "queue", skipped: 0, queue: [5] }
    }),
    code: "COMPLETED",
    message: `It completed at ${at(5)}.`,
    details: { endedAt: at(5) }
  },
  {
    title: "a run with steps that run",
    situation: situation("running", {
      lease: lease(),
      running: [
        { stepKey: "a:0", name: "a", kind: "run", attempt: 1, forMs: 40 },
        {
          stepKey: "b:0",
          name: "b",
          kind: "run",
          attempt: 2,
          forMs: 20_900,
          progress: { fraction: 0.999, text: "nearly there" }
        }
      ]
    }),
    workers: [worker("worker-1")],
    code: "RUNNING",
    message:
      'It runs on worker worker-1. Step "b" has run for 20s (attempt 2), and 1 other step is running. Its progress: 99 %, nearly there.',
    details: {
      workerId: "worker-1",
      workerConnected: true,
      leasedSince: at(NOW - 5000),
      leaseUntil: undefined,
      running: [
        { stepId: "run_1:a:0", name: "a", attempt: 1, startedAt: at(NOW - 40), runningMs: 40 },
        {
          stepId: "run_1:b:0",
          name: "b",
          attempt: 2,
          startedAt: at(NOW - 20_900),
          runningMs: 20_900,
          progress: { fraction: 0.999, text: "nearly there" }
        }
      ]
    }
  },
  {
    title: "a paused run that delays one fire of its schedule, and for which others were skipped",
    situation: situation("paused", {
      pause: { code: "PAUSED_BY_USER", message: "look at it" },
      heldBack: { cron: "0 * * * *", timezone: "UTC", overlap: "queue", skipped: 2, queue: [5] }
    }),
    code: "PAUSED",
    message:
      "It is paused (PAUSED_BY_USER): look at it. Resume it with resumeRun. " +
      `1 fire of the schedule "0 * * * *" waits for the end of this run, the first one since ${at(5)}. ` +
      '2 fires of the schedule "0 * * * *" were left out since this run began.',
    details: {
      code: "PAUSED_BY_USER",
      message: "look at it",
      details: undefined,
      schedule: {
        cron: "0 * * * *",
        timezone: "UTC",
        overlap: "queue",
        skipped: 2,
        waiting: 1,
        waitingSince: at(5)
      }
    }
  },
  {
    title: "a failed run",
    situation: situation("failed", { run: { endedAt: at(5), error } }),
    code: "FAILED",
    message: `It failed at ${at(5)}: no stock`,
    details: { endedAt: at(5), thrown: "Error", error }
  },
  {
    title: "a run whose step failed",
    situation: situation("failed", { run: { endedAt: at(5), error: stepFailed } }),
    code: "FAILED",
    message: `It failed at ${at(5)}: step "reserve" failed: TypeError: no stock`,
    details: { endedAt: at(5), step: "reserve", thrown: "TypeError", error: stepFailed }
  },
  {
    title: "a cancelled run",
    situation: situation("cancelled", { run: { endedAt: at(5), error } }),
    code: "CANCELLED",
    message: `It was cancelled at ${at(5)}: no stock. A cancelled run is not compensated.`,
    details: { endedAt: at(5), reason: "no stock" }
  },
  {
    title: "a paused run",
    situation: situation("paused", {
      pause: { code: "LOST_REPEATEDLY", message: "Its worker was lost 10 times.", details: { losses: 10 } }
    }),
    code: "PAUSED",
    message: "It is paused (LOST_REPEATEDLY): Its worker was lost 10 times. Resume it with resumeRun.",
    details: {
      code: "LOST_REPEATEDLY",
      message: "Its worker was lost 10 times.",
      details: { losses: 10 }
    }
  },
  {
    title: "a run whose turn is live in this process",
    situation: situation("running", { lease: lease() }),
    workers: [worker("worker-1")],
    code: "RUNNING",
    message: "It runs on worker worker-1.",
    details: {
      workerId: "worker-1",
      workerConnected: true,
      leasedSince: at(NOW - 5000),
      leaseUntil: undefined
    }
  },
  {
    title: "a run whose turn is live elsewhere and is to be paused",
    situation: situation("running", {
      lease: lease({ until: NOW + 20_000 }),
      lastStepAt: NOW - 2000,
      pause: { code: "PAUSED", message: "stock-taking" }
    }),
    workers: [worker("worker-1", { leaseMs: 30_000 })],
    code: "RUNNING",
    message: `It runs on worker worker-1, whose lease holds until ${at(NOW + 20_000)}. It will be paused when its running steps have ended: stock-taking.`,
    details: {
      workerId: "worker-1",
      workerConnected: true,
      leasedSince: at(NOW - 5000),
      leaseUntil: at(NOW + 20_000),
      renewedAt: at(NOW - 10_000),
      lastStepAt: at(NOW - 2000),
      pauseRequested: "stock-taking"
    }
  },
  {
    title: "a run in the process of another engine that is silent",
    situation: situation("running", {
      lease: lease(),
      engine: { name: "m-2, process 7", seenAt: NOW - 6300, goneAt: NOW + 8700 }
    }),
    workers: [worker("worker-1")],
    code: "RUNNING",
    message: `It runs on worker worker-1. The engine that this worker is connected to (m-2, process 7) was last seen 6s ago. If that engine is gone, the run continues on another worker, at ${at(NOW + 8700)} (in 9s), from its last finished step.`,
    details: {
      workerId: "worker-1",
      workerConnected: true,
      leasedSince: at(NOW - 5000),
      leaseUntil: undefined,
      engine: "m-2, process 7",
      engineSeenAt: at(NOW - 6300),
      handOutFrom: at(NOW + 8700)
    }
  },
  {
    title: "a run at a worker of another engine that is silent",
    situation: situation("running", {
      lease: lease({ until: NOW + 20_000 }),
      engine: { name: "m-2, process 7", seenAt: NOW - 30_000, goneAt: NOW - 15_000 }
    }),
    workers: [],
    code: "RUNNING",
    message: `It runs on worker worker-1, whose lease holds until ${at(NOW + 20_000)}. The engine that this worker is connected to (m-2, process 7) was last seen 30s ago. If that engine is gone, the run continues at another engine, on this worker or another one, at ${at(NOW + 20_000)} (in 20s), from its last finished step.`,
    details: {
      workerId: "worker-1",
      workerConnected: false,
      leasedSince: at(NOW - 5000),
      leaseUntil: at(NOW + 20_000),
      engine: "m-2, process 7",
      engineSeenAt: at(NOW - 30_000),
      handOutFrom: at(NOW + 20_000)
    }
  },
  {
    title: "a run that is being rolled back, which has no limit",
    situation: situation("compensating", { lease: lease({ since: NOW - 1_000_000, isRollback: true }) }),
    workers: [worker("worker-1")],
    code: "RUNNING",
    message: "Its compensations run on worker worker-1.",
    details: {
      workerId: "worker-1",
      workerConnected: true,
      leasedSince: at(NOW - 1_000_000),
      leaseUntil: undefined
    }
  },
  {
    title: "a run in a step of hours, which its function allows",
    situation: situation("running", { lease: lease({ since: NOW - 10_000_000 }) }),
    workers: [worker("worker-1", { turnLimits: new Map([["charge", 20_000_000]]) })],
    code: "RUNNING",
    message: "It runs on worker worker-1.",
    details: {
      workerId: "worker-1",
      workerConnected: true,
      leasedSince: at(NOW - 10_000_000),
      leaseUntil: undefined
    }
  },
  {
    title: "a run on a legacy worker, for whose turns no limit is known",
    situation: situation("running", { lease: lease({ since: NOW - 10_000_000, until: NOW + 1 }) }),
    workers: [worker("worker-1", { turnLimits: undefined })],
    code: "RUNNING",
    message: `It runs on worker worker-1, whose lease holds until ${at(NOW + 1)}.`,
    details: {
      workerId: "worker-1",
      workerConnected: true,
      leasedSince: at(NOW - 10_000_000),
      leaseUntil: at(NOW + 1)
    }
  },
  {
    title: "a run whose worker keeps the lease beyond the limit of a turn",
    situation: situation("running", { lease: lease({ since: NOW - 120_000, until: NOW + 1 }) }),
    workers: [worker("worker-1")],
    code: "STUCK",
    message: `Worker worker-1 holds the run, which makes no progress: its turn should have ended 1m after ${at(NOW - 120_000)}, and the worker keeps the lease without reporting an end. Restart that worker: the run continues on another worker, from its last finished step.`,
    details: {
      workerId: "worker-1",
      workerConnected: true,
      leasedSince: at(NOW - 120_000),
      leaseUntil: at(NOW + 1)
    }
  },
  {
    title: "a run that was taken from a worker which may still execute it",
    situation: situation("waiting", {
      lease: lease({ since: NOW - 120_000, until: NOW + 9000, isRevoked: true })
    }),
    workers: [worker("worker-1")],
    code: "WORKER_STOPPING",
    message:
      `Worker worker-1 was told to drop the run, and may still be executing it. Other workers can get the run when that worker confirms that it has dropped the run, or at ${at(NOW + 9000)} (in 9s), ` +
      "when the lease of that worker ends.",
    details: { workerId: "worker-1", workerConnected: true, handOutFrom: at(NOW + 9000) }
  },
  {
    title: "a cancelled run whose worker may still execute it",
    situation: situation("cancelled", {
      run: { endedAt: at(5), error },
      lease: lease({ until: NOW + 9000, isRevoked: true })
    }),
    code: "CANCELLED",
    message: `It was cancelled at ${at(5)}: no stock. A cancelled run is not compensated. Worker worker-1 may still be executing the run, until the worker confirms that it has dropped the run, or until ${at(NOW + 9000)}`,
    details: { endedAt: at(5), reason: "no stock" }
  },
  {
    title: "a run whose lease has no end and whose worker is not connected",
    situation: situation("running", { lease: lease({ since: NOW - 60_000 }) }),
    code: "STUCK",
    message:
      "Worker worker-1 holds the run, which makes no progress: that worker is not connected any more. Restart that worker: the run continues on another worker, from its last finished step.",
    details: {
      workerId: "worker-1",
      workerConnected: false,
      leasedSince: at(NOW - 60_000),
      leaseUntil: undefined
    }
  },
  {
    title: "a run whose lease ended long ago",
    situation: situation("running", { lease: lease({ since: NOW - 90_000, until: NOW - 60_000 }) }),
    workers: [worker("worker-1")],
    code: "STUCK",
    message: `Worker worker-1 holds the run, which makes no progress: the lease ended at ${at(NOW - 60_000)}, and nothing has taken the run back. Restart that worker: the run continues on another worker, from its last finished step.`,
    details: {
      workerId: "worker-1",
      workerConnected: true,
      leasedSince: at(NOW - 90_000),
      leaseUntil: at(NOW - 60_000)
    }
  },
  {
    title: "a sleeping run",
    situation: situation("waiting", { waits: [wait("sleep", "cool off")] }),
    code: "SLEEPING",
    message: `Step "cool off" sleeps until ${until}.`,
    details: { stepId: "run_1:cool off:0", ...due }
  },
  {
    title: "a run that waits for any event of a name",
    situation: situation("waiting", { waits: [wait("event", "paid", { event: "order.paid" })] }),
    code: "WAITING_FOR_EVENT",
    message: `Step "paid" waits for event "order.paid", until ${until}.`,
    details: {
      stepId: "run_1:paid:0",
      ...due,
      event: "order.paid",
      match: undefined,
      matchValue: undefined
    }
  },
  {
    title: "a run that waits for an event with the same value at a path",
    situation: situation("waiting", {
      waits: [wait("event", "paid", { event: "order.paid", match: "data.orderId", matchValue: '"o-1"' })]
    }),
    code: "WAITING_FOR_EVENT",
    message: `Step "paid" waits for event "order.paid" whose data.orderId is "o-1", until ${until}.`,
    details: {
      stepId: "run_1:paid:0",
      ...due,
      event: "order.paid",
      match: "data.orderId",
      matchValue: '"o-1"'
    }
  },
  {
    title: "a run that waits for an event that satisfies an expression",
    situation: situation("waiting", {
      waits: [wait("event", "paid", { event: "order.*", match: "event.data.amount > 1" })]
    }),
    code: "WAITING_FOR_EVENT",
    message: `Step "paid" waits for event "order.*" that satisfies event.data.amount > 1, until ${until}.`,
    details: {
      stepId: "run_1:paid:0",
      ...due,
      event: "order.*",
      match: "event.data.amount > 1",
      matchValue: undefined
    }
  },
  {
    title: "a run that waits for a child",
    situation: situation("waiting", { waits: [wait("child", "ship", { childRunId: "run_2" })] }),
    code: "WAITING_FOR_CHILD",
    message: `Step "ship" waits for run run_2, until ${until}.`,
    details: { stepId: "run_1:ship:0", ...due, childRunId: "run_2" }
  },
  {
    title: "a step between two attempts",
    situation: situation("waiting", { waits: [wait("retry", "charge", { failures: 2, error: "declined" })] }),
    code: "WAITING_FOR_RETRY",
    message: `Step "charge" failed 2 times (last: declined) and is tried again at ${until}.`,
    details: { stepId: "run_1:charge:0", ...due, failures: 2, error: "declined" }
  },
  {
    title: "a run between two attempts, whatever it waited for before",
    situation: situation("waiting", {
      run: { attempt: 2, error },
      waits: [wait("sleep", "rest", { dueAt: NOW + 1 }), wait("run-retry", "", { stepId: "run_1:" })]
    }),
    code: "WAITING_FOR_RETRY",
    message: `The run is tried again at ${until}, after: no stock.`,
    details: {
      stepId: "run_1:",
      ...due,
      alsoWaitingFor: [{ stepId: "run_1:rest:0", kind: "sleep" }],
      attempt: 2,
      error: "no stock"
    }
  },
  {
    title: "a run with several waits, from the wait that is due first and has not fired",
    situation: situation("waiting", {
      waits: [
        wait("retry", "charge", { fired: true }),
        wait("sleep", "rest", { dueAt: NOW - 5 }),
        wait("child", "ship", { childRunId: "run_2" })
      ]
    }),
    code: "SLEEPING",
    message: `Step "rest" sleeps until ${at(NOW - 5)} (in 0ms).`,
    details: {
      stepId: "run_1:rest:0",
      dueAt: at(NOW - 5),
      dueInMs: 0,
      alsoWaitingFor: [{ stepId: "run_1:ship:0", kind: "child" }]
    }
  },
  {
    title: "a ready run without a worker",
    situation: situation("pending", ready),
    workers: [worker("worker-1", { functionIds: new Set(["ship"]) })],
    code: "NO_WORKER",
    message: 'No live worker has function "charge": start one that registers it.',
    details: { functionId: "charge", liveWorkers: ["worker-1"], ...since }
  },
  {
    title: "a ready run whose function a worker took over from a push endpoint, and is gone",
    situation: situation("pending", { ...ready, formerEndpoint: "https://shop/" }),
    workers: [],
    code: "NO_WORKER",
    message:
      'No live worker has function "charge": start one that registers it. Before, the push endpoint https://shop/ had it; `ironflow functions register https://shop/` gives it back to the endpoint.',
    details: { functionId: "charge", liveWorkers: [], formerEndpoint: "https://shop/", ...since }
  },
  {
    title: "a new run of a function that is paused, whatever workers there are",
    situation: situation("pending", {
      ...ready,
      functionPaused: { at: NOW - 2000, by: "ada", reason: "the bank is down" }
    }),
    workers: [],
    code: "FUNCTION_PAUSED",
    message: `Function "charge" has been paused since ${at(NOW - 2000)}, by ada: the bank is down. Its new runs begin when it is resumed with resumeFunction.`,
    details: {
      functionId: "charge",
      pausedAt: at(NOW - 2000),
      pausedBy: "ada",
      reason: "the bank is down",
      ...since
    }
  },
  {
    title: "a run that has begun, of a function that is paused",
    situation: situation("waiting", {
      ...ready,
      run: { startedAt: at(0) },
      functionPaused: { at: NOW - 2000, by: "ada" }
    }),
    workers: [],
    code: "NO_WORKER",
    message: 'No live worker has function "charge": start one that registers it.',
    details: { functionId: "charge", liveWorkers: [], ...since }
  },
  {
    title: "a run that is pinned to a version that no worker has",
    situation: situation("waiting", { ...ready, pin: { version: "0", hasBegun: true } }),
    workers: [worker("worker-1")],
    code: "NO_WORKER_OF_VERSION",
    message:
      'It is pinned to version "0" of function "charge", with which it began, and no live worker has that version (worker-1 has "1"): ' +
      'start a worker with version "0", or move the run to the latest version with moveRun.',
    details: {
      functionId: "charge",
      codeVersion: "0",
      workers: [{ id: "worker-1", codeVersion: "1" }],
      ...since
    }
  },
  {
    title: "a run that no worker has begun, while the workers of the latest version are busy",
    situation: situation("pending", { ...ready, pin: { version: "2", hasBegun: false } }),
    workers: [
      worker("worker-1"),
      worker("worker-2", { codeVersions: new Map([["charge", "2"]]), activeJobs: 10 })
    ],
    code: "NO_CAPACITY",
    message: 'Every worker with function "charge" is busy: worker-2 (10 of 10).',
    details: { workers: [{ id: "worker-2", activeJobs: 10, maxConcurrentJobs: 10 }], ...since }
  },
  {
    title: "a ready run whose function is gone from its endpoint, or whose endpoint does not answer",
    situation: situation("pending", ready),
    workers: [
      worker("push-1", { problem: "The endpoint https://a/ is not available: it refuses connections" }),
      worker("push-2", {
        functionProblems: new Map([["charge", 'The app at https://b/ has no function "charge"']])
      })
    ],
    code: "ENDPOINT_UNAVAILABLE",
    message:
      'The app at https://b/ has no function "charge". The run is dispatched as soon as the endpoint has the function.',
    details: { workers: ["push-1", "push-2"], missing: "charge", ...since }
  },
  {
    title: "a run whose turn was lost, and that is tried again after a delay",
    situation: situation("waiting", { losses: 3, waits: [wait("run-retry", "")] }),
    code: "WAITING_FOR_RETRY",
    message: `The run is tried again at ${until}. Its turn was lost 3 times without a completed step in between: the log of the engine says how.`,
    details: { stepId: "run_1::0", ...due, attempt: 1, error: undefined, losses: 3 }
  },
  {
    title: "a ready run without a worker that has the labels",
    situation: situation("pending", {
      ...ready,
      registration: handles("charge", { metadata: { requires: { gpu: "yes" } } })
    }),
    workers: [worker("worker-1", { labels: { gpu: "no" } })],
    code: "NO_WORKER",
    message:
      'No live worker with function "charge" has the labels that the function requires: start one that has them.',
    details: {
      functionId: "charge",
      requires: { gpu: "yes" },
      workers: [{ id: "worker-1", labels: { gpu: "no" } }],
      ...since
    }
  },
  {
    title: "a ready run under a saturated key",
    situation: situation("pending", {
      ...ready,
      registration: limited,
      concurrencyKey: '"ann"',
      held: 2,
      holders: ["run_8", "run_9"]
    }),
    workers: [worker("worker-1")],
    code: "CONCURRENCY_LIMIT",
    message: 'Function "charge" may execute 2 runs at a time for key "ann", and 2 are running: run_8, run_9.',
    details: { limit: 2, key: '"ann"', held: 2, holders: ["run_8", "run_9"], ...since }
  },
  {
    title: "a ready run under a limit of the whole function, with more holders than the message names",
    situation: situation("pending", {
      ...ready,
      registration: handles("charge", { concurrency: { limit: 50 } }),
      concurrencyKey: "",
      held: 50,
      holders: ["run_8", "run_9"]
    }),
    workers: [worker("worker-1")],
    code: "CONCURRENCY_LIMIT",
    message: 'Function "charge" may execute 50 runs at a time, and 50 are running: run_8, run_9, ....',
    details: { limit: 50, key: undefined, held: 50, holders: ["run_8", "run_9"], ...since }
  },
  {
    title: "a ready run whose key has room",
    situation: situation("pending", {
      ...ready,
      registration: limited,
      concurrencyKey: '"ann"',
      held: 1,
      holders: ["run_8"]
    }),
    workers: [worker("worker-1")],
    code: "READY",
    message: "It is about to be handed to a worker.",
    details: since
  },
  {
    title: "a ready run whose actor's worker is busy while another is not",
    situation: situation("pending", { ...ready, run: { actorId: "v-1" }, actorWorkerId: "worker-1" }),
    workers: [worker("worker-1", { activeJobs: 10 }), worker("worker-2")],
    code: "ACTOR_BUSY",
    message: "Its actor is bound to worker worker-1, which is busy with 10 of 10 runs.",
    details: {
      actor: "v-1",
      workerId: "worker-1",
      activeJobs: 10,
      maxConcurrentJobs: 10,
      ...since
    }
  },
  {
    title: "a ready run while every worker is busy",
    situation: situation("pending", ready),
    workers: [
      worker("worker-1", { activeJobs: 10 }),
      worker("worker-2", { activeJobs: 3, maxConcurrentJobs: 3 }),
      worker("worker-3", { functionIds: new Set(["ship"]) })
    ],
    code: "NO_CAPACITY",
    message: 'Every worker with function "charge" is busy: worker-1 (10 of 10), worker-2 (3 of 3).',
    details: {
      workers: [
        { id: "worker-1", activeJobs: 10, maxConcurrentJobs: 10 },
        { id: "worker-2", activeJobs: 3, maxConcurrentJobs: 3 }
      ],
      ...since
    }
  },
  {
    title: "a ready run",
    situation: situation("pending", ready),
    workers: [worker("worker-1", { activeJobs: 9 })],
    code: "READY",
    message: "It is about to be handed to a worker.",
    details: since
  },
  {
    title: "a ready run that was lost repeatedly together with others",
    situation: situation("waiting", { ...ready, losses: 3 }),
    workers: [worker("worker-1")],
    code: "READY",
    message:
      "Its worker was lost 3 times without a completed step in between. Such runs are executed a few at a time, because one of them may be what ends the workers. This run continues " +
      "as soon as a worker has room for another one of them.",
    details: { losses: 3, ...since }
  },
  {
    title: "a suspended run all of whose waits have fired",
    situation: situation("waiting", { waits: [wait("sleep", "rest", { fired: true })] }),
    code: "READY",
    message: "It is about to be handed to a worker.",
    details: {}
  }
]

describe("explain", () => {
  for (const { title, situation, workers = [], ...reason } of cases) {
    it(`gives the reason of ${title}: ${reason.code}`, () => {
      assert.deepStrictEqual(explain(situation, workers, NOW), {
        runId: "run_1",
        status: situation.run.status,
        ...reason
      })
    })
  }
})
