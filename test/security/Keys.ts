/** An engine with API keys, and helpers to make keys and roles, to call it, and to open sockets. */
import { once } from "node:events"
import { assert } from "vitest"
import WebSocket from "ws"
import { type Ironflow, start, type StartOptions } from "../wire/Ironflow.ts"
import { type Answer, send as sendRaw } from "../wire/RawClient.ts"

export const BOOTSTRAP = "bootstrap-key-of-the-operator-0123456789"

export interface CallOptions {
  /** The API key. The operator's by default; none if it is empty. */
  readonly key?: string | undefined
  readonly environment?: string
  readonly headers?: Record<string, string>
}

/** A policy of a role. By default it allows, and applies to all resources. */
export interface PolicyOf {
  readonly name?: string
  readonly effect?: "allow" | "deny"
  readonly actions: string
  readonly resources?: string
  readonly condition?: string
}

export interface OpenSocket {
  readonly socket: WebSocket
  // oxlint-disable-next-line typescript/no-explicit-any -- the tests check what the engine sends
  readonly frames: Array<any>
  /** The code with which it was closed. */
  readonly closed: Promise<number>
}

export class Keys implements AsyncDisposable {
  readonly server: Ironflow
  readonly #sockets = new Set<WebSocket>()

  private constructor(server: Ironflow) {
    this.server = server
  }

  static async start(options: StartOptions = {}): Promise<Keys> {
    return new Keys(await start({ bootstrapKey: BOOTSTRAP, ...options }))
  }

  /** Starts an engine without keys. */
  static async open(options: StartOptions = {}): Promise<Keys> {
    return new Keys(await start(options))
  }

  readonly send = (
    method: string,
    path: string,
    body?: unknown,
    { key = BOOTSTRAP, environment, headers }: CallOptions = {}
  ): Promise<Answer> =>
    sendRaw(this.server.url, method, path, body, {
      "content-type": "application/json",
      ...(key === "" ? {} : { authorization: `Bearer ${key}` }),
      ...(environment === undefined ? {} : { "x-ironflow-environment": environment }),
      ...headers
    })

  /** A ConnectRPC call. */
  readonly rpc = (method: string, body: object, options?: CallOptions): Promise<Answer> =>
    this.send("POST", `/ironflow.v1.${method}`, body, options)

  async ok(answer: Promise<Answer>): Promise<Answer["body"]> {
    const { body, status, text } = await answer
    assert.isTrue(status >= 200 && status < 300, `${status} ${text}`)
    return body
  }

  makeKey(input: object = {}, options?: CallOptions): Promise<{ id: string; key: string }> {
    return this.ok(this.send("POST", "/api/v1/apikeys", { name: "test", ...input }, options))
  }

  async makePolicy(policy: PolicyOf): Promise<string> {
    const body = { name: "policy", effect: "allow", resources: "*", ...policy }
    return (await this.ok(this.send("POST", "/api/v1/policies", body))).id
  }

  async makeRole(...policies: ReadonlyArray<PolicyOf>): Promise<string> {
    const { id } = await this.ok(this.send("POST", "/api/v1/roles", { name: "role" }))
    for (const policy of policies) await this.assign(id, await this.makePolicy(policy))
    return id
  }

  async assign(roleId: string, policyId: string): Promise<void> {
    await this.ok(this.send("POST", `/api/v1/roles/${roleId}/policies`, { policy_id: policyId }))
  }

  async remove(roleId: string, policyId: string): Promise<void> {
    await this.ok(this.send("DELETE", `/api/v1/roles/${roleId}/policies/${policyId}`))
  }

  /** A key of the environment `default` whose role has these policies. */
  async keyThat(...policies: ReadonlyArray<PolicyOf>): Promise<string> {
    return (await this.makeKey({ role_ids: [await this.makeRole(...policies)] })).key
  }

  async socket(path: string, key: string): Promise<OpenSocket> {
    const socket = new WebSocket(this.server.url.replace("http", "ws") + path, {
      headers: key === "" ? {} : { authorization: `Bearer ${key}` }
    })
    this.#sockets.add(socket)
    const frames: Array<unknown> = []
    socket.on("message", (data) => frames.push(readText(String(data))))
    const closed = new Promise<number>((resolve) => socket.once("close", resolve))
    await once(socket, "open")
    return { socket, frames, closed }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.terminate()
    await this.server.close()
  }
}

const readText = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
