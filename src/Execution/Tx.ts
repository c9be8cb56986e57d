/** What the body of a `step.tx` collects: writes that are carried out together with the step, or not at all. */
import {
  type AppendAllInput,
  type AppendEventInput,
  checkAppend,
  checkAppendOne,
  checkStreamEvent,
  type NewStreamEvent,
  sizeOf,
  type StreamAppend
} from "../EntityStream.ts"
import { InvalidStateError, IronflowError, LimitExceededError } from "../Errors.ts"
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
    append: (entityId: string, input: AppendEventInput, options?: TxAppendOptions): void =>
      this.#append(checkAppendOne(entityId, input, options)),
    appendAll: (entityId: string, input: AppendAllInput, options?: TxAppendAllOptions): void =>
      this.#append(checkAppend(entityId, input, options))
  }

  emit(name: string, data?: unknown, options: TxEmitOptions = {}): void {
    const event = checkStreamEvent({ ...options, name, data })
    this.#add({ _tag: "emit", ...event }, [event])
  }

  #append({ idempotencyKey: _, ...append }: StreamAppend): void {
    // the step's own place in the journal is what makes its writes happen once
    this.#add({ _tag: "append", ...append }, append.events)
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
    const count = this.#events + events.length
    const bytes = events.reduce((total, event) => total + sizeOf(event), this.#bytes)
    const what = `The transaction of step "${this.#stepName}"`
    if (count > writesAtOnce) throw new LimitExceededError(what, count, writesAtOnce, "writes")
    if (bytes > writeBytes) throw new LimitExceededError(what, bytes, writeBytes, "bytes")
    this.#events = count
    this.#bytes = bytes
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
