/**
 * One of several engines on a Postgres schema, with a port and the shop's functions in it: `node
 * --conditions=@ironflow/source node.ts '<NodeOptions as JSON>'`. Prints `ready` when it listens and takes runs.
 * SIGTERM closes it.
 */
import process from "node:process"
import { Engine, Server, Worker } from "@ironflow/node/effect"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
import { Store } from "../../../src/Engine/Store/Store.ts"
import { makeAllFunctions } from "../matrix/functions.ts"
import { openSideLog } from "../SideLog.ts"

export interface NodeOptions {
  readonly by: string
  readonly life: number
  readonly url: string
  readonly schema: string
  readonly port: number
  readonly leaseMs: number
  readonly sideLog: string
  readonly bells: ReadonlyArray<string>
}

const { bells, by, leaseMs, life, port, schema, sideLog, url } = JSON.parse(
  process.argv[2] ?? ""
) as NodeOptions
const log = openSideLog(sideLog, () => undefined, by)
log.append({ t: "life", life })

const store = Layer.effect(Store, PostgresStore.make({ url, schema, poolSize: 6 }))
const engine = Layer.provide(Engine.layer, store)
const worker = Worker.layer({
  functions: makeAllFunctions(log, bells),
  maxConcurrentJobs: 16,
  workerId: by
}).pipe(Layer.provide(Engine.layerWorkerTransport))
const everything = Layer.mergeAll(Server.layer({ port, leaseTerm: leaseMs }), worker).pipe(
  Layer.provideMerge(engine),
  // it would warn of every strike
  Layer.provide(Logger.layer([]))
)
const program = Effect.gen(function* () {
  yield* (yield* Worker.Worker).ready
  process.stdout.write("ready\n")
  return yield* Effect.never
})
const fiber = Effect.runFork(Effect.provide(program, everything))
process.once("SIGTERM", () => Effect.runFork(Fiber.interrupt(fiber)))
