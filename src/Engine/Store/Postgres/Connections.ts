/**
 * The connections of a store, which end with it. One that is dead and seems to be there would keep it from ending: nobody says that
 * its answer will not come.
 */
import type { Client, ClientConfig, PoolConfig } from "pg"
import type { After } from "../../../Execution/Alarm.ts"
import type { Driver } from "./Driver.ts"
import { socketOf } from "./Session.ts"

/** How often what was opened meanwhile is ended, milliseconds. */
const AGAIN_MS = 100

export class Connections {
  /** Makes connections that belong to these. */
  readonly driver: Driver
  readonly #open = new Set<Client>()

  constructor({ Client, Pool }: Driver) {
    const open = this.#open
    class OwnClient extends Client {
      constructor(config: ClientConfig) {
        super(config)
        open.add(this)
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

  /** Ends what is open after some time, and what is opened then. */
  endAfter(ms: number, after: After): void {
    after(ms, () => {
      for (const client of this.#open) socketOf(client).destroy()
      this.endAfter(AGAIN_MS, after)
    })
  }
}
