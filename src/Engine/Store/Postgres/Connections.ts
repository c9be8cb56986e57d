/**
 * Tracks the connections of a store, so that they are ended with the store. Otherwise a connection that is dead without an error,
 * which never answers, would keep the store from closing.
 */
import type { Client, ClientConfig, PoolConfig } from "pg"
import type { ScheduleTimeout } from "../../../Execution/Alarm.ts"
import type { Driver } from "./Driver.ts"
import { socketOf } from "./Session.ts"

/** How often connections are ended while the store closes: some may still be opened then. */
const AGAIN_MS = 100

export class Connections {
  /** A driver whose connections are tracked here. */
  readonly driver: Driver
  readonly #open = new Set<Client>()

  constructor({ Client, Pool }: Driver) {
    const open = this.#open
    class TrackedClient extends Client {
      constructor(config: ClientConfig) {
        super(config)
        open.add(this)
        // An "error" event without a listener ends the process, and the pool listens only while a connection is idle. The code
        // that uses a connection learns of the error from its current query, or from its next query.
        this.on("error", () => {})
        this.once("end", () => open.delete(this))
      }
    }
    class TrackedPool extends Pool {
      constructor(config: PoolConfig) {
        super({ ...config, Client: TrackedClient as never })
      }
    }
    this.driver = { Client: TrackedClient, Pool: TrackedPool }
  }

  /** Ends all connections after `ms` milliseconds, and then also connections that are opened later. */
  endAfter(ms: number, after: ScheduleTimeout): void {
    after(ms, () => {
      for (const client of this.#open) socketOf(client).destroy()
      this.endAfter(AGAIN_MS, after)
    })
  }
}
