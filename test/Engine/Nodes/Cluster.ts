/** Several whole engines on one schema of a real Postgres, in this process. */
import { connect, createServer, type Server, type Socket } from "node:net"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { it } from "@effect/vitest"
import { Client } from "../../../src/Client/Client.ts"
import type { ClientServices } from "../../../src/Client/Services.ts"
import * as Engine from "../../../src/Engine/Engine.ts"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
import { channelOf } from "../../../src/Engine/Store/Postgres/CommitNotifications.ts"
import type { Migration } from "../../../src/Engine/Store/Postgres/Migrations.ts"
import type { PostgresOptions } from "../../../src/Engine/Store/Postgres/Options.ts"
import { makeSettings, PushSettings } from "../../../src/Engine/Push/PushSettings.ts"
import { Store } from "../../../src/Engine/Store/Store.ts"
import type { RunnableFunction, RunnableProjection } from "../../../src/index.ts"
import { WorkerTransport } from "../../../src/Protocol/Worker.ts"
import * as EngineServer from "../../../src/Server/Server.ts"
import * as Worker from "../../../src/Worker/Worker.ts"
import { runSql, takeSchema } from "../../postgres/Schemas.ts"

export const environment = "default"

export interface Node {
  readonly engine: Engine.EngineService
  readonly services: Context.Context<ClientServices>
  readonly client: Context.Service.Shape<typeof Client>
  /** Listens for workers until the scope ends, with leases of this length. Returns the port. */
  readonly listen: (leaseTerm: number) => Effect.Effect<number, unknown, Scope.Scope>
  /** Runs a worker in the process of this engine until the scope ends. */
  readonly work: (
    functions: ReadonlyArray<RunnableFunction>,
    options?: { readonly workerId?: string; readonly projections?: ReadonlyArray<RunnableProjection> }
  ) => Effect.Effect<Worker.WorkerService, unknown, Scope.Scope>
}

/** Runs an engine on the schema until the scope ends. `known` are the migrations of its version. */
export const openNode = (
  options: PostgresOptions,
  known?: ReadonlyArray<Migration>
): Effect.Effect<Node, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const store = yield* PostgresStore.make({ poolSize: 4, ...options }, "shared", known)
    const context = yield* Layer.build(
      Layer.provideMerge(
        Layer.merge(Engine.layerWorkerTransport, Engine.layerClientIn(environment)),
        Engine.layer.pipe(
          Layer.provide(Layer.succeed(Store, store)),
          Layer.provide(Layer.succeed(PushSettings, makeSettings({ allowPrivateNetworks: true })))
        )
      )
    )
    const engine = Context.get(context, Engine.Engine)
    return {
      engine,
      services: context,
      client: Context.get(context, Client),
      listen: (leaseTerm) =>
        Effect.map(
          Layer.build(
            Layer.provide(EngineServer.layer({ port: 0, leaseTerm }), Layer.succeed(Engine.Engine, engine))
          ),
          (built) => Context.get(built, EngineServer.HttpServerEngine).port
        ),
      work: (functions, options = {}) =>
        Effect.map(
          Layer.build(
            Layer.provide(
              Worker.layer({ functions, logger: false, ...options }),
              Layer.succeed(WorkerTransport, Context.get(context, WorkerTransport))
            )
          ),
          (built) => Context.get(built, Worker.Worker)
        )
    }
  })

/** Provides settings to the engines of a test. */
type Settings = <A, E, R>(test: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** A test with two engines on a schema of its own. The test also gets the options of the schema. */
export const withTwo = (
  name: string,
  test: (a: Node, b: Node, options: PostgresOptions) => Effect.Effect<unknown, unknown, Scope.Scope>,
  settings: Settings = (same) => same
) =>
  it.live(name, () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      const a = yield* openNode(options)
      const b = yield* openNode(options)
      yield* test(a, b, options)
    }).pipe(Effect.scoped, settings)
  )

/** Cuts the connections for notifications until the scope ends, so that no notification arrives. */
export const loseNotifications = ({
  schema = ""
}: PostgresOptions): Effect.Effect<unknown, never, Scope.Scope> => {
  const cut = Effect.promise(() =>
    runSql(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '${channelOf(schema)}'`
    )
  )
  return Effect.andThen(cut, Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep("5 millis"), cut))))
}

/** Defines a test twice: with notifications, and when all of them are lost. */
export const withAndWithoutNotifications = (
  name: string,
  test: Parameters<typeof withTwo>[1],
  settings?: Settings
): void => {
  withTwo(name, test, settings)
  withTwo(
    `${name}, also when no notification arrives`,
    (a, b, options) => Effect.andThen(loseNotifications(options), test(a, b, options)),
    settings
  )
}

/** Reads a value again and again until it meets the condition, and returns it. */
export const until = <A, E>(read: Effect.Effect<A, E>, isMet: (value: A) => boolean): Effect.Effect<A, E> =>
  Effect.gen(function* () {
    while (true) {
      const value = yield* read
      if (isMet(value)) return value
      yield* Effect.sleep("10 millis")
    }
  }).pipe(Effect.timeout("20 seconds"), Effect.orDie) as Effect.Effect<A, E>

/** Reads a stream, and returns an effect that takes its next item. */
export const taking = <A, E>(
  stream: Stream.Stream<A, E>
): Effect.Effect<Effect.Effect<A>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const queue = yield* Queue.unbounded<A>()
    yield* Effect.forkScoped(Stream.runForEach(stream, (one) => Queue.offer(queue, one)))
    return Effect.orDie(Effect.timeout(Queue.take(queue), "20 seconds"))
  })

/** A proxy in front of several engines, like a load balancer. New connections go to the engine that was set last. */
export interface Switch {
  readonly url: string
  /** Cuts the open connections. They are made again, to the engine at this port. */
  readonly to: (port: number) => void
}

export const makeSwitch = (first: number): Effect.Effect<Switch, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(
        () =>
          new Promise<{
            readonly server: Server
            readonly port: number
            readonly to: (port: number) => void
          }>((resolve) => {
            let target = first
            const sockets = new Set<Socket>()
            const server = createServer((client) => {
              const engine = connect(target, "127.0.0.1")
              for (const [socket, other] of [
                [client, engine],
                [engine, client]
              ] as const) {
                sockets.add(socket)
                socket.on("error", () => other.destroy())
                socket.on("close", () => {
                  sockets.delete(socket)
                  other.destroy()
                })
                socket.pipe(other)
              }
            })
            const switchTo = (port: number): void => {
              target = port
              for (const socket of sockets) socket.destroy()
            }
            server.listen(0, "127.0.0.1", () => {
              const address = server.address()
              resolve({ server, port: typeof address === "object" ? (address?.port ?? 0) : 0, to: switchTo })
            })
          })
      ),
      ({ server, to }) =>
        Effect.promise(
          () =>
            new Promise<void>((resolve) => {
              server.close(() => resolve())
              to(0)
            })
        )
    ),
    ({ port, to }) => ({ url: `http://127.0.0.1:${port}`, to })
  )
