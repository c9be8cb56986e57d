/**
 * Projections: one owner at a time, saves of state and position together, resets, dead letters, and what is refused.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import {
  type ProjectionChangeQuery,
  projectionKey,
  type ProjectionToken
} from "../../../../src/Engine/Records/ProjectionRecords.ts"
import type { StoreService } from "../../../../src/Engine/Store/Store.ts"
import { IronflowError, serializeError } from "../../../../src/Errors.ts"
import type { ProjectionRegistration, ProjectionSave } from "../../../../src/Protocol/ProjectionOwners.ts"
import { environment, type ShopTest } from "./Shop.ts"
import * as ProjectionOwnerRows from "../../../../src/Engine/Projections/ProjectionOwnerRows.ts"
import * as ProjectionPageRows from "../../../../src/Engine/Projections/ProjectionOwnerReads.ts"
import * as ProjectionSaveRows from "../../../../src/Engine/Projections/ProjectionSaveRows.ts"
import * as ProjectionInspection from "../../../../src/Engine/Projections/ProjectionInspection.ts"
import * as StreamRows from "../../../../src/Engine/Streams/StreamRows.ts"
import * as ProjectionChanges from "../../../../src/Engine/Projections/ProjectionChanges.ts"
import * as TokenlessProjections from "../../../../src/Engine/Projections/TokenlessProjections.ts"

const totals: ProjectionRegistration = { name: "order-totals", events: ["order.*"], mode: "managed" }
const mails: ProjectionRegistration = { name: "mails", events: ["order.*"], mode: "external" }
const perCustomer: ProjectionRegistration = {
  ...totals,
  name: "per-customer",
  partitionKey: "$.data.customer"
}

const LEASE_MS = 10_000

/** Claims a projection, and fails when the claim is not granted. */
const claimOwner = (
  store: StoreService,
  options: {
    readonly workerId?: string
    readonly registration?: ProjectionRegistration
    readonly leaseMs?: number
  } = {}
) =>
  Effect.gen(function* () {
    const { registration = totals, workerId = "worker-1", ...lease } = options
    const claimed = yield* store.write(
      ProjectionOwnerRows.claimProjection({ environment, registration, workerId, ...lease })
    )
    if (claimed._tag === "Busy") return assert.fail(`${registration.name} belongs to ${claimed.owner}`)
    const token: ProjectionToken = {
      environment,
      name: registration.name,
      token: claimed.lease.token,
      generation: claimed.lease.generation
    }
    return { ...claimed.lease, token }
  })

/** A save of one state, unless `more` says otherwise. */
const saving = (
  from: number,
  to: number,
  state: unknown,
  more: Partial<ProjectionSave> = {}
): ProjectionSave => ({
  from,
  to,
  states: [
    {
      partition: "__global__",
      state: JSON.stringify(state),
      position: to,
      eventId: `evt-${to}`,
      eventTime: 0
    }
  ],
  deadLetters: [],
  resolved: [],
  ...more
})

const errorOf = <A, E>(self: Effect.Effect<A, E>) => Effect.flip(self)

