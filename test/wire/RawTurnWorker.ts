/** A worker with the turn protocol, request by request with plain `fetch`, as `src/Protocol/Http/Turns.ts` documents it. */
import { type Answer, send } from "./RawClient.ts"

export const registrationOf = (
  workerId: string,
  functions: ReadonlyArray<{ readonly id: string; readonly event?: string }>
) => ({
  workerId,
  environment: "default",
  hostname: "host-1",
  functions: functions.map(({ id, event }) => ({
    id,
    name: id,
    triggers: event === undefined ? [] : [{ event }],
    retry: { maxAttempts: 3, initialDelayMs: 1000, backoffFactor: 2, maxDelayMs: 60_000 },
    timeoutMs: 60_000,
    mode: "pull",
    secrets: [],
    codeHash: "c0de"
  })),
  maxConcurrentJobs: 10,
  labels: {},
  version: { sdk: "0.8.0", runtime: "node v24" }
})

export class RawTurnWorker {
  readonly url: string
  readonly id: string
  readonly instance: string
  readonly pauses: boolean
  session = ""

  constructor(
    url: string,
    options: { readonly id?: string; readonly instance?: string; readonly pauses?: boolean } = {}
  ) {
    this.pauses = options.pauses ?? false
    this.url = url
    this.id = options.id ?? "worker-1"
    this.instance = options.instance ?? "instance-1"
  }

  /** `more` are further fields of the request. */
  async register(jobs: ReadonlyArray<string> = [], url = this.url, more: object = {}): Promise<Answer> {
    const registration = {
      ...registrationOf(this.id, [{ id: "ship-order", event: "order.placed" }]),
      ...(this.pauses ? { pauses: true } : {})
    }
    const answer = await send(url, "POST", `/api/v1/workers/${this.id}/register`, {
      worker_id: this.id,
      hostname: "host-1",
      function_ids: ["ship-order"],
      max_concurrent_jobs: 10,
      labels: {},
      version: registration.version,
      capabilities: { turns: 1 },
      registration,
      instance: this.instance,
      jobs,
      ...more
    })
    if (answer.status === 200) this.session = answer.body.session
    return answer
  }

  poll(request: {
    readonly asked?: number
    readonly withdrawn?: number
    readonly seen?: number
    readonly waitMs?: number
    readonly holding?: ReadonlyArray<string>
  }): Promise<Answer> {
    return this.#post("turns/poll", { session: this.session, asked: 0, seen: 0, waitMs: 30_000, ...request })
  }

  report(
    batch: number,
    reports: ReadonlyArray<{
      readonly jobId: string
      readonly runId: string
      readonly ops: ReadonlyArray<object>
      readonly logs?: unknown
    }>,
    room: { readonly asked?: number; readonly withdrawn?: number } = {}
  ): Promise<Answer> {
    return this.#post("turns/reports", { session: this.session, batch, reports, ...room })
  }

  late(runId: string): Promise<Answer> {
    return this.#post("turns/late", { session: this.session, runId, stepName: "charge", lingerMs: 0 })
  }

  deregister(): Promise<Answer> {
    return send(this.url, "DELETE", `/api/v1/workers/${this.id}?session=${this.session}`, undefined, {})
  }

  #post(path: string, body: unknown): Promise<Answer> {
    return send(this.url, "POST", `/api/v1/workers/${this.id}/${path}`, body)
  }
}

export const stepDone = (stepKey: string, value: unknown) => ({
  _tag: "StepDone",
  stepKey,
  name: stepKey.split(":")[0],
  kind: "run",
  outcome: { _tag: "Success", value: JSON.stringify(value) },
  attempt: 1,
  startedAt: 1,
  endedAt: 2
})

export const complete = (output: unknown) => ({ _tag: "Complete", output: JSON.stringify(output) })
