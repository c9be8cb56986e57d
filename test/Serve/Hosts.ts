/** The transports between a function and an engine, for suites that run on each of them. */
import http from "node:http"
import type { AddressInfo } from "node:net"
import {
  createWorker,
  type EventDefinitionRegistry,
  type IronflowClient,
  type RunnableFunction,
  serve
} from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"

export interface HostOptions {
  readonly eventDefinitions?: EventDefinitionRegistry
  readonly masterKey?: string
}

/** An engine with functions that run somewhere. */
export interface Host extends AsyncDisposable {
  readonly engine: IronflowEngine
  readonly client: IronflowClient
}

/** Starts an engine and runs the functions for it. */
export type StartHost = (functions: ReadonlyArray<RunnableFunction>, options?: HostOptions) => Promise<Host>

export const SIGNING_KEY = "key-of-the-tests"

/** A server on loopback. */
export const listen = async (
  listener: (request: http.IncomingMessage, response: http.ServerResponse) => unknown,
  port = 0
): Promise<{ readonly url: string; readonly close: () => Promise<void> }> => {
  const server = http.createServer((request, response) => void listener(request, response))
  await new Promise<void>((resolve) => void server.listen(port, "127.0.0.1", resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
  }
}

export const registerEndpoint = async (engine: IronflowEngine, url: string): Promise<Response> =>
  fetch(`${engine.url}/api/v1/push/endpoints`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ url })
  })

const engineFor = (options: HostOptions, filename = ":memory:"): Promise<IronflowEngine> =>
  startEngine({
    filename,
    logger: false,
    listen: { port: 0 },
    push: { allowPrivateNetworks: true, signingKey: SIGNING_KEY },
    ...(options.masterKey === undefined ? {} : { masterKey: options.masterKey })
  })

const memory: StartHost = async (functions, options = {}) => {
  const engine = await engineFor(options)
  const worker = engine.createWorker({ functions, logger: false, ...workerOptions(options) })
  worker.start().catch(() => undefined)
  await worker.ready()
  return { engine, client: engine.client, [Symbol.asyncDispose]: () => engine.close() }
}

const polling: StartHost = async (functions, options = {}) => {
  const engine = await engineFor(options)
  const worker = createWorker({ serverUrl: engine.url, functions, logger: false, ...workerOptions(options) })
  worker.start().catch(() => undefined)
  await worker.ready()
  return {
    engine,
    client: engine.client,
    [Symbol.asyncDispose]: async () => {
      await worker.stop()
      await engine.close()
    }
  }
}

const workerOptions = ({ eventDefinitions }: HostOptions) =>
  eventDefinitions === undefined ? {} : { eventDefinitions }

const pushed =
  (reports: boolean): StartHost =>
  async (functions, options = {}) => {
    const engine = await engineFor(options)
    const handler = serve({
      functions,
      signingKey: SIGNING_KEY,
      logger: false,
      eventDefinitions: options.eventDefinitions,
      ...(reports ? { serverUrl: engine.url } : {})
    })
    const server = await listen(handler)
    const registered = await registerEndpoint(engine, `${server.url}/api/ironflow`)
    if (registered.status !== 200) throw new Error(await registered.text())
    return {
      engine,
      client: engine.client,
      [Symbol.asyncDispose]: async () => {
        await engine.close()
        await server.close()
      }
    }
  }

/** The hosts that run whole turns. */
export const hosts: { readonly [name: string]: StartHost } = {
  memory,
  polling,
  "push, reporting with the response": pushed(false),
  "push, reporting at once": pushed(true)
}

/** A handler that the engine treats as one of another package, because it does not answer `describe`. */
export const pushedAsExisting: StartHost = async (functions, options = {}) => {
  const engine = await engineFor(options)
  const handler = serve({
    functions,
    signingKey: SIGNING_KEY,
    logger: false,
    eventDefinitions: options.eventDefinitions,
    serverUrl: engine.url
  })
  const server = await listen(async (request, response) => {
    const chunks: Array<Buffer> = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks)
    if (body.includes('"describe"')) {
      response.writeHead(400).end('{"error":{"message":"not a push request","code":"VALIDATION_ERROR"}}')
      return
    }
    await handler(Object.assign(request, { body }), response)
  })
  for (const { config } of functions) {
    const registered = await fetch(`${engine.url}/ironflow.v1.IronflowService/RegisterFunction`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        id: config.id,
        triggers: config.triggers,
        retry: config.retry,
        concurrency: config.concurrency,
        secrets: config.secrets,
        endpointUrl: `${server.url}/api/ironflow`,
        preferredMode: "EXECUTION_MODE_PUSH"
      })
    })
    if (registered.status !== 200) throw new Error(await registered.text())
  }
  return {
    engine,
    client: engine.client,
    [Symbol.asyncDispose]: async () => {
      await engine.close()
      await server.close()
    }
  }
}
