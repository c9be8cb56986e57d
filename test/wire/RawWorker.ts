/**
 * A legacy polling worker as the wire sees it: it registers, polls and reports with single requests that a test controls. It
 * uses plain `fetch`, and no code of the package.
 */
import { type Answer, rpc, send } from "./RawClient.ts"

export interface RawFunction {
  readonly id: string
  readonly triggers?: ReadonlyArray<{ readonly event: string }>
  readonly retry?: Record<string, number>
  readonly [field: string]: unknown
}

/** A job as the worker gets it. */
export interface RawJob {
  readonly job_id: string
  readonly run_id: string
  readonly function_id: string
  readonly attempt: number
  // oxlint-disable-next-line typescript/no-explicit-any -- the data of an event is anything
  readonly event: any
  readonly completed_steps: ReadonlyArray<{
    readonly step_id: string
    readonly name: string
    readonly output: unknown
  }>
  readonly [field: string]: unknown
}

export class RawWorker {
  readonly #url: string
  readonly id: string
  readonly #functions: ReadonlyArray<RawFunction>

  constructor(url: string, functions: ReadonlyArray<RawFunction>, id = "worker-mh3k2l1a-x7f2qp") {
    this.#url = url
    this.#functions = functions
    this.id = id
  }

  /** The same worker at another address. */
  at(url: string): RawWorker {
    return new RawWorker(url, this.#functions, this.id)
  }

  /** Registers each function, and then the worker. Returns the last answer, or the first refusal. */
  async register(): Promise<Answer> {
    for (const { triggers = [], ...fn } of this.#functions) {
      const answer = await rpc(this.#url, "RegisterFunction", {
        name: fn.id,
        triggers,
        preferredMode: "EXECUTION_MODE_PULL",
        ...fn
      })
      if (answer.status !== 200) return answer
    }
    return this.#send("POST", "register", {
      worker_id: this.id,
      hostname: "unknown",
      function_ids: this.#functions.map(({ id }) => id),
      max_concurrent_jobs: 10,
      labels: {},
      version: { sdk: "0.8.0", runtime: "node-v22.1.0" }
    })
  }

  poll(available?: number): Promise<Answer> {
    return this.#send("GET", available === undefined ? "jobs" : `jobs?available=${available}`)
  }

  /** Polls until there is a job, as an idle worker does. */
  async take(): Promise<RawJob> {
    for (let i = 0; i < 500; i++) {
      const { status, body } = await this.poll()
      if (status === 200) return body
      await new Promise((resolve) => setImmediate(resolve))
    }
    throw new Error("There is no job")
  }

  update(job: Pick<RawJob, "job_id">, update: Record<string, unknown>): Promise<Answer> {
    return this.#send("PUT", `jobs/${job.job_id}`, update)
  }

  ack(job: Pick<RawJob, "job_id">): Promise<Answer> {
    return this.#send("PUT", `jobs/${job.job_id}/ack`, {})
  }

  heartbeat(jobs: ReadonlyArray<Pick<RawJob, "job_id">>): Promise<Answer> {
    return this.#send("POST", "heartbeat", {
      worker_id: this.id,
      active_jobs: jobs.length,
      jobs: jobs.map(({ job_id }) => ({ job_id, started_at: "2026-01-02T03:04:05.000Z" }))
    })
  }

  #send(method: string, path: string, body?: unknown): Promise<Answer> {
    return send(this.#url, method, `/api/v1/workers/${this.id}/${path}`, body, {
      "content-type": "application/json",
      "x-ironflow-environment": "default"
    })
  }
}

/** A step as the worker reports it. */
export const stepResult = (job: RawJob, name: string, fields: Record<string, unknown> = {}) => ({
  id: `${job.run_id}:${name}:0`,
  name,
  type: "invoke",
  status: "completed",
  started_at: "2026-01-02T03:04:05.000Z",
  ended_at: "2026-01-02T03:04:05.010Z",
  duration_ms: 10,
  ...fields
})
