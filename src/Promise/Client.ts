/** The client of the Promise face: emit events, look at runs, steer them. */
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Client, type ClientApi, clientMethods, type EffectKind, type PromiseKind } from "../Client/Client.ts"
import { checkName } from "../Limits.ts"
import { connectionOf, type EngineHandle } from "./Connection.ts"
import { promisify, type Rim } from "./Promisify.ts"

export interface IronflowClientConfig {
  /** The engine to talk to: what `startEngine()` resolves to. */
  readonly engine: EngineHandle
  /** The environment to work in; that of the engine by default. */
  readonly environment?: string
}

/**
 * Talks to an engine. Every method rejects with our error classes; one that takes options takes a `signal` among them,
 * whose abort rejects the call with the signal's reason. After `close()` calls reject with code `CLOSED`.
 */
// oxlint-disable-next-line typescript/no-unsafe-declaration-merging -- the constructor assigns all of them
export interface IronflowClient extends ClientApi<PromiseKind> {}

export class IronflowClient implements AsyncDisposable {
  readonly #rim: Rim<Client, never>
  readonly #forget: () => void

  /** Throws `ValidationError` when the configuration is not acceptable. */
  constructor(config: IronflowClientConfig) {
    const connection = connectionOf("createClient()", config?.engine)
    const environment = checkName("environment", config.environment ?? connection.environment)
    this.#rim = {
      runtime: ManagedRuntime.make(connection.client(environment)),
      what: "client",
      isClosed: false
    }
    this.#forget = connection.onClose("client", () => this.close())
    Object.assign(
      this,
      promisify<ClientApi<PromiseKind>, ClientApi<EffectKind>, Client, never>(
        this.#rim,
        Client,
        clientMethods
      )
    )
  }

  /** Rejects the calls in flight with code `CLOSED`, and all later ones. Closing again does nothing. */
  async close(): Promise<void> {
    this.#rim.isClosed = true
    this.#forget()
    await this.#rim.runtime.dispose()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** A client of an engine in this process. Throws `ValidationError` when the configuration is not acceptable. */
export const createClient = (config: IronflowClientConfig): IronflowClient => new IronflowClient(config)
