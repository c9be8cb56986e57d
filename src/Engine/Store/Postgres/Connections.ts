/**
 * Tracks the connections of a store, so that they are ended with it. A dead connection that seems alive never answers, so it
 * would keep the store from closing.
 */
import type { Client, ClientConfig, PoolConfig } from "pg"
import type { ScheduleTimeout } from "../../../Execution/Alarm.ts"
import type { Driver } from "./Driver.ts"
import { socketOf } from "./Session.ts"

/** How often to end the connections that were opened in the meantime, milliseconds. */
const AGAIN_MS = 100

export class Connections {
  /** The driver, whose connections are tracked here. */
  readonly driver: Driver
  readonly #open = new Set<Client>()

  constructor({ Client, Pool }: Driver) {
    const open = this.#open
    class OwnClient extends Client {
      constructor(config: ClientConfig) {
        super(config)
        open.add(this)
        // An "error" event without a listener ends the process, and the pool listens only while a connection is idle. The user of
        // a connection learns of the error from the current query, or from the next one.
        this.on("error", () => {})
        this.once("end", () => open.delete(this))
      }
    }
    class OwnPool extends Pool {
      constructor(config: PoolConfig) {
        super({ ...config, Client: OwnClient as never })
      }
    }
    this.driver = { Client: OwnClient, Pool: OwnPool }
  }

  /** Ends all connections after `ms` milliseconds, and then also those that are opened later. */
  endAfter(ms: number, after: ScheduleTimeout): void {
    after(ms, () => {
      for (const client of this.#open) socketOf(client).destroy()
      this.endAfter(AGAIN_MS, after)
    })
  }
}
