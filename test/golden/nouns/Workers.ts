import { complete, RawTurnWorker, registrationOf, stepDone } from "../../wire/RawTurnWorker.ts"
import { RawWorker, stepResult } from "../../wire/RawWorker.ts"
import { type Given, type Noun, ok, rpc, type Spec } from "../Noun.ts"
import type { Rig } from "../Rig.ts"

const trigger = (rig: Rig) => rpc(rig, "Trigger", { event: "order.placed", data: { id: "o-1" } })
const old = (rig: Rig) =>
  new RawWorker(rig.url, [{ id: "pack-order", triggers: [{ event: "order.packed" }] }], "worker-old")

/** A worker of each kind, both with a job. */
const setUp = async (rig: Rig): Promise<Given> => {
  const worker = new RawTurnWorker(rig.url)
  await worker.register()
  await old(rig).register()
  await trigger(rig)
  const [{ job }] = (await worker.poll({ asked: 1 })).body.deliveries
  await rpc(rig, "Trigger", { event: "order.packed", data: { id: "o-1" } })
  const taken = await old(rig).take()
  return {
    session: worker.session,
    job: job.jobId,
    run: job.runId,
    oldJob: taken.job_id,
    oldRun: taken.run_id
  }
}

const instance = {
  worker_id: "worker-2",
  hostname: "host-1",
  function_ids: ["ship-order"],
  max_concurrent_jobs: 10,
  labels: { zone: "a" },
  version: { sdk: "0.0.1", runtime: "node" }
}
const turns = (id = "") => ({
  ...instance,
  worker_id: id,
  capabilities: { turns: 1, renewals: true },
  registration: {
    ...registrationOf(id, [{ id: "ship-order", event: "order.placed" }]),
    startedAt: 1,
    pauses: true
  },
  instance: "instance-1",
  jobs: ["job_none"],
  number: 1
})
const ofOld =
  (call: object): Spec["call"] =>
  (given) => ({ variables: { id: "worker-old", jobId: given.oldJob ?? "" }, ...call })
const step = (run: string, more: object = {}) => ({
  ...stepResult({ run_id: run } as never, "charge", { output: { a: 1 } }),
  ...more
})
const inSession =
  (more: object): Spec["call"] =>
  ({ session }) => ({ variables: { id: "worker-1" }, body: { session, ...more } })
const elsewhere = (more: object): NonNullable<Spec["more"]> => ({
  "another session": () => ({ variables: { id: "worker-1" }, body: { session: "ses_none", ...more } })
})
const wait = (run: string, more: object) => ({
  status: "yielded",
  steps: [],
  yield: { step_id: `${run}:nap:0`, ...more }
})

