/**
 * The connections of a store, which are ended with it. A dead connection that seems alive would keep the store from closing: it
 * never answers.
 */
import type { Client, ClientConfig, PoolConfig } from "pg"
import type { ScheduleTimeout } from "../../../Execution/Alarm.ts"
import type { Driver } from "./Driver.ts"
import { socketOf } from "./Session.ts"

/** How often connections that were opened meanwhile are ended, milliseconds. */
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
        // An "error" event without a listener ends the process, and the pool listens only while a connection is idle. Whoever uses the
        // connection learns of the error from the query, or from the next one.
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

  /** After `ms` milliseconds, ends the open connections, and those that are opened later. */
  endAfter(ms: number, after: ScheduleTimeout): void {
    after(ms, () => {
      for (const client of this.#open) socketOf(client).destroy()
      this.endAfter(AGAIN_MS, after)
    })
  }
}