export const projectionsSuite = (test: ShopTest): void => {
  describe("projections", () => {
    test("receive their events in order, page by page", function* (shop) {
      const { store } = shop
      for (let i = 0; i < 5; i++) yield* shop.emit(i === 2 ? "user.created" : "order.placed", { i })
      const { position, token } = yield* claimOwner(store)

      const first = yield* store.read(ProjectionPageRows.readProjectionPage(token, position, 3))
      assert.ok(first._tag === "Events")
      const second = yield* store.read(ProjectionPageRows.readProjectionPage(token, first.position, 10))
      assert.ok(second._tag === "Events")

      assert.deepStrictEqual(
        [...first.events, ...second.events].map(({ data }) => JSON.parse(data).i),
        [0, 1, 3, 4]
      )
      assert.deepStrictEqual(
        [first.position, first.atEnd, second.position, second.atEnd],
        [3, false, 5, true]
      )
    })

    test("store the state and the position of a save together", function* (shop) {
      const { store } = shop
      for (let i = 0; i < 3; i++) yield* shop.emit("order.placed")
      const { token } = yield* claimOwner(store)

      const saved = yield* store.write(ProjectionSaveRows.saveProjection(token, saving(0, 3, { count: 3 })))
      const state = yield* store.read(
        ProjectionInspection.getProjectionState(environment, "order-totals", "__global__")
      )
      const info = yield* store.read(ProjectionInspection.getProjection(environment, "order-totals"))

      assert.deepStrictEqual(saved, { _tag: "Saved" })
      assert.deepStrictEqual([state?.state, state?.position, info.position], ['{"count":3}', 3, 3])
    })

    test("belong to one worker, until it releases them", function* ({ store }) {
      const first = yield* claimOwner(store)
      const refused = yield* store.write(
        ProjectionOwnerRows.claimProjection({
          environment,
          registration: totals,
          workerId: "worker-2"
        })
      )
      yield* store.write(ProjectionOwnerRows.releaseProjection(first.token))
      const second = yield* claimOwner(store, { workerId: "worker-2" })

      assert.deepStrictEqual(refused, { _tag: "Busy", owner: "worker-1" })
      assert.isAbove(second.generation, first.generation)
    })

    test("go to another worker when the owner is silent for the length of its claim", function* ({ store }) {
      const first = yield* claimOwner(store, { leaseMs: LEASE_MS })
      yield* TestClock.adjust(LEASE_MS - 1)
      const early = yield* store.write(
        ProjectionOwnerRows.claimProjection({
          environment,
          registration: totals,
          workerId: "worker-2"
        })
      )
      const renewed = yield* store.write(ProjectionOwnerRows.renewProjection(first.token, LEASE_MS))
      yield* TestClock.adjust(LEASE_MS)
      yield* claimOwner(store, { workerId: "worker-2" })
      const late = yield* store.write(ProjectionOwnerRows.renewProjection(first.token, LEASE_MS))

      assert.deepStrictEqual([early._tag, renewed, late], ["Busy", true, false])
    })

    test("refuse and count the save of a worker that is no longer the owner", function* (shop) {
      const { store } = shop
      yield* shop.emit("order.placed")
      const stale = yield* claimOwner(store, { leaseMs: LEASE_MS })
      yield* TestClock.adjust(LEASE_MS)
      const current = yield* claimOwner(store, { workerId: "worker-2" })

      const refused = yield* store.write(
        ProjectionSaveRows.saveProjection(stale.token, saving(0, 1, { count: -1 }))
      )
      const page = yield* store.read(ProjectionPageRows.readProjectionPage(stale.token, 0, 10))
      yield* store.write(ProjectionSaveRows.saveProjection(current.token, saving(0, 1, { count: 1 })))

      assert.strictEqual(refused._tag, "Refused")
      assert.deepStrictEqual(page, { _tag: "Lost" })
      assert.strictEqual(
        (yield* store.read(ProjectionInspection.getProjection(environment, "order-totals"))).refusedSaves,
        1
      )
      assert.strictEqual(
        (yield* store.read(
          ProjectionInspection.getProjectionState(environment, "order-totals", "__global__")
        ))?.state,
        '{"count":1}'
      )
    })

    test("refuse a save that starts from another position", function* (shop) {
      const { store } = shop
      yield* shop.emit("order.placed")
      yield* shop.emit("order.placed")
      const { token } = yield* claimOwner(store)
      yield* store.write(ProjectionSaveRows.saveProjection(token, saving(0, 1, { count: 1 })))

      const again = yield* store.write(ProjectionSaveRows.saveProjection(token, saving(0, 1, { count: 1 })))
      const ahead = yield* store.write(ProjectionSaveRows.saveProjection(token, saving(2, 2, { count: 9 })))

      assert.deepStrictEqual([again._tag, ahead._tag], ["Refused", "Refused"])
      assert.strictEqual(
        (yield* store.read(ProjectionInspection.getProjection(environment, "order-totals"))).position,
        1
      )
    })

    test("refuse a state from before a reset, and start again", function* (shop) {
      const { store } = shop
      yield* shop.emit("order.placed")
      const { token } = yield* claimOwner(store)
      yield* store.write(ProjectionSaveRows.saveProjection(token, saving(0, 1, { count: 1 })))
      yield* shop.emit("order.placed")

      const info = yield* store.write(ProjectionInspection.rebuildProjection(environment, "order-totals"))
      const refused = yield* store.write(ProjectionSaveRows.saveProjection(token, saving(1, 2, { count: 2 })))
      const again = yield* claimOwner(store)

      assert.deepStrictEqual([info.status, info.position, info.lag], ["rebuilding", 0, 2])
      assert.strictEqual(refused._tag, "Refused")
      assert.strictEqual(again.position, 0)
      yield* store.write(ProjectionSaveRows.saveProjection(again.token, saving(0, 2, { count: 2 })))
      assert.strictEqual(
        (yield* store.read(ProjectionInspection.getProjection(environment, "order-totals"))).status,
        "active"
      )
    })

    test("show the state from before a reset until everything is projected again", function* (shop) {
      const { store } = shop
      for (let i = 0; i < 3; i++) yield* shop.emit("order.placed")
      const before = yield* claimOwner(store)
      yield* store.write(ProjectionSaveRows.saveProjection(before.token, saving(0, 3, { count: 3 })))
      yield* store.write(ProjectionInspection.rebuildProjection(environment, "order-totals"))
      const { token } = yield* claimOwner(store)
      const look = Effect.gen(function* () {
        const state = yield* store.read(
          ProjectionInspection.getProjectionState(environment, "order-totals", "__global__")
        )
        const { status } = yield* store.read(ProjectionInspection.getProjection(environment, "order-totals"))
        const at = yield* store.read(
          ProjectionInspection.checkProjectionAt(environment, "order-totals", 2, 0, 100)
        )
        return [state?.state, status, at.reached]
      })

      const seen = [yield* look]
      yield* store.write(ProjectionSaveRows.saveProjection(token, saving(0, 2, { again: 2 })))
      seen.push(yield* look)
      // a rebuild that starts again does not show what the first one has left half done
      yield* store.write(ProjectionInspection.rebuildProjection(environment, "order-totals"))
      seen.push(yield* look)
      const last = yield* claimOwner(store)
      const page = yield* store.read(ProjectionPageRows.readProjectionPage(last.token, 0, 100))
      assert.ok(page._tag === "Events")
      yield* store.write(
        ProjectionSaveRows.saveProjection(last.token, {
          ...saving(0, 3, { again: 3 }),
          to: page.position
        })
      )
      seen.push(yield* look)

      assert.deepStrictEqual(seen, [
        ['{"count":3}', "rebuilding", false],
        ['{"count":3}', "rebuilding", false],
        ['{"count":3}', "rebuilding", false],
        ['{"again":3}', "active", true]
      ])
    })

    test("count as rebuilt when they have reached the position at which the rebuild began", function* (shop) {
      const { store } = shop
      yield* shop.emit("order.placed")
      yield* shop.emit("user.created")
      yield* claimOwner(store)
      yield* store.write(ProjectionInspection.rebuildProjection(environment, "order-totals"))
      const { token } = yield* claimOwner(store)
      yield* store.write(ProjectionSaveRows.saveProjection(token, saving(0, 1, { count: 1 })))

      const page = yield* store.read(ProjectionPageRows.readProjectionPage(token, 0, 100))
      assert.ok(page._tag === "Events")
      yield* store.write(
        ProjectionSaveRows.saveProjection(token, { ...saving(1, page.position, {}), states: [] })
      )

      assert.deepStrictEqual([page.events.length, page.position, page.isRebuilding], [0, 2, true])
      assert.strictEqual(
        (yield* store.read(ProjectionInspection.getProjection(environment, "order-totals"))).status,
        "active"
      )
    })

    test("accept a repeated save whose answer was lost, and store it once", function* (shop) {
      const { store } = shop
      for (let i = 0; i < 2; i++) yield* shop.emit("order.placed")
      const { token } = yield* claimOwner(store, { leaseMs: LEASE_MS })
      const first = { ...saving(0, 1, { count: 1 }), number: 1 }
      yield* store.write(ProjectionSaveRows.saveProjection(token, first))

      const again = yield* store.write(ProjectionSaveRows.saveProjection(token, first))
      const second = yield* store.write(
        ProjectionSaveRows.saveProjection(token, { ...saving(1, 2, { count: 2 }), number: 2 })
      )
      const late = yield* store.write(ProjectionSaveRows.saveProjection(token, first))
      yield* TestClock.adjust(LEASE_MS)
      const next = yield* claimOwner(store, { workerId: "worker-2" })
      const stored = yield* store.write(
        ProjectionSaveRows.saveProjection(token, { ...saving(1, 2, { count: 2 }), number: 2 })
      )
      const foreign = yield* store.write(
        ProjectionSaveRows.saveProjection(token, { ...saving(2, 2, {}), states: [], number: 3 })
      )

      assert.deepStrictEqual(
        [again, second, late, stored, foreign].map(({ _tag }) => _tag),
        ["Saved", "Saved", "Refused", "Saved", "Refused"]
      )
      const state = yield* store.read(
        ProjectionInspection.getProjectionState(environment, "order-totals", "__global__")
      )
      const info = yield* store.read(ProjectionInspection.getProjection(environment, "order-totals"))
      assert.deepStrictEqual([state?.state, state?.version, next.position], ['{"count":2}', 2, 2])
      assert.strictEqual(info.refusedSaves, 2)
    })

    test("receive events of several names in the order of the log, with their entities", function* (shop) {
      const { store } = shop
      const names = ["a", "b", "x", "c", "a", "c", "b", "x", "a"]
      for (const name of names) yield* shop.emit(name)
      yield* store.write(
        StreamRows.appendToStream(environment, {
          entityId: "e-1",
          entityType: "thing",
          events: [{ name: "b", version: 1, data: "{}" }]
        })
      )
      const { token } = yield* claimOwner(store, {
        registration: { name: "several", events: ["c", "a", "b", "a"], mode: "managed" }
      })

      const positions: Array<number> = []
      let after = 0
      for (let atEnd = false; !atEnd;) {
        const page = yield* store.read(ProjectionPageRows.readProjectionPage(token, after, 3))
        assert.ok(page._tag === "Events")
        positions.push(...page.events.map(({ position }) => position))
        if (page.atEnd) {
          assert.deepStrictEqual(page.events.at(-1)?.entity, { id: "e-1", type: "thing", version: 1 })
        }
        ;({ atEnd, position: after } = page)
      }

      assert.deepStrictEqual(positions, [1, 2, 4, 5, 6, 7, 9, 10])
    })

    test("that are managed are rebuilt when their events change, and external ones continue", function* (shop) {
      const { store } = shop
      yield* shop.emit("order.placed")
      for (const registration of [totals, mails]) {
        const { token } = yield* claimOwner(store, { registration })
        yield* store.write(
          ProjectionSaveRows.saveProjection(
            token,
            registration === totals ? saving(0, 1, {}) : saving(0, 1, {}, { states: [] })
          )
        )
      }

      const managed = yield* claimOwner(store, { registration: { ...totals, events: ["order.placed"] } })
      const external = yield* claimOwner(store, { registration: { ...mails, events: ["order.placed"] } })

      assert.deepStrictEqual([managed.position, external.position], [0, 1])
    })

    test("keep their mode", function* ({ store }) {
      yield* claimOwner(store)

      const error = yield* errorOf(claimOwner(store, { registration: { ...totals, mode: "external" } }))

      assert.ok(error instanceof IronflowError)
      assert.strictEqual(error.code, "INVALID_STATE")
    })

    test("deliver nothing while they are paused, and accept saves of delivered events", function* (shop) {
      const { store } = shop
      yield* shop.emit("order.placed")
      const { token } = yield* claimOwner(store)
      const paused = yield* store.write(
        ProjectionInspection.pauseProjection(environment, "order-totals", "ops", "deploy")
      )

      const page = yield* store.read(ProjectionPageRows.readProjectionPage(token, 0, 10))
      const saved = yield* store.write(ProjectionSaveRows.saveProjection(token, saving(0, 1, { count: 1 })))
      const resumed = yield* store.write(ProjectionInspection.resumeProjection(environment, "order-totals"))

      assert.deepStrictEqual(
        [paused.status, paused.paused?.by, paused.paused?.reason],
        ["paused", "ops", "deploy"]
      )
      assert.deepStrictEqual([page._tag, saved._tag, resumed.status], ["Paused", "Saved", "active"])
    })

    test("keep dead letters, retry them on request, and delete those that succeed", function* (shop) {
      const { store } = shop
      for (let i = 0; i < 2; i++) yield* shop.emit("order.placed", { i })
      const { token } = yield* claimOwner(store, { registration: mails })
      const error = serializeError(new Error("declined"), { stack: false })
      yield* store.write(
        ProjectionSaveRows.saveProjection(
          token,
          saving(0, 2, {}, { states: [], deadLetters: [{ position: 1, error, attempts: 4 }] })
        )
      )

      const [letter] = yield* store.read(ProjectionInspection.listDeadLetters(environment, "mails", 0, 10))
      const retried = yield* store.write(ProjectionInspection.retryDeadLetters(environment, "mails", 1))
      const unknown = yield* store.write(ProjectionInspection.retryDeadLetters(environment, "mails", 2))
      const page = yield* store.read(ProjectionPageRows.readProjectionPage(token, 0, 10))
      yield* store.write(
        ProjectionSaveRows.saveProjection(token, saving(2, 2, {}, { states: [], resolved: [1] }))
      )

      assert.deepStrictEqual([letter?.position, letter?.attempts, letter?.error.message], [1, 4, "declined"])
      assert.deepStrictEqual([retried, unknown], [1, 0])
      assert.ok(page._tag === "Retries")
      assert.deepStrictEqual(
        page.events.map(({ position }) => position),
        [1]
      )
      assert.deepStrictEqual(
        yield* store.read(ProjectionInspection.listDeadLetters(environment, "mails", 0, 10)),
        []
      )
    })

    test("remember how often an event has failed", function* (shop) {
      const { store } = shop
      yield* shop.emit("order.placed")
      const first = yield* claimOwner(store)
      const error = serializeError(new Error("declined"), { stack: false })
      yield* store.write(
        ProjectionSaveRows.saveProjection(
          first.token,
          saving(0, 0, {}, { states: [], failing: { position: 1, failures: 2, error } })
        )
      )
      const info = yield* store.read(ProjectionInspection.getProjection(environment, "order-totals"))
      const again = yield* claimOwner(store)

      assert.deepStrictEqual([info.status, info.lastError?.error.message], ["error", "declined"])
      assert.deepStrictEqual(again.failing, { position: 1, failures: 2 })
    })

    test("refuse an invalid save, and change nothing", function* (shop) {
      const { store } = shop
      yield* shop.emit("order.placed")
      const { token } = yield* claimOwner(store)
      const external = yield* claimOwner(store, { registration: mails })
      const state = saving(0, 1, {}).states[0]!
      const bad: ReadonlyArray<[ProjectionToken, ProjectionSave]> = [
        [token, saving(0, 2, {})],
        [token, saving(0, -1, {})],
        [token, saving(0, 1, {}, { states: [state, state] })],
        [token, saving(0, 1, {}, { states: [{ ...state, position: 0 }] })],
        [token, saving(0, 1, {}, { states: [{ ...state, position: 2 }] })],
        [external.token, saving(0, 1, {})],
        [
          token,
          saving(
            0,
            1,
            {},
            { deadLetters: [{ position: 7, error: { name: "Error", message: "" }, attempts: 1 }] }
          )
        ]
      ]

      for (const [by, save] of bad) {
        const error = yield* errorOf(store.write(ProjectionSaveRows.saveProjection(by, save)))
        assert.ok(error instanceof IronflowError)
        assert.strictEqual(error.code, "VALIDATION_ERROR")
      }
      assert.strictEqual(
        (yield* store.read(ProjectionInspection.getProjection(environment, "order-totals"))).position,
        0
      )
    })

    test("count the events that they have not projected, whatever their patterns are", function* (shop) {
      const { store } = shop
      for (const name of ["order.placed", "order.paid", "user.created", "order.item.added"])
        yield* shop.emit(name)
      const lagOf = (name: string, events: ReadonlyArray<string>) =>
        Effect.map(
          Effect.andThen(
            claimOwner(store, { registration: { ...totals, name, events } }),
            store.read(ProjectionInspection.getProjection(environment, name))
          ),
          ({ lag }) => lag
        )

      assert.strictEqual(yield* lagOf("one", ["order.paid"]), 1)
      assert.strictEqual(yield* lagOf("two", ["order.*"]), 2)
      assert.strictEqual(yield* lagOf("all", [">"]), 4)
      assert.strictEqual(yield* lagOf("some", ["order.paid", "order.*", "user.created"]), 3)
    })

    test("have reached a position when none of their events is before it", function* (shop) {
      const { store } = shop
      yield* shop.emit("order.placed")
      yield* shop.emit("user.created")
      const { token } = yield* claimOwner(store)
      const isAt = (target: number) =>
        Effect.map(
          store.read(ProjectionInspection.checkProjectionAt(environment, "order-totals", target, 0, 100)),
          ({ reached }) => reached
        )

      const before = [yield* isAt(0), yield* isAt(1), yield* isAt(2), yield* isAt(3)]
      yield* store.write(ProjectionSaveRows.saveProjection(token, saving(0, 1, {})))
      const after = [yield* isAt(1), yield* isAt(2), yield* isAt(3)]

      assert.deepStrictEqual(before, [true, false, false, false])
      assert.deepStrictEqual(after, [true, true, false])
    })

    test("of other environments are not seen", function* ({ store }) {
      yield* claimOwner(store)

      const error = yield* errorOf(store.read(ProjectionInspection.getProjection("staging", "order-totals")))

      assert.ok(error instanceof IronflowError)
      assert.strictEqual(error.code, "PROJECTION_NOT_FOUND")
      assert.deepStrictEqual(yield* store.read(ProjectionInspection.listProjections("staging")), [])
    })

    test("lose their states and dead letters when they are deleted", function* (shop) {
      const { store } = shop
      yield* shop.emit("order.placed")
      const { token } = yield* claimOwner(store)
      yield* store.write(ProjectionSaveRows.saveProjection(token, saving(0, 1, { count: 1 })))
      yield* store.write(ProjectionInspection.deleteProjection(environment, "order-totals"))

      const refused = yield* store.write(
        ProjectionSaveRows.saveProjection(token, saving(1, 1, {}, { states: [] }))
      )
      const again = yield* claimOwner(store)

      assert.strictEqual(refused._tag, "Refused")
      assert.strictEqual(again.position, 0)
      assert.isUndefined(
        yield* store.read(ProjectionInspection.getProjectionState(environment, "order-totals", "__global__"))
      )
    })

    test("list the states that have changed since a cursor, page by page", function* (shop) {
      const { store } = shop
      const it = yield* claimOwner(store, { registration: perCustomer })
      const customers = ["ada", "bob", "eve"]
      const { position } = yield* shop.emit("order.placed")
      const states = (at: number, of: ReadonlyArray<string>) =>
        of.map((partition) => ({
          partition,
          state: `{"at":${at}}`,
          position: at,
          eventId: `evt-${at}`,
          eventTime: 0
        }))
      const changes = (query: Partial<ProjectionChangeQuery>) =>
        Effect.map(
          store.read(
            ProjectionChanges.readProjectionChanges(environment, "per-customer", { limit: 10, ...query })
          ),
          ({ cursor, next, states }) => ({ cursor, next, seen: states.map(({ partition }) => partition) })
        )
      yield* store.write(
        ProjectionSaveRows.saveProjection(
          it.token,
          saving(0, position, 0, { states: states(position, customers) })
        )
      )
      const all = yield* changes({})
      const { position: later } = yield* shop.emit("order.placed")
      yield* store.write(
        ProjectionSaveRows.saveProjection(
          it.token,
          saving(position, later, 0, { states: states(later, ["bob"]) })
        )
      )

      const first = yield* changes({ limit: 2 })
      const second = yield* changes({ limit: 2, after: first.next })
      assert.deepStrictEqual([first.seen, second.seen, second.next], [["ada", "bob"], ["eve"], undefined])
      assert.deepStrictEqual([all.seen, all.next], [customers, undefined])
      assert.deepStrictEqual((yield* changes({ since: all.cursor })).seen, ["bob"])
      assert.deepStrictEqual((yield* changes({ since: all.cursor, partition: "ada" })).seen, [])
      assert.deepStrictEqual((yield* changes({ since: all.cursor, partition: "bob" })).seen, ["bob"])
      assert.deepStrictEqual((yield* changes({ since: "now" })).seen, [])
      assert.deepStrictEqual((yield* changes({ since: (yield* changes({ since: "now" })).cursor })).seen, [])
      const wrong = yield* errorOf(changes({ since: "yesterday" }))
      assert.include(wrong.message, '"yesterday" is not a cursor of a projection\'s changes')

      // states of a rebuild are hidden until it has caught up; then every state counts as changed
      const before = yield* changes({ since: "now" })
      yield* store.write(ProjectionInspection.rebuildProjection(environment, "per-customer"))
      const again = yield* claimOwner(store, { registration: perCustomer })
      yield* store.write(
        ProjectionSaveRows.saveProjection(
          again.token,
          saving(0, position, 0, { states: states(position, ["ada"]) })
        )
      )
      assert.deepStrictEqual((yield* changes({ since: before.cursor })).seen, [])
      yield* store.write(
        ProjectionSaveRows.saveProjection(
          again.token,
          saving(position, later, 0, { states: states(later, ["bob"]) })
        )
      )
      assert.deepStrictEqual((yield* changes({ since: before.cursor })).seen, ["ada", "bob"])
      assert.deepStrictEqual((yield* changes({ since: before.cursor.replace(/\d+$/, "999") })).seen, [
        "ada",
        "bob"
      ])
    })

    test("are read a few megabytes at a time, counted in bytes", function* (shop) {
      const { store } = shop
      const it = yield* claimOwner(store, { registration: perCustomer })
      const { position } = yield* shop.emit("order.placed")
      // 4.5 MB are 1.5 million of these characters: two states fill a page, and the third does not fit
      const state = JSON.stringify("€".repeat(750_000))
      const states = ["ada", "bob", "eve"].map((partition) => ({
        partition,
        state,
        position,
        eventId: "evt-1",
        eventTime: 0
      }))
      yield* store.write(ProjectionSaveRows.saveProjection(it.token, saving(0, position, 0, { states })))
      const page = yield* store.read(
        ProjectionChanges.readProjectionChanges(environment, "per-customer", { limit: 10 })
      )
      assert.deepStrictEqual(
        [page.states.map(({ partition }) => partition), page.next],
        [["ada", "bob"], "bob"]
      )
    })

    test("announce their states to observers only", function* (shop) {
      const { store } = shop
      const announced: Array<unknown> = []
      const stop = store.onCommit(({ states }) => {
        for (const { name, rebuilt, states: of, status } of states) {
          announced.push([
            name,
            status,
            rebuilt,
            of.map(({ eventName, partition, state }) => [partition, state, eventName])
          ])
        }
      })
      const it = yield* claimOwner(store)
      const one = (yield* shop.emit("order.placed")).position
      const two = (yield* shop.emit("order.paid")).position
      yield* store.write(ProjectionSaveRows.saveProjection(it.token, saving(0, one, 1)))
      const stopLooking = store.onCommit(() => undefined, { states: true })
      yield* store.write(ProjectionSaveRows.saveProjection(it.token, saving(one, two, 2)))
      yield* store.write(ProjectionSaveRows.saveProjection(it.token, saving(two, two, 2, { states: [] })))
      yield* store.write(ProjectionInspection.rebuildProjection(environment, "order-totals"))
      const again = yield* claimOwner(store)
      yield* store.write(ProjectionSaveRows.saveProjection(again.token, saving(0, one, 1)))
      yield* store.write(ProjectionSaveRows.saveProjection(again.token, saving(one, two, 0, { states: [] })))
      stopLooking()
      yield* store.write(ProjectionInspection.retryDeadLetters(environment, "order-totals", undefined))
      stop()

      assert.deepStrictEqual(announced, [
        ["order-totals", "active", false, [["__global__", "2", "order.paid"]]],
        ["order-totals", "active", true, [["__global__", "1", "order.placed"]]]
      ])
    })

    test("are named by the commit that changes them", function* (shop) {
      const { store } = shop
      yield* shop.emit("order.placed")
      const { token } = yield* claimOwner(store)
      const named: Array<string> = []
      const stop = store.onCommit(({ projections }) => void named.push(...projections))
      yield* store.write(ProjectionSaveRows.saveProjection(token, saving(0, 1, {})))
      yield* shop.emit("order.placed")
      stop()

      assert.deepStrictEqual(named, [projectionKey(environment, "order-totals")])
    })
  })

  describe("projections of runners without a token", () => {
    const handOut = (store: StoreService, name: string, limit = 10) =>
      store.write(TokenlessProjections.handOut({ environment, name, limit, leaseMs: LEASE_MS }))
    const save = (store: StoreService, name: string, position: number, state?: unknown) =>
      store.write(
        TokenlessProjections.saveTokenless({
          environment,
          name,
          position,
          ...(state === undefined ? {} : { state: JSON.stringify(state) })
        })
      )

    test("get events again until they are saved, with the state to continue from", function* (shop) {
      const { store } = shop
      for (let i = 0; i < 3; i++) yield* shop.emit("order.placed")
      yield* store.write(TokenlessProjections.register(environment, totals))

      const first = yield* handOut(store, "order-totals", 2)
      const again = yield* handOut(store, "order-totals", 2)
      yield* save(store, "order-totals", 2, { count: 2 })
      const rest = yield* handOut(store, "order-totals", 2)

      assert.deepStrictEqual(first.events, again.events)
      assert.deepStrictEqual([first.state, rest.state], [undefined, '{"count":2}'])
      assert.deepStrictEqual(
        rest.events.map(({ position }) => position),
        [3]
      )
    })

    test("save only events that were delivered since the last reset and are not saved", function* (shop) {
      const { store } = shop
      for (let i = 0; i < 3; i++) yield* shop.emit(i === 1 ? "user.created" : "order.placed")
      yield* store.write(TokenlessProjections.register(environment, totals))
      const early = yield* save(store, "order-totals", 1, {})
      yield* handOut(store, "order-totals")
      const foreign = yield* save(store, "order-totals", 2, {})
      const good = yield* save(store, "order-totals", 3, { count: 2 })
      const twice = yield* save(store, "order-totals", 3, { count: 9 })
      yield* store.write(ProjectionInspection.rebuildProjection(environment, "order-totals"))
      const stale = yield* save(store, "order-totals", 3, { count: 9 })

      assert.deepStrictEqual(
        [early, foreign, good, twice, stale].map(({ _tag }) => _tag),
        ["Refused", "Refused", "Saved", "Refused", "Refused"]
      )
      assert.strictEqual(
        (yield* store.read(ProjectionInspection.getProjection(environment, "order-totals"))).refusedSaves,
        4
      )
    })

    test("get one partition at a time, each with its own state", function* (shop) {
      const { store } = shop
      for (const customer of ["ada", "bob", "ada", "bob"]) yield* shop.emit("order.placed", { customer })
      yield* store.write(TokenlessProjections.register(environment, perCustomer))

      const ada = yield* handOut(store, "per-customer")
      yield* save(store, "per-customer", 3, { count: 2 })
      const bob = yield* handOut(store, "per-customer")
      yield* save(store, "per-customer", 4, { count: 2 })
      yield* shop.emit("order.placed", { customer: "ada" })
      const next = yield* handOut(store, "per-customer")

      const positions = [ada, bob, next].map(({ events }) => events.map(({ position }) => position))
      assert.deepStrictEqual(positions, [[1, 3], [2, 4], [5]])
      assert.deepStrictEqual([ada.state, bob.state, next.state], [undefined, undefined, '{"count":2}'])
      assert.strictEqual(
        (yield* store.read(ProjectionInspection.getProjectionState(environment, "per-customer", "bob")))
          ?.state,
        '{"count":2}'
      )
    })

    test("acknowledge events of external projections by position", function* (shop) {
      const { store } = shop
      yield* shop.emit("order.placed")
      yield* store.write(TokenlessProjections.register(environment, mails))
      yield* handOut(store, "mails")
      yield* save(store, "mails", 1)

      assert.deepStrictEqual((yield* handOut(store, "mails")).events, [])
      assert.strictEqual(
        (yield* store.read(ProjectionInspection.getProjection(environment, "mails"))).position,
        1
      )
    })

    test("are named as the owner to a worker whose expired claim they have taken over", function* (shop) {
      const { store } = shop
      yield* shop.emit("order.placed")
      const { token } = yield* claimOwner(store, { leaseMs: LEASE_MS })
      yield* TestClock.adjust(LEASE_MS)
      yield* handOut(store, "order-totals")

      const refused = yield* store.write(ProjectionSaveRows.saveProjection(token, saving(0, 1, { count: 1 })))

      assert.deepStrictEqual(refused, {
        _tag: "Refused",
        reason: "the projection belongs to legacy runners now"
      })
    })

    test("get nothing and change nothing while a worker with a token is the owner", function* (shop) {
      const { store } = shop
      yield* shop.emit("order.placed")
      yield* store.write(TokenlessProjections.register(environment, totals))
      yield* handOut(store, "order-totals")
      yield* TestClock.adjust(LEASE_MS)
      const { token } = yield* claimOwner(store)
      yield* store.write(TokenlessProjections.register(environment, { ...totals, events: ["user.*"] }))

      const handed = yield* handOut(store, "order-totals")
      const refused = yield* save(store, "order-totals", 1, { count: -1 })
      const saved = yield* store.write(ProjectionSaveRows.saveProjection(token, saving(0, 1, { count: 1 })))

      assert.deepStrictEqual(handed.events, [])
      assert.deepStrictEqual([refused._tag, saved._tag], ["Refused", "Saved"])
      assert.deepStrictEqual(
        (yield* store.read(ProjectionInspection.getProjection(environment, "order-totals"))).events,
        ["order.*"]
      )
    })
  })
}
