/**
 * Writes the executions of one turn's step bodies into the side log, and keeps the results that the handler has seen.
 */
import { randomUUID } from "node:crypto"
import type { NewLine, SideLog } from "./SideLog.ts"

/** What every step body returns. */
export interface Receipt {
  readonly key: string
  readonly token: string
}

/** The part of a step body's context that is used here. */
export interface Execution {
  readonly attempt: number
  readonly idempotencyKey: string
}

/** An execution that has begun, and the ways to end it. */
export interface Entry extends Receipt {
  readonly end: () => Receipt
  readonly fail: () => void
  readonly abort: () => void
}

export class Diary {
  readonly #log: SideLog
  readonly #run: string
  readonly #fn: string
  #seen: Readonly<Record<string, string>> = {}

  constructor(log: SideLog, run: { readonly id: string; readonly functionId: string }) {
    this.#log = log
    this.#run = run.id
    this.#fn = run.functionId
  }

  /** Everything that the handler has seen. */
  get seen(): Readonly<Record<string, string>> {
    return this.#seen
  }

  /** Notes the result of a step. */
  saw<R extends Receipt>(receipt: R): R {
    this.note(receipt.key, receipt.token)
    return receipt
  }

  note(key: string, value: string): void {
    this.#seen = { ...this.#seen, [key]: value }
  }

  begin({ attempt, idempotencyKey }: Execution): Entry {
    // the key of a step is its id without the run
    const receipt: Receipt = { key: idempotencyKey.slice(this.#run.length + 1), token: randomUUID() }
    const where = { run: this.#run, ...receipt }
    this.#log.append({ t: "begin", fn: this.#fn, attempt, seen: this.#seen, ...where })
    return {
      ...receipt,
      end: () => {
        this.#log.append({ t: "end", ...where })
        return receipt
      },
      fail: () => this.#log.append({ t: "fail", ...where }),
      abort: () => this.#log.append({ t: "abort", ...where })
    }
  }

  throwing(attempt: number): void {
    this.#log.append({ t: "throw", run: this.#run, attempt } satisfies NewLine)
  }
}
