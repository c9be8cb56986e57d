/** An actor in a storm: one process after the other under one name, each of which may be killed or frozen. */
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { Life, type Setting } from "../Chaos.ts"
import { monotonic } from "../SideLog.ts"

/** One process of an actor. Times are of the monotonic clock. */
export interface ProcessRecord {
  /** How the side log names it: `victim.0`. */
  readonly by: string
  readonly actor: string
  readonly from: number
  /** When it was there no more. */
  to?: number
  readonly frozen: Array<{ readonly at: number; until: number }>
  /** What nobody asked of it: that it ended, did not end, or wrote to stderr. */
  readonly faults: Array<string>
  /** What it has logged, once it has ended. */
  log?: string
}

const alive = new Set<Life>()

/** Ends the remaining processes, frozen or not. */
export const killEverybody = (): void => {
  for (const { child } of alive) child.kill("SIGKILL")
}

/** So long may a process take to end that was told to, milliseconds. */
const GRACE_MS = 10_000

export class Actor {
  readonly records: Array<ProcessRecord> = []
  readonly #name: string
  readonly #program: string
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
    program: string,
    options: (by: string, life: number) => unknown,
    nextLife: () => number,
    cache: string,
    /** What it says when it is ready, or the beginning of that, how long that may take, and whether its stderr is a log. */
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

  get isThere(): boolean {
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

  /** One that may take long to start has as long to end. */
  get #graceMs(): number {
    return this.#patienceMs ?? GRACE_MS
  }

  /** Tells it to stop; one that does not is killed, and that is held against it. */
  async stop(): Promise<void> {
    const life = this.#life
    if (life === undefined) return
    this.#mayEnd = true
    life.child.kill("SIGTERM")
    const late = setTimeout(() => {
      this.record.faults.push(`${this.record.by} has not ended ${this.#graceMs} ms after SIGTERM`)
      life.child.kill("SIGKILL")
    }, this.#graceMs)
    await life.ended
    clearTimeout(late)
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

  /** Takes the room on disk from it, or gives it back: its files cannot grow past the first byte. */
  async setFull(isFull: boolean): Promise<void> {
    if (this.#life === undefined) return
    await promisify(execFile)("prlimit", ["--pid", String(this.pid), `--fsize=${isFull ? 1 : "unlimited"}:`])
  }
}
