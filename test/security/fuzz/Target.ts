/** The server that the fuzzer attacks, with its keys and valid calls to it. */
import http from "node:http"
import { type Call, callsFor, callNames, type Ids, pathFor } from "../Calls.ts"
import { type CallName, callSpecs } from "../../../src/Protocol/AllCalls.ts"
import { send } from "../../wire/RawClient.ts"
import type { Dice } from "../../durability/Plan.ts"
import { registrationOf } from "../../wire/RawTurnWorker.ts"

export interface Answer {
  readonly status: number
  readonly text: string
}

/** A bug that the fuzzer has found. */
export class Problem extends Error {}

/** An answer of 500 is a bug; 502 is the fault of a push endpoint. */
export const judge = ({ status, text }: Answer): void => {
  const isExpected = [503, 504].includes(status) || (status === 502 && text.includes("ENDPOINT_"))
  if (text.includes("INTERNAL_ERROR") || (status >= 500 && !isExpected)) {
    throw new Problem(`answered with ${status} ${text.slice(0, 500)}`)
  }
}

/** How long to keep a connection on which no answer is expected, in milliseconds. */
export const HELD_MS = 300
/**
 * The limit for a well-formed call that waits for nothing, in milliseconds. The watcher checks the speed, because it knows
 * when the machine is busy.
 */
export const ANSWER_MS = 30_000

/** `garbageUrl` is the push endpoint that answers garbage. */
export interface TargetOptions {
  readonly url: string
  readonly appUrl: string
  readonly garbageUrl: string
  readonly bootstrapKey: string | undefined
}

export class Target {
  readonly url: string
  readonly appUrl: string
  readonly garbageUrl: string
  readonly port: number
  readonly calls: { readonly [Name in CallName]: Call }
  readonly names: ReadonlyArray<CallName>
  readonly #keys: ReadonlyArray<string>
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 32 })

  private constructor(options: TargetOptions, ids: Ids, keys: ReadonlyArray<string>) {
    this.url = options.url
    this.appUrl = options.appUrl
    this.garbageUrl = options.garbageUrl
    this.port = Number(new URL(options.url).port)
    this.calls = callsFor(ids)
    this.#keys = keys
    // the first key would lock out all callers without a key
    this.names = callNames.filter((name) => options.bootstrapKey !== undefined || name !== "createApiKey")
  }

  static async prepare(options: TargetOptions): Promise<Target> {
    const { bootstrapKey, garbageUrl, url } = options
    const ask = async (method: string, path: string, body: object) => {
      const answer = await send(url, method, path, body, {
        "content-type": "application/json",
        ...(bootstrapKey === undefined ? {} : { authorization: `Bearer ${bootstrapKey}` })
      })
      if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`)
      return answer.body
    }
    const registration = registrationOf("worker-0", [{ id: "ship-order", event: "order.placed" }])
    await ask("POST", "/ironflow.v1.IronflowService/RegisterFunction", registration.functions[0]!)
    await ask("POST", "/api/v1/push/endpoints", { url: `${garbageUrl}/good` })
    const emitted = await ask("POST", "/ironflow.v1.IronflowService/Trigger", {
      event: "order.placed",
      data: {}
    })
    const org = await ask("POST", "/api/v1/orgs", { name: "victim" })
    const role = await ask("POST", "/api/v1/roles", { name: "victim" })
    const policy = await ask("POST", "/api/v1/policies", {
      name: "victim",
      effect: "allow",
      actions: "run:read",
      resources: "*"
    })
    const keys: Array<string> = []
    let key = "key_none"
    if (bootstrapKey !== undefined) {
      key = (await ask("POST", "/api/v1/apikeys", { name: "victim" })).id
      for (const name of ["admin", "admin", "developer", "worker", "viewer"]) {
        keys.push(
          (await ask("POST", "/api/v1/apikeys", { name, env_id: "env_default", role_ids: [`role_${name}`] }))
            .key
        )
      }
    }
    const ids = {
      run: emitted.runIds[0],
      event: emitted.eventId,
      key,
      org: org.id,
      role: role.id,
      policy: policy.id
    }
    return new Target(options, ids, keys)
  }

  /** The headers of a sender, mostly with a valid key. */
  headers(dice: Dice): { readonly [name: string]: string } {
    if (this.#keys.length === 0) return dice.between(1, 30) === 1 ? { authorization: "Bearer ifk_none" } : {}
    const n = dice.between(1, 20)
    if (n === 1) return {}
    if (n === 2) return { authorization: "Bearer ifk_wrong" }
    return { authorization: `Bearer ${dice.pick(this.#keys)}` }
  }

  /** The headers of a key with all rights, for inputs of which only the content is odd. */
  get adminHeaders(): Record<string, string> {
    const [admin] = this.#keys
    return admin === undefined ? {} : { authorization: `Bearer ${admin}` }
  }

  /** Sends a well-formed HTTP/1.1 request. With `waits` the answer may come late or never. */
  async call(
    base: string,
    method: string,
    path: string,
    headers: { readonly [name: string]: string },
    body: Buffer | undefined,
    waits: boolean
  ): Promise<Answer | undefined> {
    const limit = waits ? HELD_MS * 4 : ANSWER_MS
    const answer = await new Promise<Answer | undefined | Error>((resolve) => {
      const request = http.request(base + path, {
        method,
        agent: this.#agent,
        headers: {
          "content-type": "application/json",
          ...(body === undefined ? {} : { "content-length": String(body.length) }),
          ...headers
        }
      })
      const timer = setTimeout(() => {
        resolve(waits ? undefined : new Problem(`did not answer within ${limit} ms`))
        request.destroy()
      }, limit)
      request.once("error", () => {
        clearTimeout(timer)
        // the server may close the connection of a request that it refused
        resolve(undefined)
      })
      request.once("response", (response) => {
        let text = ""
        response.setEncoding("utf8").on("data", (chunk: string) => {
          if (text.length < 10_000) text += chunk
        })
        response.once("close", () => {
          clearTimeout(timer)
          resolve({ status: response.statusCode ?? 0, text })
        })
      })
      request.end(body)
    })
    if (answer instanceof Error) throw answer
    if (answer !== undefined) judge(answer)
    return answer
  }

  close(): void {
    this.#agent.destroy()
  }
}

export { callSpecs, pathFor }