export const workers: Noun = {
  setUp,
  calls: {
    registerWorker: {
      free: ["labels", "version"],
      fresh: (_rig, _, n) => Promise.resolve({ id: `worker-${n}` }),
      call: ({ id = "" }) => ({ variables: { id }, body: turns(id) }),
      more: {
        "a legacy worker": ({ id = "" }) => ({ variables: { id }, body: { ...instance, worker_id: id } }),
        "a legacy worker in the other case of letters": ({ id = "" }) => ({
          variables: { id },
          body: { workerId: id, hostname: "host-1", functionIds: ["ship-order"], maxConcurrentJobs: 5 }
        }),
        "a legacy worker of another id": ({ id = "" }) => ({
          variables: { id },
          body: { ...instance, worker_id: "somebody" }
        }),
        "a function that is not there": ({ id = "" }) => ({
          variables: { id },
          body: { ...instance, function_ids: ["nobody"] }
        }),
        "a version to come": ({ id = "" }) => ({
          variables: { id },
          body: { ...turns(id), capabilities: { turns: 2 } }
        }),
        "with a process": ({ id = "" }) => ({
          variables: { id },
          body: { ...turns(id), process: { host: "h", pid: 1, startedAt: "1" } }
        }),
        "with seals": ({ id = "" }) => ({
          variables: { id },
          body: { ...turns(id), capabilities: { turns: 1, renewals: true, seals: true } }
        })
      }
    },
    heartbeat: {
      call: ({ oldJob }) => ({
        variables: { id: "worker-old" },
        body: {
          worker_id: "worker-old",
          active_jobs: 1,
          jobs: [{ job_id: oldJob, started_at: "2030-01-01T00:00:00.000Z" }]
        }
      }),
      more: {
        "of a worker that speaks turns": () => ({ variables: { id: "worker-1" }, body: {} }),
        "of a job that is gone": () => ({
          variables: { id: "worker-old" },
          body: { jobs: [{ jobId: "job_none" }] }
        })
      }
    },
    takeJobs: {
      call: () => ({ variables: { id: "worker-old" } }),
      more: {
        "of a worker that speaks turns": () => ({ variables: { id: "worker-1" } }),
        "room for two": () => ({ variables: { id: "worker-old" }, query: "available=2" }),
        "no room": () => ({ variables: { id: "worker-old" }, query: "available=0" }),
        "an invalid room": () => ({ variables: { id: "worker-old" }, query: "available=many" })
      },
      fresh: async (rig, _, n) => {
        if (n === 1)
          for (let i = 0; i < 3; i++) await rpc(rig, "Trigger", { event: "order.packed", data: { n: i } })
        return {}
      }
    },
    updateJob: {
      free: ["output", "input", "data"],
      fresh: async (rig) => {
        await rpc(rig, "Trigger", { event: "order.packed", data: {} })
        const { job_id, run_id } = await old(rig).take()
        return { oldJob: job_id, oldRun: run_id }
      },
      call: (given) =>
        ofOld({
          body: {
            status: "completed",
            output: { ok: true },
            steps: [
              step(given.oldRun!, { error: { message: "m", code: "C", retryable: true, stack: "Error: m" } })
            ]
          }
        })(given),
      more: {
        "steps so far": (given) =>
          ofOld({ body: { status: "progress", steps: [step(given.oldRun!)] } })(given),
        "a failure": ofOld({
          body: { status: "failed", steps: [], error: { message: "m", code: "C", retryable: false } }
        }),
        "an invalid failure": ofOld({ body: { status: "failed", steps: [], error: "m" } }),
        "a sleep": (given) =>
          ofOld({ body: wait(given.oldRun!, { type: "sleep", until: "2030-01-02T03:04:05.000Z" }) })(given),
        "a sleep in the other case of letters": ({ oldRun, oldJob = "" }) => ({
          variables: { id: "worker-old", jobId: oldJob },
          body: {
            status: "yielded",
            yield: { type: "sleep", stepId: `${oldRun}:nap:0`, until: "2030-01-02T03:04:05.000Z" }
          }
        }),
        "a sleep until no time": (given) =>
          ofOld({ body: wait(given.oldRun!, { type: "sleep", until: "soon" }) })(given),
        "a wait for an event": (given) =>
          ofOld({
            body: wait(given.oldRun!, {
              type: "wait_for_event",
              event_filter: { event: "order.paid", match: "data.id", timeout: "1h" }
            })
          })(given),
        "a wait for no event": (given) =>
          ofOld({ body: wait(given.oldRun!, { type: "wait_for_event" }) })(given),
        "an invocation": (given) =>
          ofOld({
            body: wait(given.oldRun!, {
              type: "invoke_function",
              function_id: "ship-order",
              input: { a: 1 },
              invoke_timeout_ms: 1000
            })
          })(given),
        "an invocation of nothing": (given) =>
          ofOld({
            body: wait(given.oldRun!, {
              type: "invoke_function",
              function_id: "nobody",
              invoke_timeout_ms: 1000
            })
          })(given),
        "an invalid wait of a kind": (given) =>
          ofOld({ body: wait(given.oldRun!, { type: "dream" }) })(given),
        "an invalid status": ofOld({ body: { status: "lost" } }),
        "a step of another run": ofOld({ body: { status: "progress", steps: [step("run_none")] } }),
        "an invalid step in a status": (given) =>
          ofOld({ body: { status: "progress", steps: [step(given.oldRun!, { status: "lost" })] } })(given),
        "a job that is gone": ({ oldRun = "" }) => ({
          variables: { id: "worker-old", jobId: "job_none" },
          body: { status: "progress", steps: [step(oldRun)] }
        })
      }
    },
    ackJob: { call: ofOld({ body: {} }) },
    pollTurns: {
      // a delivery is repeated until the worker has seen it
      call: ({ job, session }) => ({
        variables: { id: "worker-1" },
        body: { session, asked: 1, withdrawn: 0, seen: 0, waitMs: 0, holding: [job] }
      }),
      more: {
        ...elsewhere({ seen: 0, waitMs: 0 }),
        "of a legacy worker": ({ session }) => ({
          variables: { id: "worker-old" },
          body: { session, seen: 0, waitMs: 0 }
        }),
        "a negative time": inSession({ seen: 0, waitMs: -1 }),
        "a negative room": inSession({ seen: 0, waitMs: 0, asked: -1 }),
        "nothing new": (given) => ({ ...inSession({ seen: 1, waitMs: 5 })(given), waitsMs: 5 }),
        "room for one more": inSession({ seen: 1, waitMs: 1000, asked: 2 }),
        "once more": inSession({ seen: 1, waitMs: 0 }),
        "what was not delivered": inSession({ seen: 9, waitMs: 0 })
      },
      fresh: async (rig, _, n) => {
        if (n === 1) await trigger(rig)
        return {}
      }
    },
    reportTurns: {
      free: ["outcome"],
      fresh: (_rig, _, n) => Promise.resolve({ batch: String(n) }),
      call: ({ batch, job, run, session }) => ({
        variables: { id: "worker-1" },
        body: {
          session,
          batch: Number(batch),
          asked: 1,
          withdrawn: 0,
          reports: [{ jobId: job, runId: run, ops: [stepDone("charge:0", { a: 1 })] }]
        }
      }),
      more: {
        ...elsewhere({ batch: 1, reports: [] }),
        "a batch once more": inSession({ batch: 1, reports: [] }),
        "a job that is gone": ({ batch, run, session }) => ({
          variables: { id: "worker-1" },
          body: {
            session,
            batch: Number(batch),
            reports: [{ jobId: "job_none", runId: run, ops: [complete(1)] }]
          }
        }),
        "an invalid op": ({ batch, job, run, session }) => ({
          variables: { id: "worker-1" },
          body: {
            session,
            batch: Number(batch),
            reports: [{ jobId: job, runId: run, ops: [{ _tag: "Dance" }] }]
          }
        }),
        "nothing more to do": ({ batch, job, run, session }) => ({
          variables: { id: "worker-1" },
          body: {
            session,
            batch: Number(batch),
            reports: [{ jobId: job, runId: run, ops: [stepDone("pack:0", 1), complete({ ok: true })] }]
          }
        }),
        "after that": ({ batch, job, run, session }) => ({
          variables: { id: "worker-1" },
          body: {
            session,
            batch: Number(batch),
            reports: [{ jobId: job, runId: run, ops: [complete({ ok: true })] }]
          }
        })
      }
    },
    lateTurn: {
      call: ({ run, session }) => ({
        variables: { id: "worker-1" },
        body: { session, runId: run, stepName: "charge", lingerMs: 0 }
      }),
      more: elsewhere({ runId: "run_none", stepName: "charge", lingerMs: 0 })
    },
    deregisterWorker: {
      call: ({ session }) => ({ variables: { id: "worker-1" }, query: `session=${session}` }),
      more: {
        "an existing one": () => ({ variables: { id: "worker-old" } }),
        "one without its session": () => ({ variables: { id: "worker-1" } })
      }
    }
  }
}

