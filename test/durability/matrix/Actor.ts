/** An actor in a storm: a series of processes under one name, each of which may be killed or frozen. */
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { Life, type Setting } from "../Chaos.ts"
import type { Program } from "../../Programs.ts"
import { monotonic } from "../SideLog.ts"

/** One process of an actor. Times are of the monotonic clock. */
export interface ProcessRecord {
  /** How the side log names it: `victim.0`. */
  readonly by: string
  readonly actor: string
  readonly from: number
  /** When it ended. */
  to?: number
  readonly frozen: Array<{ readonly at: number; until: number }>
  /** Unexpected behaviour: it ended by itself, did not end when asked to, or wrote to stderr. */
  readonly faults: Array<string>
  /** Its log, set once it has ended. */
  log?: string
}

const alive = new Set<Life>()

/** Ends the remaining processes, frozen or not. */
export const killAll = (): void => {
  for (const { child } of alive) child.kill("SIGKILL")
}

/** How long a process may take to end after SIGTERM, milliseconds. */
const GRACE_MS = 10_000

export class Actor {
  readonly records: Array<ProcessRecord> = []
  readonly #name: string
  readonly #program: Program | "ironflow"
  readonly #options: (by: string, life: number) => unknown
  readonly #cache: string
  readonly #nextLife: () => number
  readonly #ready: string
  readonly #logs: boolean
  readonly #patienceMs: number | undefined
  #life: Life | undefined
  #mayEnd = false

  constructor(
    name: string,
    program: Program | "ironflow",
    options: (by: string, life: number) => unknown,
    nextLife: () => number,
    cache: string,
    /**
     * `ready` is the beginning of the line that it prints when it is ready, and `patienceMs` how long that may take.
     * With `logs`, its stderr is a log and no fault.
     */
    {
      logs = false,
      patienceMs,
      ready = "ready"
    }: { readonly logs?: boolean; readonly patienceMs?: number; readonly ready?: string } = {}
  ) {
    this.#name = name
    this.#program = program
    this.#options = options
    this.#nextLife = nextLife
    this.#cache = cache
    this.#ready = ready
    this.#logs = logs
    this.#patienceMs = patienceMs
  }

  get record(): ProcessRecord {
    const record = this.records.at(-1)
    if (record === undefined) throw new Error(`${this.#name} was never started`)
    return record
  }

  get isRunning(): boolean {
    return this.#life !== undefined
  }

  get pid(): number {
    return this.#life?.child.pid ?? 0
  }

  /** Starts a process and waits until it is ready. */
  async start(setting: Setting = {}): Promise<void> {
    const by = `${this.#name}.${this.records.length}`
    const record: ProcessRecord = { by, actor: this.#name, from: monotonic(), frozen: [], faults: [] }
    this.records.push(record)
    const life = new Life(this.#program, this.#options(by, this.#nextLife()), this.#cache, setting)
    this.#life = life
    this.#mayEnd = false
    alive.add(life)
    void life.ended.then(() => {
      alive.delete(life)
      record.to ??= monotonic()
      const { exitCode, signalCode } = life.child
      if (this.#logs) record.log = life.errors
      else if (life.errors !== "") record.faults.push(`${by} wrote to stderr: ${life.errors.slice(0, 2000)}`)
      if (this.#life !== life) return
      this.#life = undefined
      if (!this.#mayEnd) record.faults.push(`${by} ended by itself with ${signalCode ?? exitCode}`)
      else if (signalCode === null && exitCode !== 0)
        record.faults.push(`${by} ended with code ${exitCode} when it was told to stop`)
    })
    const isReady = await life.says(this.#ready, this.#patienceMs).catch((error: unknown) => {
      throw new Error(`${by} has not started`, { cause: error })
    })
    if (!isReady) throw new Error(`${by} has not started: ${life.errors}`)
  }

  async kill(): Promise<void> {
    const life = this.#life
    if (life === undefined) return
    this.#mayEnd = true
    this.record.to = monotonic()
    life.child.kill("SIGKILL")
    await life.ended
    this.#life = undefined
  }

  /** A process that may start slowly may end slowly too. */
  get #graceMs(): number {
    return this.#patienceMs ?? GRACE_MS
  }

  /** Asks it to end. A process that does not is killed, which counts as a fault. */
  async stop(): Promise<void> {
    const life = this.#life
    if (life === undefined) return
    this.#mayEnd = true
    life.child.kill("SIGTERM")
    const timer = setTimeout(() => {
      this.record.faults.push(`${this.record.by} has not ended ${this.#graceMs} ms after SIGTERM`)
      life.child.kill("SIGKILL")
    }, this.#graceMs)
    await life.ended
    clearTimeout(timer)
    this.#life = undefined
  }

  freeze(): void {
    this.#life?.child.kill("SIGSTOP")
    this.record.frozen.push({ at: monotonic(), until: Number.POSITIVE_INFINITY })
  }

  thaw(): void {
    const frozen = this.record.frozen.at(-1)
    if (frozen !== undefined) frozen.until = monotonic()
    this.#life?.child.kill("SIGCONT")
  }

  signal(signal: NodeJS.Signals): void {
    this.#life?.child.kill(signal)
  }

  /** Makes the disk full for this process, or undoes that: its files cannot grow beyond the first byte. */
  async setFull(isFull: boolean): Promise<void> {
    if (this.#life === undefined) return
    await promisify(execFile)("prlimit", ["--pid", String(this.pid), `--fsize=${isFull ? 1 : "unlimited"}:`])
  }
}
