/** The shop's customer requests the items of a plan in order, each until it is acknowledged. */
import { setTimeout as delay } from "node:timers/promises"
import { ConnectionError, type IronflowClient, StoreError, TimeoutError } from "@ironflow/node"
import type { Item } from "./Plan.ts"

/** Whether an item has to wait for an earlier one. */
const belongsToAnother = (item: Item): boolean =>
  item.op === "cancel" || (item.op === "emit" && item.name === "payment.received")

/** An acknowledgement that the client received. */
export type Ack =
  | {
      readonly op: "emit"
      readonly key: string
      readonly eventId: string
      readonly runIds: ReadonlyArray<string>
    }
  | { readonly op: "publish"; readonly key: string; readonly eventId: string }
  | { readonly op: "cancel"; readonly key: string; readonly statuses: Readonly<Record<string, string>> }

export interface CustomerOptions {
  readonly client: IronflowClient
  /** Runs of the events emitted so far, for cancellations. */
  readonly runIds?: Readonly<Record<string, ReadonlyArray<string>>>
  /** Whether the engine may be unreachable for a while: requests are then repeated. */
  readonly patient: boolean
  /** Stops the repetition of requests. */
  readonly signal?: AbortSignal
  /** Called with each error after which a request is repeated. */
  readonly onError?: (error: unknown) => void
}

export class Customer {
  readonly #options: CustomerOptions
  readonly #emitted: Map<string, ReadonlyArray<string>>

  constructor(options: CustomerOptions) {
    this.#options = options
    this.#emitted = new Map(Object.entries(options.runIds ?? {}))
  }

  /** Requests a few items at a time, so that runs are in many different states at once. */
  async performAll(items: ReadonlyArray<Item>, onAck: (ack: Ack) => void): Promise<void> {
    for (let i = 0; i < items.length; i += 4) {
      const group = items.slice(i, i + 4)
      const perform = async (item: Item) => onAck(await this.#perform(item))
      await Promise.all(group.filter((item) => !belongsToAnother(item)).map(perform))
      await Promise.all(group.filter(belongsToAnother).map(perform))
      await delay(5)
    }
  }

  /** Repeats a request while the engine is unreachable. */
  async persist<A>(ask: () => Promise<A>): Promise<A> {
    const { patient, signal } = this.#options
    for (;;) {
      signal?.throwIfAborted()
      try {
        return await ask()
      } catch (error) {
        const isAway =
          error instanceof ConnectionError ||
          error instanceof TimeoutError ||
          Object(error).status >= 500 ||
          (error instanceof StoreError && error.retryable) ||
          Object(error).code === "CLOSING"
        if (!patient || !isAway) throw error
        this.#options.onError?.(error)
        // several requests wait at a time, while the engine needs the processor to start
        await delay(50)
      }
    }
  }

  async #perform(item: Item): Promise<Ack> {
    const { client } = this.#options
    switch (item.op) {
      case "emit": {
        const { data, key, name } = item
        const { eventId, runIds } = await this.persist(() => client.emit(name, data, { idempotencyKey: key }))
        this.#emitted.set(key, runIds)
        return { op: "emit", key, eventId, runIds }
      }
      case "publish": {
        const { data, key, topic } = item
        const { eventId } = await this.persist(() => client.publish(topic, data, { idempotencyKey: key }))
        return { op: "publish", key, eventId }
      }
      case "cancel": {
        const statuses: Record<string, string> = {}
        for (const runId of this.#emitted.get(item.of) ?? []) {
          const { status } = await this.persist(() => client.cancelRun(runId))
          statuses[runId] = status
        }
        return { op: "cancel", key: item.key, statuses }
      }
    }
  }
}
