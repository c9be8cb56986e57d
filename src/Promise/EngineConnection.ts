/**
 * How clients and workers of the Promise API reach an engine of the same process. Importing this does not
 * load the engine's code.
 */
import type * as Layer from "effect/Layer"
import type { ClientServices } from "../Client/Services.ts"
import type { ReadingOptions } from "../Client/Streams.ts"
import { ValidationError } from "../Errors.ts"
import type { Wire } from "../Protocol/Subscriptions.ts"
import type { WorkerTransport } from "../Protocol/Worker.ts"

/** What an engine offers to the clients and workers of its process. */
export interface EngineConnection {
  /** The environment of clients and workers that do not configure one. */
  readonly environment: string
  /** The services of a client in an environment. */
  readonly client: (environment: string, options?: ReadingOptions) => Layer.Layer<ClientServices>
  /** Opens a new connection for subscriptions in an environment. */
  readonly wire: (environment: string) => Wire
  /** The transport of the workers. */
  readonly transport: Layer.Layer<WorkerTransport>
  /**
   * Registers `close`, which is called when the engine closes. All workers are closed first, since their
   * handlers may still use clients; then all clients, and then the database. Returns a function that removes
   * `close` again.
   */
  readonly onClose: (who: "worker" | "client", close: () => Promise<void>) => () => void
}

/** An engine in the form that `startEngine()` resolves to, and that `createClient` and `createWorker` accept. */
export interface EngineHandle {
  /** How clients and workers of this process reach the engine. */
  readonly connection: EngineConnection
}

/** Returns the connection of the `engine` option. Throws `ValidationError` when there is none. */
export const connectionOf = (caller: string, engine: EngineHandle | undefined): EngineConnection => {
  if (engine?.connection === undefined) {
    throw new ValidationError(
      `${caller} needs an engine: pass \`engine\`, which is what startEngine() from "@ironflow/node/engine" resolves to`
    )
  }
  return engine.connection
}
