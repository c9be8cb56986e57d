/** What a `step.tx` writes: all of it in the transaction that stores the step, or nothing. */
import { type IronflowError, serializeError } from "../../Errors.ts"
import type { Outcome, TxWrite, TxWriteResult } from "../../Protocol/Worker.ts"
import { storeEvent } from "./Events.ts"
import { readState, refusalOf, storeAppend, type StreamState } from "./StreamRows.ts"
import type { Transaction } from "./Transaction.ts"

/** Carries out the writes, or says why one of them is refused; then nothing has changed. */
export const transact = (
  tx: Transaction,
  environment: number,
  value: string | undefined,
  writes: ReadonlyArray<TxWrite>
): Outcome => {
  const refused = new Preview(tx, environment).refusalOf(writes)
  if (refused !== undefined) return { _tag: "Failure", error: serializeError(refused, { stack: false }) }
  const results = writes.map((write) => carryOut(tx, environment, write))
  return {
    _tag: "Success",
    value: `{${value === undefined ? "" : `"value":${value},`}"writes":${JSON.stringify(results)}}`
  }
}

const carryOut = (tx: Transaction, environment: number, write: TxWrite): TxWriteResult => {
  const name = tx.environmentName(environment)
  switch (write._tag) {
    case "append": {
      const { _tag, ...append } = write
      const { entityVersion, events, position, warnings } = storeAppend(
        tx,
        name,
        append,
        readState(tx, environment, append.entityId)
      )
      for (const warning of warnings) {
        tx.changes.warnings.push(`An event of stream "${append.entityId}": ${warning}`)
      }
      return { _tag, entityId: append.entityId, entityVersion, position, events }
    }
    case "emit": {
      const { data, metadata, version } = write
      const { eventId, position, runIds, warnings } = storeEvent(tx, {
        environment: name,
        name: write.name,
        version,
        data,
        ...(metadata === undefined ? {} : { metadata })
      })
      for (const warning of warnings) {
        tx.changes.warnings.push(`Event "${write.name}" ${eventId}: ${warning}`)
      }
      return { _tag: write._tag, eventId, position, runIds }
    }
  }
}

/** Goes through the writes without writing: each one sees what those before it would have left. */
class Preview {
  readonly #tx: Transaction
  readonly #environment: number
  readonly #streams = new Map<string, StreamState | undefined>()

  constructor(tx: Transaction, environment: number) {
    this.#tx = tx
    this.#environment = environment
  }

  refusalOf(writes: ReadonlyArray<TxWrite>): IronflowError | undefined {
    for (const write of writes) {
      const refused = this.#refusalOfOne(write)
      if (refused !== undefined) return refused
    }
    return undefined
  }

  #refusalOfOne(write: TxWrite): IronflowError | undefined {
    switch (write._tag) {
      case "append": {
        const { entityId, entityType, events } = write
        const state = this.#streams.has(entityId)
          ? this.#streams.get(entityId)
          : readState(this.#tx, this.#environment, entityId)
        const refused = refusalOf(state, write)
        this.#streams.set(entityId, { entityType, version: (state?.version ?? 0) + events.length })
        return refused
      }
      case "emit":
        // whatever is in the log, an event can be added
        return undefined
    }
  }
}
