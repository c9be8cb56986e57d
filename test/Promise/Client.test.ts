import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { assert, describe, expectTypeOf, it } from "vitest"
import { namesOf } from "../../src/Client/Methods.ts"
import { Client, type ClientApi, clientMethods, type EffectKind, type Run } from "../../src/Client/Client.ts"
import type { ClientServices } from "../../src/Client/Services.ts"
import { IronflowError, RunNotFoundError, ValidationError } from "../../src/Errors.ts"
import { createClient, IronflowClient, type IronflowClientConfig } from "../../src/Promise/Client.ts"
import type { EngineHandle } from "../../src/Promise/EngineConnection.ts"
import { WorkerTransport } from "../../src/Protocol/Worker.ts"

const notScripted = (name: string) => () => Effect.die(new Error(`${name} is not scripted`))

/** An engine whose answers the test gives. */
const engineAnswering = (answers: Partial<ClientApi<EffectKind>>) => {
  const closers = new Set<() => Promise<void>>()
  const environments: Array<string> = []
  const rest = Object.fromEntries(namesOf(clientMethods).map((name) => [name, notScripted(name)]))
  const handle: EngineHandle = {
    connection: {
      environment: "default",
      client: (environment) => {
        environments.push(environment)
        // every method exists: those without a script fail with that message
        const client = Context.make(Client, { ...rest, ...answers } as ClientApi<EffectKind>)
        // no test uses the services of other areas
        return Layer.succeedContext(client as Context.Context<ClientServices>)
      },
      wire: () => {
        throw new Error("not scripted")
      },
      transport: Layer.succeed(WorkerTransport, { open: notScripted("open") }),
      onClose: (_who, close) => {
        closers.add(close)
        return () => void closers.delete(close)
      }
    }
  }
  return { handle, closers, environments }
}

const rejection = async (promise: Promise<unknown>): Promise<any> => {
  try {
    await promise
  } catch (error) {
    return error
  }
  return assert.fail("expected a rejection")
}

describe("IronflowClient", () => {
  it("has every method of the service, and passes on arguments and results", async () => {
    const { handle } = engineAnswering({
      emit: (name, data, options) =>
        Effect.succeed({ eventId: JSON.stringify([name, data, options]), runIds: ["run-1"] })
    })
    await using client = createClient({ engine: handle })

    for (const name of namesOf(clientMethods)) assert.isFunction(client[name], name)
    assert.instanceOf(client, IronflowClient)
    assert.deepStrictEqual(await client.emit("order.placed", { amount: 3 }, { idempotencyKey: "k" }), {
      eventId: '["order.placed",{"amount":3},{"idempotencyKey":"k"}]',
      runIds: ["run-1"]
    })
    expectTypeOf(client.getRun).returns.toEqualTypeOf<Promise<Run>>()
    expectTypeOf(client.health).returns.toEqualTypeOf<Promise<string>>()
  })

  it("rejects with the same error object as the service, its stack followed by that of the caller", async () => {
    const error = new RunNotFoundError("run-1")
    const { handle } = engineAnswering({ getRun: () => Effect.fail(error) })
    await using client = createClient({ engine: handle })

    const lookUpTheOrder = async () => await client.getRun("run-1")
    const rejected = await rejection(lookUpTheOrder())

    assert.strictEqual(rejected, error)
    const [own, caller] = rejected.stack.split("--- called from ---")
    assert.match(own, /^RunNotFoundError: Run not found: run-1/)
    assert.include(caller, "lookUpTheOrder")
    assert.notInclude(caller, "Promisify")
  })

  it("leaves a frozen error unchanged", async () => {
    const error = Object.freeze(new RunNotFoundError("run-1"))
    const { handle } = engineAnswering({ getRun: () => Effect.fail(error) })
    await using client = createClient({ engine: handle })

    assert.strictEqual(await rejection(client.getRun("run-1")), error)
  })

  it("rejects with a defect of the service unchanged", async () => {
    const bug = new TypeError("undefined is not a run")
    const { handle } = engineAnswering({
      getRun: () =>
        Effect.sync(() => {
          throw bug
        })
    })
    await using client = createClient({ engine: handle })

    assert.strictEqual(await rejection(client.getRun("run-1")), bug)
  })

  it("interrupts a call when its signal aborts, and rejects with the reason of the signal", async () => {
    let interrupted = false
    const { handle } = engineAnswering({
      waitForRun: () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => (interrupted = true)))
    })
    await using client = createClient({ engine: handle })
    const controller = new AbortController()
    const reason = new Error("the customer has left")

    const waiting = rejection(client.waitForRun("run-1", { signal: controller.signal, timeout: 1000 }))
    controller.abort(reason)

    assert.strictEqual(await waiting, reason)
    assert.isTrue(interrupted)
    assert.strictEqual(await rejection(client.waitForRun("run-1", { signal: controller.signal })), reason)
  })

  it("rejects calls in flight and later ones with code CLOSED when it is closed", async () => {
    const { handle, closers } = engineAnswering({
      waitForRun: () => Effect.never,
      health: () => Effect.succeed("ok")
    })
    const client = createClient({ engine: handle })
    assert.strictEqual(await client.health(), "ok")

    const waiting = rejection(client.waitForRun("run-1"))
    await client.close()
    await client.close()

    for (const error of [await waiting, await rejection(client.health())]) {
      assert.instanceOf(error, IronflowError)
      assert.strictEqual(error.code, "CLOSED")
    }
    assert.strictEqual(closers.size, 0)
  })

  it("closes with its engine", async () => {
    const { handle, closers } = engineAnswering({ health: () => Effect.succeed("ok") })
    const client = createClient({ engine: handle })

    for (const close of closers) await close()

    assert.strictEqual((await rejection(client.health())).code, "CLOSED")
  })

  it("uses the environment that it is given, or else that of the engine", () => {
    const { handle, environments } = engineAnswering({})

    createClient({ engine: handle })
    createClient({ engine: handle, environment: "staging" })

    assert.deepStrictEqual(environments, ["default", "staging"])
  })

  it("refuses an `engine` that is not an engine", () => {
    // callers in JavaScript can do this
    const create = () => createClient({ engine: {} } as unknown as IronflowClientConfig)
    assert.throws(
      create,
      ValidationError,
      /pass `engine`, which is what startEngine\(\) from "@ironflow\/node\/engine"/
    )
  })
})
