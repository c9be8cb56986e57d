/**
 * The health of the server, and whether it takes calls. Both answers are public, so names of files and rows are only
 * in the log.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { EngineService } from "../../Engine/Engine.ts"
import type { StoreHealth } from "../../Engine/Store/Store.ts"

export const healthOf = (engine: EngineService) =>
  Effect.map(Clock.currentTimeMillis, (now) => {
    const { status } = engine.health()
    return {
      status,
      ...(status === "ok" ? {} : { components: { store: { status, message: storeMessages[status] } } }),
      timestamp: new Date(now).toISOString()
    }
  })

/**
 * Whether the server takes calls. It also takes calls while a row of the database is damaged, since calls still get
 * their answers. Only the health reports the damage.
 */
export const readinessOf = (engine: EngineService, isDraining: boolean) =>
  Effect.zipWith(Clock.currentTimeMillis, engine.checkHealth, (now, store) => {
    const timestamp = new Date(now).toISOString()
    const components = {
      ...(isDraining ? { server: { status: "draining", message: "The server is about to stop" } } : {}),
      ...(cannotWrite(store) ? { store: { status: store.status, message: unwritable[store.status] } } : {})
    }
    const [problem] = Object.values(components)
    return problem === undefined
      ? { status: "ready", timestamp }
      : { status: problem.status, components, timestamp }
  })

const cannotWrite = (store: StoreHealth): store is Exclude<StoreHealth, { readonly status: "ok" }> =>
  store.status !== "ok" && store.cannotWrite === true

const storeMessages = {
  degraded:
    "Something in the database is damaged, or the database cannot be written: the log of the engine says what is wrong",
  down:
    "This engine has stopped for good: another engine may have taken the database over, or the disk may have refused to store something. " +
    "The log of the engine says why"
} as const

const unwritable = {
  ...storeMessages,
  degraded: "The database cannot be written: the log of the engine says why"
} as const
