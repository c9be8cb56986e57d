/** What the body of a `step.tx` collects: writes that are carried out together with the step, or not at all. */
import {
  type AppendAllInput,
  type AppendEventInput,
  checkAppend,
  checkStreamEvent,
  type NewStreamEvent,
  sizeOf
} from "../EntityStream.ts"
import { InvalidStateError, IronflowError, LimitExceededError, ValidationError } from "../Errors.ts"
import { isObject } from "../Json.ts"
import { writeBytes, writesAtOnce } from "../Limits.ts"
import type { TxWrite } from "../Protocol/Worker.ts"
import type { Tx, TxAppendAllOptions, TxAppendOptions, TxEmitOptions } from "../Step.ts"
import type { TurnMachine } from "./TurnMachine.ts"

export class TxCollector implements Tx {
  readonly #stepName: string
  readonly #writes: Array<TxWrite> = []
  #events = 0
  #bytes = 0
  #open = true

  constructor(stepName: string) {
    this.#stepName = stepName
  }

  readonly streams = {
    append: (entityId: string, input: AppendEventInput, options: TxAppendOptions = {}): void => {
      const { expectedVersion, metadata, version } = options
      if (!isObject(input)) {
        throw new ValidationError(
          `What is appended to stream "${String(entityId)}" must be an object, got ${String(input)}`
        )
      }
      const { data, entityType, name } = input
      const event = { name, data, ...defined({ version, metadata }) }
      this.streams.appendAll(entityId, { entityType, events: [event] }, defined({ expectedVersion }))
    },
    appendAll: (entityId: string, input: AppendAllInput, options: TxAppendAllOptions = {}): void => {
      const { expectedVersion } = options
      const append = checkAppend(entityId, input, defined({ expectedVersion }))
      this.#add({ _tag: "append", ...append }, append.events)
    }
  }

  emit(name: string, data?: unknown, options: TxEmitOptions = {}): void {
    const { metadata, version } = options
    const event = checkStreamEvent({ name, data, ...defined({ version, metadata }) })
    this.#add({ _tag: "emit", ...event }, [event])
  }

  /** The body has ended: what it collected. */
  close(): ReadonlyArray<TxWrite> {
    this.#open = false
    return this.#writes
  }

  #add(write: TxWrite, events: ReadonlyArray<NewStreamEvent>): void {
    if (!this.#open) {
      throw new InvalidStateError(
        `The body of step "${this.#stepName}" has ended: nothing can be added to its transaction any more. ` +
          "Await what the body starts"
      )
    }
    this.#events += events.length
    for (const event of events) this.#bytes += sizeOf(event)
    const what = `The transaction of step "${this.#stepName}"`
    if (this.#events > writesAtOnce) {
      throw new LimitExceededError(what, this.#events, writesAtOnce, "writes")
    }
    if (this.#bytes > writeBytes) throw new LimitExceededError(what, this.#bytes, writeBytes, "bytes")
    this.#writes.push(write)
  }
}

/** Throws unless the engine behind the turn can store the writes of a step together with the step. */
export const checkTransactions = (turn: TurnMachine, stepName: string): void => {
  if (turn.job.transactions === true) return
  throw new IronflowError(
    `Step "${stepName}" is not possible: the server of this worker does not have \`step.tx\`, and nothing was done. It is an ` +
      "older engine than this package, or another Ironflow server. Write with `step.run` and an idempotency key instead",
    { code: "UNIMPLEMENTED" }
  )
}

/** Leaves out what is `undefined`. */
const defined = <A extends object>(fields: A): { [K in keyof A]?: Exclude<A[K], undefined> } =>
  // what is left has no member that is `undefined`, which is what the type says
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never
