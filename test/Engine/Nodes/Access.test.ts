/** A change of access at one engine applies at the others on the same database. */
import { type ClientHttp2Session, connect, constants } from "node:http2"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { ApiKeys } from "../../../src/Client/ApiKeys.ts"
import { Policies } from "../../../src/Client/Policies.ts"
import { Roles } from "../../../src/Client/Roles.ts"
import * as Access from "../../../src/Engine/Access/Access.ts"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
import { BootstrapKey } from "../../../src/Engine/Access/BootstrapKey.ts"
import { DEFAULT_ORG } from "../../../src/Engine/Access/BuiltIn.ts"
import { type IronflowError, UnauthenticatedError } from "../../../src/Errors.ts"
import { workerStream } from "../../../src/Protocol/Workers.ts"
import { startProxy } from "../../postgres/Proxy.ts"
import { takeSchema } from "../../postgres/Schemas.ts"
import {
  environment,
  loseNotifications,
  type Node,
  openNode,
  until,
  withAndWithoutNotifications
} from "./Cluster.ts"

const createKey = (node: Node, name: string, roleIds?: ReadonlyArray<string>) =>
  Context.get(node.services, ApiKeys).create({
    name,
    ...(roleIds === undefined ? {} : { role_ids: roleIds })
  })

/** The code with which an engine refuses a key, or a caller without one. `none` when it accepts. */
const refusal = (node: Node, key?: string): Effect.Effect<string> =>
  Effect.sync(() => {
    try {
      node.engine.access.authenticate(key)
      return "none"
    } catch (error) {
      return (error as IronflowError).code
    }
  })

/** Waits until an engine requires keys and knows this one. */
const knows = (node: Node, key: string) =>
  Effect.andThen(
    until(refusal(node), (code) => code === "UNAUTHENTICATED"),
    until(refusal(node, key), (code) => code === "none")
  )

/** The status of a call that the engine answers from its memory. */
const statusAt = (port: number, key: string) =>
  Effect.promise(async () => {
    const response = await fetch(`http://127.0.0.1:${port}/openapi.json`, {
      headers: { authorization: `Bearer ${key}` }
    })
    await response.body?.cancel()
    return response.status
  })

const live = (name: string, test: Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.scoped(test))

/** An engine, and a proxy through which another one on the same schema can be cut off. */
const withProxy = Effect.gen(function* () {
  const options = yield* takeSchema
  const proxy = yield* Effect.acquireRelease(
    Effect.promise(() => startProxy(options.url)),
    ({ close }) => Effect.promise(close)
  )
  const a = yield* openNode(options)
  yield* createKey(a, "admin")
  return { a, proxy, proxied: { ...options, url: proxy.url } }
})

/** An HTTP/2 connection. */
const connectTo = (port: number) =>
  Effect.acquireRelease(
    Effect.sync(() => connect(`http://127.0.0.1:${port}`)),
    (session) => Effect.sync(() => session.destroy())
  )

/** Waits until the server has handled all frames that were sent before. */
const handledBy = (session: ClientHttp2Session) =>
  Effect.promise(() => new Promise((resolve) => void session.ping(resolve)))

