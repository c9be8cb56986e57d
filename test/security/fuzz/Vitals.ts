/** Observes a server from another process: how fast it answers its health check, and how much memory it has. */
import fs from "node:fs"
import http from "node:http"

export interface Sign {
  /** The status of the health check, or what went wrong. */
  readonly answer: number | string
  /** Milliseconds until the answer, without the time in which the server waited for a processor. */
  readonly tookMs: number
  /** Processor time of the server until the answer, in milliseconds. A busy machine does not lengthen it. */
  readonly workedMs: number
  readonly rssMb: number
}

export class Vitals {
  readonly pid: number
  readonly #waits: Array<{ readonly at: number; readonly waited: number }> = []

  constructor(pid: number) {
    this.pid = pid
  }

  /** Requests the health check once; gives up after `limitMs`. */
  async check(url: string, limitMs: number): Promise<Sign> {
    this.waitedForProcessor(0)
    const begun = performance.now()
    const worked = this.worked()
    // delays of this process are measured too, to subtract them
    let last = begun
    let ownDelay = 0
    const ticks = setInterval(() => {
      ownDelay += Math.max(0, performance.now() - last - 30)
      last = performance.now()
    }, 10)
    const answer = await health(url, limitMs).finally(() => clearInterval(ticks))
    const all = performance.now() - begun
    const tookMs = all - ownDelay - this.waitedForProcessor(all)
    return {
      answer,
      tookMs,
      workedMs: Math.min(tookMs, this.worked() - worked),
      rssMb: read(`/proc/${this.pid}/status`, (text) => Number(/VmRSS:\s+(\d+)/.exec(text)?.[1] ?? 0) / 1024)
    }
  }

  /** The processor time since its start, in milliseconds; where the system does not tell it, the time on the clock. */
  worked(): number {
    return (
      read(`/proc/${this.pid}/schedstat`, (text) => Number(text.split(" ")[0]) / 1e6) || performance.now()
    )
  }

  /** How long the server waited for a processor in the last `lastMs`: that is the machine's fault. */
  waitedForProcessor(lastMs: number): number {
    const now = performance.now()
    const waited = read(`/proc/${this.pid}/schedstat`, (text) => Number(text.split(" ")[1]) / 1e6)
    this.#waits.push({ at: now, waited })
    while (this.#waits.length > 2 && now - (this.#waits[1]?.at ?? now) > 60_000) this.#waits.shift()
    const before = this.#waits.findLast(({ at }) => at <= now - lastMs) ?? this.#waits[0]
    return waited - (before?.waited ?? waited)
  }
}

/** 0 if the process or `/proc` does not exist. */
const read = (file: string, get: (text: string) => number): number => {
  try {
    return get(fs.readFileSync(file, "utf8"))
  } catch {
    return 0
  }
}

/** Uses a new connection, as a new client would. */
const health = (url: string, timeout: number): Promise<number | string> =>
  new Promise((resolve) => {
    const request = http.get(`${url}/health`, { agent: false, timeout }, (response) => {
      response.resume().once("end", () => resolve(response.statusCode ?? 0))
      response.once("error", (error) => resolve(error.message))
    })
    request.once("timeout", () => request.destroy(new Error(`nothing for ${timeout} ms`)))
    request.once("error", (error) => resolve(error.message))
  })
