/** How clients and workers of the Promise face reach an engine in the same process, without loading it. */
import type * as Layer from "effect/Layer"
import type { ClientServices } from "../Client/Services.ts"
import type { ReadingOptions } from "../Client/Streams.ts"
import { ValidationError } from "../Errors.ts"
import type { Wire } from "../Protocol/Subscriptions.ts"
import type { WorkerTransport } from "../Protocol/Worker.ts"

/** What an engine offers to the clients and workers of its process. */
export interface EngineConnection {
  /** The environment of clients and workers that name none. */
  readonly environment: string
  readonly client: (environment: string, options?: ReadingOptions) => Layer.Layer<ClientServices>
  /** A new connection for subscriptions in an environment. */
  readonly wire: (environment: string) => Wire
  readonly transport: Layer.Layer<WorkerTransport>
  /**
   * Calls `close` when the engine closes: first for all workers, whose handlers may still use clients, then for all
   * clients, then the database closes. Returns how to take that back.
   */
  readonly onClose: (who: "worker" | "client", close: () => Promise<void>) => () => void
}

/** An engine as `createClient` and `createWorker` take it: what `startEngine()` resolves to. */
export interface EngineHandle {
  /** How clients and workers of this process reach the engine. */
  readonly connection: EngineConnection
}

/** The connection of the `engine` option. Throws `ValidationError` when there is none. */
export const connectionOf = (caller: string, engine: EngineHandle | undefined): EngineConnection => {
  if (engine?.connection === undefined) {
    throw new ValidationError(
      `${caller} needs an engine: pass \`engine\`, which is what startEngine() from "@ironflow/node/engine" resolves to`
    )
  }
  return engine.connection
}
