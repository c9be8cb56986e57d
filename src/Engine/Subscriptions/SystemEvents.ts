/**
 * System events: what happens to runs, steps, functions, secrets and workers. They are announced to those who listen, and the
 * last of them are remembered for replay; they are not stored, and an engine that starts remembers none.
 *
 * {@link SystemEvents.announce} is the one place where an area of the engine says that something has happened.
 */
import type { RunActivity } from "../Store/Activity.ts"
import type { Outcome } from "../../Protocol/Worker.ts"
import { decodeJson } from "../../Json.ts"

export interface SystemEvent {
  /** One more with every event of the engine. */
  readonly sequence: number
  readonly id: string
  readonly topic: string
  /** JSON text, put together when somebody reads it. */
  readonly data: string
  readonly length: number
  /** Epoch milliseconds. */
  readonly timestamp: number
}

/** Events that are remembered in each environment, and characters of all their data. */
const REMEMBERED = 1000
const REMEMBERED_LENGTH = 8 * 1024 * 1024

interface Memory {
  events: Array<SystemEvent>
  length: number
  readonly listeners: Set<(event: SystemEvent) => void>
}

export class SystemEvents {
  /** Tells the events of this engine from those of one before it. */
  readonly epoch: string
  readonly #now: () => number
  readonly #memories = new Map<string, Memory>()
  #sequence = 0

  constructor(now: () => number) {
    this.#now = now
    this.epoch = now().toString(36)
  }

  /** The newest sequence. */
  get end(): number {
    return this.#sequence
  }

  /**
   * Says that something has happened. `topic` begins with `system.`; what `data` returns becomes JSON, if anybody reads it.
   * `length` is about how long that is.
   */
  announce(environment: string, topic: string, data: () => Fields, length = 256): void {
    this.#remember(environment, this.#now(), { topic, data }, length)
  }

  /** What is remembered after a sequence, oldest first. */
  after(environment: string, sequence: number): ReadonlyArray<SystemEvent> {
    const { events } = this.#memory(environment)
    const first = events.findIndex((event) => event.sequence > sequence)
    return first === -1 ? [] : events.slice(first)
  }

  /** The sequence after which everything is remembered. */
  knownAfter(environment: string): number {
    const memory = this.#memories.get(environment)
    return memory === undefined || memory.events.length === 0
      ? this.#forgotten(memory)
      : memory.events[0]!.sequence - 1
  }

  listen(environment: string, listener: (event: SystemEvent) => void): () => void {
    const { listeners } = this.#memory(environment)
    listeners.add(listener)
    return () => void listeners.delete(listener)
  }

  /** Announces what happened to runs. */
  announceRuns(activity: ReadonlyArray<RunActivity>): void {
    const now = this.#now()
    for (const one of activity) {
      const outcome = "outcome" in one && one.outcome._tag === "Success" ? one.outcome.value : undefined
      this.#remember(one.environment, now, one, 256 + (outcome?.length ?? 0))
    }
  }

  #remember(environment: string, now: number, what: Announcement | RunActivity, length: number): void {
    const memory = this.#memory(environment)
    const event = new Remembered(this.epoch, ++this.#sequence, now, what, length)
    memory.events.push(event)
    memory.length += length
    if (memory.events.length > 2 * REMEMBERED || memory.length > REMEMBERED_LENGTH) forget(memory)
    for (const listener of memory.listeners) listener(event)
  }

  /** Nothing is remembered because nothing has happened, or because one event was too large to keep. */
  #forgotten(memory: Memory | undefined): number {
    return memory === undefined ? 0 : this.#sequence
  }

  #memory(environment: string): Memory {
    let memory = this.#memories.get(environment)
    if (memory === undefined) {
      this.#memories.set(environment, (memory = { events: [], length: 0, listeners: new Set() }))
    }
    return memory
  }
}

const forget = (memory: Memory): void => {
  let first = Math.max(0, memory.events.length - REMEMBERED)
  const lengthOf = (events: ReadonlyArray<SystemEvent>) => events.reduce((sum, { length }) => sum + length, 0)
  let length = lengthOf(memory.events.slice(first))
  while (length > REMEMBERED_LENGTH / 2 && first < memory.events.length) {
    length -= memory.events[first++]!.length
  }
  memory.events = memory.events.slice(first)
  memory.length = length
}

type Fields = { readonly [name: string]: unknown }

interface Announcement {
  readonly topic: string
  readonly data: () => Fields
}

/** Every run makes some of these and hardly anybody reads them: what can be made of what happened is made when it is read. */
class Remembered implements SystemEvent {
  readonly sequence: number
  readonly timestamp: number
  readonly length: number
  readonly epoch: string
  readonly what: Announcement | RunActivity
  #data: string | undefined

  constructor(
    epoch: string,
    sequence: number,
    timestamp: number,
    what: Announcement | RunActivity,
    length: number
  ) {
    this.epoch = epoch
    this.sequence = sequence
    this.timestamp = timestamp
    this.what = what
    this.length = length
  }

  get id(): string {
    return `sys_${this.epoch}_${this.sequence}`
  }

  get topic(): string {
    const { what } = this
    return "topic" in what ? what.topic : `system.run.${what.runId}.${describe(what)[0]}`
  }

  get data(): string {
    const { what } = this
    return (this.#data ??= JSON.stringify(
      "topic" in what ? what.data() : { id: what.runId, functionId: what.functionId, ...describe(what)[1]() }
    ))
  }
}

const describe = (one: RunActivity): readonly [string, () => Fields] => {
  switch (one._tag) {
    case "RunStarted":
      return ["created", () => ({ status: "pending" })]
    case "RunEnded":
      return [one.status, () => ({ status: one.status, ...result(one.outcome) })]
    case "RunFailed":
      return ["updated", () => ({ status: "pending", ...result({ _tag: "Failure", error: one.error }) })]
    case "RunPaused":
      return ["updated", () => ({ status: "paused", reason: one.message })]
    case "RunResumed":
      return ["resumed", () => ({ status: "pending" })]
    case "RunRetried":
      return ["updated", () => ({ status: "pending" })]
    case "StepEnded":
      return step(one.name, one.outcome._tag === "Success" ? "completed" : "failed", () =>
        result(one.outcome)
      )
    case "StepFailed":
      return step(one.name, "retrying", () => result({ _tag: "Failure", error: one.error }))
    case "StepPatched":
      return step(one.name, "patched", () => ({ reason: one.reason }))
  }
}

const step = (name: string, what: string, data: () => Fields) =>
  [`step.${name}.${what}`, () => ({ name, status: what, ...data() })] as const

const result = (outcome: Outcome): Fields => {
  if (outcome._tag === "Success") {
    return outcome.value === undefined ? {} : { output: decodeJson(outcome.value) }
  }
  const { code, message } = outcome.error
  return { error: { message, ...(code === undefined ? {} : { code }) } }
}
