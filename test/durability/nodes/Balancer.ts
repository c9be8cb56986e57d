/** A load balancer for several engines: it probes them, and gives new connections to those that are ready. */
import { makeDice } from "../Plan.ts"
import { monotonic } from "../SideLog.ts"
import { Wire } from "../matrix/Wire.ts"

const PROBE_MS = 800
const ANSWER_MS = 2000

/** What a node has answered to a probe; `undefined` where it did not answer. */
export interface Probe {
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
  /** The probes of each node, the newest last. */
  readonly probes: ReadonlyArray<Array<Probe>>
  readonly #ports: ReadonlyArray<number>
  readonly #wire: Wire
  readonly #timer: NodeJS.Timeout
  readonly #probing = new Set<number>()

  private constructor(ports: ReadonlyArray<number>) {
    this.#ports = ports
    this.probes = ports.map(() => [])
    const dice = makeDice(1)
    this.#wire = new Wire(() => {
      const ready = ports.filter((_, index) => this.probes[index]!.at(-1)?.ready === "ready")
      // if no node is ready, any node gets the connection
      return dice.pick(ready.length > 0 ? ready : ports)
    })
    this.#timer = setInterval(() => void ports.forEach((_, index) => void this.#probe(index)), PROBE_MS)
  }

  static async start(ports: ReadonlyArray<number>): Promise<Balancer> {
    const balancer = new Balancer(ports)
    await balancer.#wire.listen()
    return balancer
  }

  get url(): string {
    return this.#wire.url
  }

  async #probe(index: number): Promise<void> {
    if (this.#probing.has(index)) return
    this.#probing.add(index)
    const at = monotonic()
    const url = `http://127.0.0.1:${this.#ports[index]}`
    const [ready, health] = await Promise.all([statusAt(`${url}/ready`), statusAt(`${url}/health`)])
    this.probes[index]!.push({ at, ready, health })
    this.#probing.delete(index)
  }

  close(): void {
    clearInterval(this.#timer)
    this.#wire.close()
  }
}
