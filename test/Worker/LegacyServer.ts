/**
 * A legacy Ironflow server, played by a test: it hands out jobs to short polls, accepts updates, and keeps the results that
 * are reported. Unlike those of a real one, its polls stay open until there is a job, which workers tolerate.
 */
import { type Asked, type Reply, ScriptedServer } from "../Client/ScriptedServer.ts"

export interface Update {
  readonly jobId: string
  readonly body: any
}

export class LegacyServer implements AsyncDisposable {
  readonly http: ScriptedServer
  readonly functions: Array<any> = []
  readonly registrations: Array<any> = []
  readonly heartbeats: Array<any> = []
  readonly acks: Array<any> = []
  readonly published: Array<any> = []
  readonly updates: Array<Update> = []
  /** The reported results of steps, by run. */
  readonly #memory = new Map<string, Map<string, { step_id: string; name: string; output: unknown }>>()
  readonly #queue: Array<unknown> = []
  #poll: { readonly asked: Asked; readonly answer: (reply: Reply) => void } | undefined
  #jobs = 0
  /** Whether the server knows its workers. A restart forgets them. */
  #known = false
  /** Replaces the usual answer, unless it is `undefined`. */
  override: (asked: Asked) => Reply | "hang up" | undefined = () => undefined

  private constructor(http: ScriptedServer) {
    this.http = http
  }

  static async start(): Promise<LegacyServer> {
    const http = await ScriptedServer.start(() => ({ status: 500 }))
    const server = new LegacyServer(http)
    http.script = (asked) => server.override(asked) ?? server.#answer(asked)
    return server
  }

  get url(): string {
    return this.http.url
  }

  /** Hands out a run. `completed_steps` are its reported steps, and those of `resumed`, on which it had yielded. */
  dispatch(
    runId: string,
    functionId: string,
    more: {
      readonly resumed?: Readonly<Record<string, unknown>>
      readonly data?: unknown
      readonly fields?: Readonly<Record<string, unknown>>
    } = {}
  ): string {
    const memory = this.#memoryOf(runId)
    for (const [stepId, output] of Object.entries(more.resumed ?? {})) {
      memory.set(stepId, { step_id: stepId, name: stepId, output })
    }
    const jobId = `job-${++this.#jobs}`
    const job = {
      job_id: jobId,
      run_id: runId,
      function_id: functionId,
      attempt: 1,
      event: {
        id: "evt-1",
        name: "order.placed",
        timestamp: "2026-01-02T03:04:05.000Z",
        data: more.data ?? { orderId: "o-1" },
        metadata: null
      },
      completed_steps: [...memory.values()],
      ...more.fields
    }
    this.deliver(job)
    return jobId
  }

  /** Answers the open poll with this body, or else the next one. */
  deliver(body: unknown): void {
    const poll = this.#poll
    if (poll === undefined) {
      this.#queue.push(body)
      return
    }
    this.#poll = undefined
    poll.answer({ body })
  }

  /** Forgets the workers, as after a restart: their next poll gets 404. */
  forgetWorkers(): void {
    this.#known = false
    const poll = this.#poll
    this.#poll = undefined
    poll?.answer({ status: 404, body: { error: "worker not found" } })
  }

  /** The updates of a job, without the checkpoints. */
  ends(jobId: string): Array<any> {
    return this.updates
      .filter((update) => update.jobId === jobId && update.body.status !== "progress")
      .map(({ body }) => body)
  }

  /** Waits for the update that ends a job. */
  async ended(jobId: string): Promise<any> {
    await this.http.until(() => this.ends(jobId).length > 0)
    return this.ends(jobId)[0]
  }

  /** The names of the steps that were reported as completed, in order. */
  completed(runId: string): Array<string> {
    return [...this.#memoryOf(runId).keys()].map((stepId) => stepId.replace(`${runId}:`, ""))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.http.stop()
  }

  #memoryOf(runId: string) {
    const memory = this.#memory.get(runId) ?? new Map()
    this.#memory.set(runId, memory)
    return memory
  }

  #answer(asked: Asked): Reply | Promise<Reply> {
    const [path] = asked.path.split("?")
    if (path!.endsWith("/RegisterFunction")) {
      this.functions.push(asked.body)
      return { body: { function: {}, created: true } }
    }
    if (path!.endsWith("/Publish")) {
      this.published.push(asked.body)
      return { body: { eventId: "msg-1", sequence: "7" } }
    }
    const [, rest] = /^\/api\/v1\/workers\/[^/]+\/(.*)$/.exec(path!) ?? []
    if (rest === "register") {
      this.registrations.push(asked.body)
      this.#known = true
      return { body: {} }
    }
    if (rest === "heartbeat") {
      this.heartbeats.push(asked.body)
      return { body: {} }
    }
    if (rest === "jobs") {
      if (!this.#known) return { status: 404, body: { error: "worker not found" } }
      if (this.#queue.length > 0) return { body: this.#queue.shift() }
      return new Promise((answer) => (this.#poll = { asked, answer }))
    }
    const [, jobId, ack] = /^jobs\/([^/]+)(\/ack)?$/.exec(rest ?? "") ?? []
    if (jobId === undefined) return { status: 404, body: "404 page not found" }
    if (ack !== undefined) {
      this.acks.push(asked.body)
      return { body: {} }
    }
    this.updates.push({ jobId, body: asked.body })
    for (const step of asked.body.steps ?? []) {
      if (step.status !== "completed") continue
      const [runId] = step.id.split(":")
      this.#memoryOf(runId).set(step.id, { step_id: step.id, name: step.name, output: step.output ?? null })
    }
    return { body: {} }
  }
}
