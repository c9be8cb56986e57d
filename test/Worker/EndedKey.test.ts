/** A worker whose API key ends or loses rights while it works: its log and its turns. */
import { createFunction, UnauthenticatedError, UnauthorizedError } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { createStreamingWorker } from "@ironflow/node/worker-streaming"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { createDeferred } from "../../src/Deferred.ts"
import { createWorker, type ServerWorkerConfig } from "../../src/Promise/Worker.ts"

/** How long it may take until the worker reports the problem. By then a poll was answered. */
const WITHIN_MS = 10_000

/** The lifetime of the key. Within it the worker must connect and begin its step. */
const EXPIRES_S = 8

let engine: IronflowEngine
beforeAll(async () => {
  engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
  // as long as there is no key, every caller may do everything
  await engine.client.apiKeys.create({ name: "operator" })
})
afterAll(() => engine.close())

/** Makes a key with a role of its own, and the functions that end it. */
const makeKey = async (name: string, expires_in?: string) => {
  const { orgs, policies, roles } = engine.client
  const org = await orgs.create({ name })
  const policy = await policies.create({
    name,
    effect: "allow",
    actions: "*",
    resources: "*",
    org_id: org.id
  })
  const role = await roles.create({ name, org_id: org.id })
  await roles.assignPolicy(role.id, policy.id)
  const key = await engine.client.apiKeys.create({
    name,
    role_ids: [role.id],
    ...(expires_in === undefined ? {} : { expires_in })
  })
  return { ...key, roleId: role.id, policyId: policy.id }
}

type Key = Awaited<ReturnType<typeof makeKey>>

interface Ending {
  readonly how: string
  readonly end: (key: Key) => unknown
  readonly expected: typeof UnauthenticatedError | typeof UnauthorizedError
  readonly expiresIn?: string
}

const endings: ReadonlyArray<Ending> = [
  {
    how: "is deleted",
    end: ({ id }) => engine.client.apiKeys.delete(id),
    expected: UnauthenticatedError
  },
  {
    how: "is rotated",
    end: ({ id }) => engine.client.apiKeys.rotate(id),
    expected: UnauthenticatedError
  },
  { how: "expires", end: () => undefined, expected: UnauthenticatedError, expiresIn: `${EXPIRES_S}s` },
  {
    how: "has lost the right to run workers",
    end: ({ policyId, roleId }) => engine.client.roles.removePolicy(roleId, policyId),
    expected: UnauthorizedError
  }
]

describe.concurrent.each([
  ["polling", createWorker],
  ["rpc", (config: ServerWorkerConfig) => createWorker({ ...config, transport: "streaming" })],
  ["connect", createStreamingWorker]
] as const)("over %s", (transport, create) => {
  it.each(endings)(
    "a worker whose key $how stops in the middle of a step, and says why",
    async ({ end, expected, expiresIn, how }) => {
      const name = `${transport}.${how.replaceAll(" ", ".")}`
      const key = await makeKey(name, expiresIn)
      const started = createDeferred<AbortSignal>()
      const fn = createFunction({ id: name, triggers: [{ event: name }] }, async ({ step }) =>
        step.run("pack", ({ signal }) => {
          started.resolve(signal)
          return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))
        })
      )
      const errors: Array<string> = []
      const silent = () => undefined
      const worker = create({
        serverUrl: engine.url!,
        apiKey: key.secret,
        functions: [fn],
        reconnectDelay: 50,
        logger: { debug: silent, info: silent, warn: silent, error: (message) => errors.push(message) }
      })
      const working = worker.start().then(
        () => undefined,
        (error: unknown) => error
      )
      await worker.ready()
      await engine.client.emit(name, {})
      const signal = await started.promise

      const endedAt = performance.now()
      await end(key)
      const error = await working

      expect(error).toBeInstanceOf(expected)
      expect(performance.now() - endedAt).toBeLessThan(
        WITHIN_MS + (expiresIn === undefined ? 0 : EXPIRES_S * 1000)
      )
      expect(worker.connection).toBe("stopped")
      expect(signal.aborted).toBe(true)
      expect(errors.join("\n")).toMatch(/^Worker .* stops: .*API key/m)
    }
  )
})