const description = {
  type: "description",
  capabilities: { turns: 1 },
  environment: "default",
  functions: registrationOf("", [{ id: "send-mail", event: "mail.due" }]).functions
}
const turn: Spec["call"] = ({ job = "", run }) => ({
  variables: { jobId: job },
  body: {
    runId: run,
    ops: [stepDone("charge:0", 1)],
    waitMs: 0,
    pauses: true,
    late: { stepName: "charge", lingerMs: 0 }
  }
})

export const push: Noun = {
  setUp: async (rig) => {
    const handler = await rig.listen(() => ({ body: description }))
    const silent = await rig.listen(() => ({ status: 500, body: { error: "no" } }))
    const url = `${handler.url}/handler`
    await ok(rig, "POST", "/api/v1/push/endpoints", { url })
    return { ...(await setUp(rig)), handler: url, silent: `${silent.url}/silent` }
  },
  calls: {
    pushTurn: {
      free: ["outcome"],
      keep: ["waitMs"],
      call: turn,
      more: {
        "a job that is gone": (given) => ({ ...turn(given), variables: { jobId: "job_none" } }),
        "a step once more": (given) => turn(given),
        "no time": ({ job = "", run }) => ({
          variables: { jobId: job },
          body: { runId: run, ops: [stepDone("pack:0", 1)] }
        }),
        "an invalid time": ({ job = "", run }) => ({
          variables: { jobId: job },
          body: { runId: run, ops: [], waitMs: "long" }
        }),
        "an invalid op": ({ job = "", run }) => ({
          variables: { jobId: job },
          body: { runId: run, ops: [{ _tag: "Dance" }] }
        }),
        "an empty object": ({ job = "" }) => ({ variables: { jobId: job }, body: {} }),
        "the end": ({ job = "", run }) => ({
          variables: { jobId: job },
          body: { runId: run, ops: [complete(1)] }
        })
      }
    },
    listPushEndpoints: { call: () => ({}), pages: "query" },
    registerPushEndpoint: {
      call: ({ handler }) => ({ body: { url: handler } }),
      more: {
        "a handler that fails": ({ silent }) => ({ body: { url: silent } }),
        "what is no URL": () => ({ body: { url: "somewhere" } }),
        "another scheme": () => ({ body: { url: "ftp://127.0.0.1/x" } })
      }
    },
    removePushEndpoint: {
      call: ({ handler = "" }) => ({ query: `url=${encodeURIComponent(handler)}` }),
      more: { "no URL": () => ({}), "what is no URL": () => ({ query: "url=somewhere" }) }
    }
  }
}