describe("an engine", () => {
  live(
    "that was cut off does not accept a key that was deleted at another engine meanwhile",
    Effect.gen(function* () {
      const { a, proxied, proxy } = yield* withProxy
      const b = yield* openNode(proxied)
      const port = yield* b.listen(10_000)
      const { id, key } = yield* createKey(a, "shop")
      assert.strictEqual(yield* statusAt(port, key), 200, "a new key counts at once")
      proxy.freeze()
      yield* Context.get(a.services, ApiKeys).delete(id)
      yield* until(
        Effect.sync(() => b.engine.access.freshness?.needsRefresh()),
        (needsRefresh) => needsRefresh === true
      )
      const status = yield* Effect.forkChild(statusAt(port, key))
      proxy.thaw()
      assert.strictEqual(yield* Fiber.join(status), 401)
    })
  )

  live(
    "that was cut off ends what a deleted key has open before it announces the commits that it missed",
    Effect.gen(function* () {
      const { a, proxied, proxy } = yield* withProxy
      const store = yield* PostgresStore.make({ ...proxied, poolSize: 4 }, "shared")
      const access = yield* Access.make(store)
      const { id, key } = yield* createKey(a, "shop")
      yield* until(
        Effect.sync(() => access.knowsSecret(key)),
        (knows) => knows
      )
      const caller = access.authenticate(key)
      proxy.freeze()
      yield* Context.get(a.services, ApiKeys).delete(id)
      yield* a.client.emit("order.placed", {})
      yield* until(
        Effect.sync(() => access.freshness?.needsRefresh()),
        (needsRefresh) => needsRefresh === true
      )
      const wasEnded: Array<boolean> = []
      yield* Effect.acquireRelease(
        Effect.sync(() => store.onCommit(() => void wasEnded.push(caller.isEnded))),
        (stop) => Effect.sync(stop)
      )
      proxy.thaw()
      yield* until(
        Effect.sync(() => wasEnded.length),
        (told) => told > 0
      )
      assert.notInclude(wasEnded, false)
    })
  )

  live(
    "that was cut off forgets a worker that hangs up before its key can be checked",
    Effect.suspend(() => {
      const logged: Array<string> = []
      return Effect.gen(function* () {
        const { a, proxied, proxy } = yield* withProxy
        const b = yield* openNode(proxied)
        const port = yield* b.listen(10_000)
        const { key } = yield* createKey(a, "shop")
        assert.strictEqual(yield* statusAt(port, key), 200)
        const session = yield* connectTo(port)
        proxy.freeze()
        yield* until(
          Effect.sync(() => b.engine.access.freshness?.needsRefresh()),
          (needsRefresh) => needsRefresh === true
        )

        const stream = session.request({
          ":method": workerStream.method,
          ":path": workerStream.path,
          "content-type": "application/connect+proto",
          authorization: `Bearer ${key}`
        })
        yield* handledBy(session)
        stream.close(constants.NGHTTP2_CANCEL)
        yield* handledBy(session)
        proxy.thaw()

        assert.strictEqual(yield* statusAt(port, key), 200)
        assert.deepStrictEqual(
          logged.filter((line) => line.includes("because of a bug")),
          []
        )
      }).pipe(Effect.provide(Logger.layer([Logger.make(({ message }) => void logged.push(String(message)))])))
    })
  )

  live(
    "that starts after another one has stored the bootstrap key requires it from its start",
    Effect.gen(function* () {
      const options = yield* takeSchema
      const a = yield* openNode(options)
      const b = yield* openNode(options)
      yield* loseNotifications(options)
      yield* a.listen(10_000)
      yield* b.listen(10_000)
      assert.isTrue(b.engine.access.needsKey)
    }).pipe(Effect.provideService(BootstrapKey, Redacted.make("k".repeat(40))))
  )

  withAndWithoutNotifications(
    "that was started before the first key was made requires keys once another engine has made it",
    (a, b) =>
      Effect.gen(function* () {
        const anybody = b.engine.access.authenticate(undefined)
        const open = yield* Effect.forkChild(Effect.flip(anybody.whileAllowed(Effect.never, () => undefined)))
        const { key } = yield* createKey(a, "admin")

        yield* until(refusal(b), (code) => code === "UNAUTHENTICATED")

        assert.strictEqual(yield* refusal(b, key), "none")
        // the open socket of a caller without a key is closed
        assert.instanceOf(yield* Fiber.join(open), UnauthenticatedError)
      })
  )

  withAndWithoutNotifications(
    "refuses a key that was deleted at another engine, and closes its open sockets",
    (a, b) =>
      Effect.gen(function* () {
        yield* createKey(a, "admin")
        const { id, key } = yield* createKey(a, "shop")
        yield* knows(b, key)
        const open = yield* Effect.forkChild(
          Effect.flip(b.engine.access.authenticate(key).whileAllowed(Effect.never, () => undefined))
        )
        yield* Context.get(a.services, ApiKeys).delete(id)

        yield* until(refusal(b, key), (code) => code === "UNAUTHENTICATED")

        assert.instanceOf(yield* Fiber.join(open), UnauthenticatedError)
      })
  )

  withAndWithoutNotifications(
    "follows changes of roles and policies at another engine, also for open sockets",
    (a, b) =>
      Effect.gen(function* () {
        yield* createKey(a, "admin")
        const policies = Context.get(a.services, Policies)
        const policy = yield* policies.create({
          org_id: DEFAULT_ORG,
          name: "all events",
          effect: "allow",
          actions: "emit:event",
          resources: "*"
        })
        const roles = Context.get(a.services, Roles)
        const role = yield* roles.create({ org_id: DEFAULT_ORG, name: "emitter" })
        yield* roles.assignPolicy(role.id, policy.id)
        const { key } = yield* createKey(a, "shop", [role.id])
        yield* knows(b, key)
        const caller = b.engine.access.authenticate(key)
        const mayEmit = (): boolean => caller.may("emit:event", "event:order.placed", environment)
        yield* until(Effect.sync(mayEmit), (may) => may)
        const open = yield* Effect.forkChild(
          Effect.flip(
            caller.whileAllowed(Effect.never, () =>
              caller.check("emit:event", "event:order.placed", environment)
            )
          )
        )

        yield* policies.update(policy.id, { effect: "deny" })

        yield* until(Effect.sync(mayEmit), (may) => !may)
        assert.strictEqual((yield* Fiber.join(open)).code, "UNAUTHORIZED")
      })
  )
})
