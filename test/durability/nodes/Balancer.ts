/** What stands before several engines: new connections go to whoever says that it is ready, as a balancer with probes has it. */
import { makeDice } from "../Plan.ts"
import { monotonic } from "../SideLog.ts"
import { Wire } from "../matrix/Wire.ts"

const PROBE_MS = 800
const ANSWER_MS = 2000

/** What a node has said of itself, and when: nothing while it does not answer. */
export interface Said {
  readonly at: number
  readonly ready: string | undefined
  readonly health: string | undefined
}

const statusAt = async (url: string): Promise<string | undefined> => {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS) })
    const { status } = (await response.json()) as { readonly status?: string }
    return status
  } catch {
    return undefined
  }
}

export class Balancer {
  /** What each node has said, the newest last. */
  readonly said: ReadonlyArray<Array<Said>>
  readonly #ports: ReadonlyArray<number>
  readonly #wire: Wire
  readonly #timer: NodeJS.Timeout
  readonly #asking = new Set<number>()

  private constructor(ports: ReadonlyArray<number>) {
    this.#ports = ports
    this.said = ports.map(() => [])
    const dice = makeDice(1)
    this.#wire = new Wire(() => {
      const ready = ports.filter((_, which) => this.said[which]!.at(-1)?.ready === "ready")
      // one that has none left lets the next best have it
      return dice.pick(ready.length > 0 ? ready : ports)
    })
    this.#timer = setInterval(() => void ports.forEach((_, which) => void this.#probe(which)), PROBE_MS)
  }

  static async start(ports: ReadonlyArray<number>): Promise<Balancer> {
    const balancer = new Balancer(ports)
    await balancer.#wire.listen()
    return balancer
  }

  get url(): string {
    return this.#wire.url
  }

  async #probe(which: number): Promise<void> {
    if (this.#asking.has(which)) return
    this.#asking.add(which)
    const at = monotonic()
    const url = `http://127.0.0.1:${this.#ports[which]}`
    const [ready, health] = await Promise.all([statusAt(`${url}/ready`), statusAt(`${url}/health`)])
    this.said[which]!.push({ at, ready, health })
    this.#asking.delete(which)
  }

  close(): void {
    clearInterval(this.#timer)
    this.#wire.close()
  }
}
