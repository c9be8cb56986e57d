/** What another process sees of a server: how soon it answers its health check, and how much memory it has. */
import fs from "node:fs"
import http from "node:http"

export interface Sign {
  /** The status of the health check, or what went wrong. */
  readonly answer: number | string
  /** Milliseconds that the answer took, without those in which the server waited for a processor. */
  readonly tookMs: number
  /** What the server has worked meanwhile, milliseconds of a processor: a busy machine makes it no longer. */
  readonly workedMs: number
  readonly rssMb: number
}

export class Vitals {
  readonly pid: number
  readonly #waits: Array<{ readonly at: number; readonly waited: number }> = []

  constructor(pid: number) {
    this.pid = pid
  }

  /** Asks for its health; gives up after `limitMs`. */
  async look(url: string, limitMs: number): Promise<Sign> {
    this.starved(0)
    const begun = performance.now()
    const worked = this.worked()
    // a delay of this process would look like one of the other
    let last = begun
    let own = 0
    const ticks = setInterval(() => {
      own += Math.max(0, performance.now() - last - 30)
      last = performance.now()
    }, 10)
    const answer = await health(url, limitMs).finally(() => clearInterval(ticks))
    const all = performance.now() - begun
    const tookMs = all - own - this.starved(all)
    return {
      answer,
      tookMs,
      workedMs: Math.min(tookMs, this.worked() - worked),
      rssMb: read(`/proc/${this.pid}/status`, (text) => Number(/VmRSS:\s+(\d+)/.exec(text)?.[1] ?? 0) / 1024)
    }
  }

  /** How long it has had a processor since it began, milliseconds; any time at all where nobody says that. */
  worked(): number {
    return (
      read(`/proc/${this.pid}/schedstat`, (text) => Number(text.split(" ")[0]) / 1e6) || performance.now()
    )
  }

  /** How long it has waited for a processor in the last so many milliseconds: that is the machine's fault. */
  starved(lastMs: number): number {
    const now = performance.now()
    const waited = read(`/proc/${this.pid}/schedstat`, (text) => Number(text.split(" ")[1]) / 1e6)
    this.#waits.push({ at: now, waited })
    while (this.#waits.length > 2 && now - (this.#waits[1]?.at ?? now) > 60_000) this.#waits.shift()
    const before = this.#waits.findLast(({ at }) => at <= now - lastMs) ?? this.#waits[0]
    return waited - (before?.waited ?? waited)
  }
}

/** 0 when the process or the whole of `/proc` is not there. */
const read = (file: string, get: (text: string) => number): number => {
  try {
    return get(fs.readFileSync(file, "utf8"))
  } catch {
    return 0
  }
}

/** On a connection of its own, as a stranger asks. */
const health = (url: string, timeout: number): Promise<number | string> =>
  new Promise((resolve) => {
    const request = http.get(`${url}/health`, { agent: false, timeout }, (response) => {
      response.resume().once("end", () => resolve(response.statusCode ?? 0))
      response.once("error", (error) => resolve(error.message))
    })
    request.once("timeout", () => request.destroy(new Error(`nothing for ${timeout} ms`)))
    request.once("error", (error) => resolve(error.message))
  })
