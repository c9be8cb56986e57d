/**
 * Tracks the connections of a store, so that all of them can be ended when the store closes. Otherwise a connection that is dead
 * without an error would keep the store from closing, since it never answers.
 */
import type { Client, ClientConfig, PoolConfig } from "pg"
import type { ScheduleTimeout } from "../../../Execution/Alarm.ts"
import type { Driver } from "./Driver.ts"
import { socketOf } from "./Session.ts"

/** While the store closes, open connections are ended again and again after this delay: some may still be opened meanwhile. */
const AGAIN_MS = 100

export class Connections {
  /** A driver whose connections are tracked here. */
  readonly driver: Driver
  readonly #openClients = new Set<Client>()

  constructor({ Client, Pool }: Driver) {
    const openClients = this.#openClients
    class TrackedClient extends Client {
      constructor(config: ClientConfig) {
        super(config)
        openClients.add(this)
        // An "error" event without a listener ends the process, and the pool listens only while a connection is idle. The code
        // that uses a connection learns of the error from its current query, or from its next query.
        this.on("error", () => {})
        this.once("end", () => openClients.delete(this))
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
  endAfter(ms: number, scheduleTimeout: ScheduleTimeout): void {
    scheduleTimeout(ms, () => {
      for (const client of this.#openClients) socketOf(client).destroy()
      this.endAfter(AGAIN_MS, scheduleTimeout)
    })
  }
}
