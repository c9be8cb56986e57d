/**
 * Notifications of commits reach other engines on the schema at once. When one is lost, the others notice within a second.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import pg from "pg"
import * as Append from "../../../src/Engine/Events/Append.ts"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
import type { Changes, ChangeKind } from "../../../src/Engine/Store/Changes.ts"
import { channelOf } from "../../../src/Engine/Store/Postgres/CommitNotifications.ts"
import type { PostgresOptions } from "../../../src/Engine/Store/Postgres/Options.ts"
import type { StoreService } from "../../../src/Engine/Store/Store.ts"
import { runSql, takeSchema } from "../../postgres/Schemas.ts"
import { environment } from "./suite/Shop.ts"

const live = (name: string, test: () => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.scoped(test()))

/** A store that shares its schema, and what its listeners were told of commits of others. */
interface Node {
  readonly store: StoreService
  readonly heard: Array<Changes>
  /** Emits an event, and returns its position. */
  readonly emit: (name: string) => Effect.Effect<number, unknown>
  /** Waits for a notification that fits, and returns it. */
  readonly hears: (fits: (changes: Changes) => boolean) => Effect.Effect<Changes>
}

const openNode = (options: PostgresOptions): Effect.Effect<Node, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const store = yield* PostgresStore.make({ poolSize: 3, ...options })
    const heard: Array<Changes> = []
    let wake = (): void => undefined
    const stop = store.onCommit((changes) => {
      if (!changes.isFromOtherEngine) return
      heard.push(changes)
      wake()
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    return {
      store,
      heard,
      emit: (name) =>
        Effect.map(
          store.write(Append.appendEvent({ environment, name, version: 1, data: "{}" })),
          ({ position }) => position
        ),
      hears: (fits) =>
        Effect.callback<Changes>((resume) => {
          wake = () => {
            const found = heard.find(fits)
            if (found !== undefined) resume(Effect.succeed(found))
          }
          wake()
        }).pipe(Effect.timeout("20 seconds"), Effect.orDie)
    }
  })

const looksAt =
  (subject: ChangeKind) =>
  ({ stale }: Changes): boolean =>
    stale.has(subject)

/** Ends the connections on which engines listen for notifications. */
const cutListeners = ({ schema = "" }: PostgresOptions) =>
  Effect.promise(() =>
    runSql(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '${channelOf(schema)}'`
    )
  )

describe("an engine on a shared schema", () => {
  live("is notified of the commits of another engine, and not of its own", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      const a = yield* openNode(options)
      const b = yield* openNode(options)
      const position = yield* a.emit("order.placed")

      const told = yield* b.hears(({ logEnd }) => logEnd >= position)

      assert.isTrue(told.isFromOtherEngine)
      assert.strictEqual(told.counts.events, 0)
      assert.deepStrictEqual(
        a.heard.filter(({ logEnd }) => logEnd > 0),
        []
      )
      const back = yield* b.emit("order.placed")
      yield* a.hears(({ logEnd }) => logEnd >= back)
    })
  )

  live("reads everything again when notifications were lost, and receives them again once reconnected", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      const a = yield* openNode(options)
      const b = yield* openNode(options)
      const first = yield* a.emit("order.placed")
      yield* b.hears(({ logEnd }) => logEnd >= first)
      yield* cutListeners(options)
      // this notification is sent while no engine listens
      yield* a.emit("order.placed")

      yield* b.hears(looksAt("log"))

      const emitAgain = Effect.flatMap(a.emit("order.placed"), (position) =>
        Effect.timeout(
          b.hears(({ logEnd }) => logEnd >= position),
          "500 millis"
        )
      )
      yield* Effect.retry(emitAgain, { times: 20 })
    })
  )

  live("reads everything again when another engine ends between its commit and its notification", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      const b = yield* openNode(options)
      // an engine that is killed after its commit leaves this row
      yield* Effect.promise(() => runSql("UPDATE engine SET sequence = sequence + 1", options.schema))

      const { stale } = yield* b.hears(looksAt("access"))

      assert.isTrue(stale.has("turns") && stale.has("ends"))
      // once the engine has read the functions itself
      yield* b.hears(looksAt("functions"))
    })
  )

  live("sends announcements to engines that want them, and shows no data to others", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      const a = yield* openNode(options)
      const b = yield* openNode(options)
      const payloads: Array<string> = []
      const outsider = new pg.Client({ connectionString: options.url })
      yield* Effect.acquireRelease(
        Effect.promise(async () => {
          await outsider.connect()
          outsider.on("notification", ({ payload }) => void payloads.push(payload ?? ""))
          await outsider.query(`LISTEN ${channelOf(options.schema ?? "")}`)
        }),
        () => Effect.promise(() => outsider.end())
      )
      const announced = {
        id: "sys_1",
        environment,
        topic: "system.run.r.completed",
        data: '{"output":"4242"}'
      }
      a.store.announce?.("steps", () => assert.fail("nobody wants to hear it"))
      const stop = b.store.onCommit(() => undefined, { activity: "steps" })
      yield* Effect.addFinalizer(() => Effect.sync(stop))
      const tell = Effect.suspend(() => {
        a.store.announce?.("steps", () => announced)
        return Effect.timeout(
          b.hears((changes) => changes.announced.length > 0),
          "100 millis"
        )
      })

      const told = yield* Effect.retry(tell, { times: 50 })

      assert.deepStrictEqual(told.announced[0], announced)
      assert.notInclude(payloads.join(), "4242")
    })
  )
})
