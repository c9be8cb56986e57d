/** Entity streams: versions, expected versions, what an append starts, snapshots, and the writes of `step.tx`. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { StreamAppend } from "../../../../src/EntityStream.ts"
import { VersionConflictError } from "../../../../src/Errors.ts"
import type { TurnOp, TxWrite } from "../../../../src/Protocol/Worker.ts"
import {
  complete,
  done,
  environment,
  handles,
  retryStep,
  type Shop,
  type ShopTest,
  suspend,
  waitFor
} from "./Shop.ts"
import * as StreamRows from "../../../../src/Engine/Streams/StreamRows.ts"
import * as KvBuckets from "../../../../src/Engine/Kv/KvBuckets.ts"
import * as KvWrites from "../../../../src/Engine/Kv/KvWrites.ts"
import * as KvRows from "../../../../src/Engine/Kv/KvRows.ts"
import * as LogRows from "../../../../src/Engine/Log/LogRows.ts"
import * as Forking from "../../../../src/Engine/Runs/Forking.ts"
import * as StreamHistory from "../../../../src/Engine/Streams/StreamHistory.ts"
import * as RunInspection from "../../../../src/Engine/Runs/RunInspection.ts"

/** An append of events `item.added`, one for each item of `data`. */
const items = (
  entityId: string,
  data: ReadonlyArray<unknown>,
  options: Partial<StreamAppend> = {}
): StreamAppend => ({
  entityId,
  entityType: "order",
  events: data.map((item) => ({ name: "item.added", version: 1, data: JSON.stringify(item) })),
  ...options
})

const append = (
  shop: Shop,
  entityId: string,
  data: ReadonlyArray<unknown> = [{}],
  options?: Partial<StreamAppend>
) => shop.store.write(StreamRows.appendToStream(environment, items(entityId, data, options)))

const read = (
  shop: Shop,
  entityId: string,
  options: { readonly fromVersion?: number; readonly limit?: number; readonly backward?: boolean } = {}
) =>
  Effect.map(
    StreamRows.readStream(shop.store, {
      environment,
      entityId,
      fromVersion: 0,
      limit: 0,
      backward: false,
      ...options
    }),
    ({ events, totalCount }) => ({
      events: events.map(({ data, entityVersion }) => [entityVersion, JSON.parse(data)]),
      totalCount
    })
  )

const transact = (stepKey: string, writes: ReadonlyArray<TxWrite>, attempt = 1): TurnOp => ({
  _tag: "Transact",
  stepKey,
  name: stepKey.slice(0, stepKey.lastIndexOf(":")),
  value: '"reserved"',
  writes,
  attempt,
  startedAt: 0,
  endedAt: 0
})

const appendWrite = (entityId: string, data: ReadonlyArray<unknown>, expectedVersion?: number): TxWrite => ({
  _tag: "append",
  ...items(entityId, data, expectedVersion === undefined ? {} : { expectedVersion })
})

const keeping = (
  bucket: string,
  key: string,
  data: string | undefined,
  expected?: number
): TxWrite & { readonly _tag: "kv" } => ({
  _tag: "kv",
  bucket,
  key,
  ...(data === undefined ? {} : { value: { type: "text", data } }),
  ...(expected === undefined ? {} : { expected })
})

/** Makes two buckets with a key `a` at revision 1. The second one is small and keeps a history. */
const makeBuckets = (shop: Shop) =>
  Effect.gen(function* () {
    yield* shop.store.write(
      KvBuckets.createBucket(environment, { name: "wide", maxValueBytes: 1000, history: 1 })
    )
    yield* shop.store.write(
      KvBuckets.createBucket(environment, {
        name: "narrow",
        maxValueBytes: 10,
        maxBytes: 20,
        history: 3
      })
    )
    for (const bucket of ["wide", "narrow"]) {
      const value = { type: "text", bytes: Buffer.from("old") } as const
      yield* shop.store.write(KvWrites.writeEntries(environment, bucket, [{ key: "a", value }]))
    }
  })

/** What the two buckets contain, as `key=value@revision`. */
const contents = (shop: Shop) =>
  Effect.forEach(["wide", "narrow"], (bucket) =>
    Effect.flatMap(
      shop.store.read(KvRows.listKeys(environment, bucket, { after: "", limit: 100 })),
      ({ keys }) =>
        Effect.forEach(keys, (key) =>
          Effect.map(
            shop.store.read(KvRows.readEntry(environment, bucket, key)),
            ({ revision, value }) => `${key}=${Buffer.from(value.bytes).toString()}@${revision}`
          )
        )
    )
  )

const emitWrite = (name: string, data: unknown): TxWrite => ({
  _tag: "emit",
  name,
  version: 1,
  data: JSON.stringify(data)
})

export const streamsSuite = (test: ShopTest): void => {
  describe("entity streams", () => {
    test("versions count from 1 in each stream, and positions in the one log", function* (shop) {
      const first = yield* append(shop, "o-1", [{ n: 1 }])
      const event = yield* shop.emit("order.placed")
      const more = yield* append(shop, "o-1", [{ n: 2 }, { n: 3 }])
      const other = yield* append(shop, "o-2")

      assert.strictEqual(first.entityVersion, 1)
      assert.deepStrictEqual(
        more.events.map(({ entityVersion }) => entityVersion),
        [2, 3]
      )
      assert.strictEqual(more.entityVersion, 3)
      assert.strictEqual(other.entityVersion, 1)
      const positions = [
        first.position,
        event.position,
        ...more.events.map(({ position }) => position),
        other.position
      ]
      assert.deepStrictEqual(
        positions,
        positions.toSorted((a, b) => a - b)
      )
      assert.strictEqual(new Set(positions).size, positions.length)
      assert.strictEqual(more.position, more.events.at(-1)?.position)
    })

    test("events are read in both directions, from a version on, and up to a limit", function* (shop) {
      yield* append(shop, "o-1", [1, 2, 3, 4, 5])

      const pageWith = (...versions: ReadonlyArray<number>) => ({
        events: versions.map((version) => [version, version]),
        totalCount: 5
      })
      assert.deepStrictEqual(yield* read(shop, "o-1"), pageWith(1, 2, 3, 4, 5))
      assert.deepStrictEqual(yield* read(shop, "o-1", { fromVersion: 4 }), pageWith(4, 5))
      assert.deepStrictEqual(yield* read(shop, "o-1", { fromVersion: 2, limit: 2 }), pageWith(2, 3))
      assert.deepStrictEqual(yield* read(shop, "o-1", { backward: true, limit: 2 }), pageWith(5, 4))
      assert.deepStrictEqual(yield* read(shop, "o-1", { backward: true, fromVersion: 2 }), pageWith(2, 1))
      assert.deepStrictEqual(yield* read(shop, "o-1", { fromVersion: 6 }), pageWith())
      assert.deepStrictEqual(yield* read(shop, "o-2"), { events: [], totalCount: 0 })
    })

    test("an append that expects another version is refused, names both, and changes nothing", function* (shop) {
      yield* append(shop, "o-1", [1, 2])

      for (const expectedVersion of [0, 1, 3, "NO_STREAM"] as const) {
        const error = yield* Effect.flip(append(shop, "o-1", [3, 4], { expectedVersion }))
        assert.instanceOf(error, VersionConflictError)
        assert.deepInclude(error, { entityId: "o-1", expectedVersion, actualVersion: 2 })
      }
      const missing = yield* Effect.flip(append(shop, "o-2", [1], { expectedVersion: "STREAM_EXISTS" }))
      assert.instanceOf(missing, VersionConflictError)
      assert.strictEqual(missing.actualVersion, 0)
      assert.strictEqual((yield* read(shop, "o-1")).totalCount, 2)
      assert.strictEqual(
        (yield* Effect.flip(shop.store.read(StreamRows.getStream(environment, "o-2")))).code,
        "STREAM_NOT_FOUND"
      )
    })

    test("an append that expects the current version is stored", function* (shop) {
      yield* append(shop, "o-1", [1], { expectedVersion: "NO_STREAM" })
      yield* append(shop, "o-1", [2], { expectedVersion: 1 })
      yield* append(shop, "o-1", [3], { expectedVersion: "STREAM_EXISTS" })
      yield* append(shop, "o-1", [4], { expectedVersion: -1 })
      yield* append(shop, "o-2", [1], { expectedVersion: 0 })

      assert.strictEqual((yield* read(shop, "o-1")).totalCount, 4)
      assert.strictEqual((yield* read(shop, "o-2")).totalCount, 1)
    })

    test("of many appends that expect the same version, one succeeds", function* (shop) {
      yield* append(shop, "o-1")

      const results = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, writer) => writer),
        (writer) => Effect.result(append(shop, "o-1", [writer], { expectedVersion: 1 })),
        { concurrency: "unbounded" }
      )

      assert.strictEqual(results.filter(({ _tag }) => _tag === "Success").length, 1)
      assert.strictEqual((yield* read(shop, "o-1")).totalCount, 2)
    })

    test("an entity has one type", function* (shop) {
      yield* append(shop, "o-1")

      const error = yield* Effect.flip(append(shop, "o-1", [1], { entityType: "cart" }))

      assert.strictEqual(error.code, "INVALID_STATE")
      assert.strictEqual((yield* read(shop, "o-1")).totalCount, 1)
    })

    test("the same idempotency key of the same entity returns the first append and stores nothing", function* (shop) {
      const first = yield* append(shop, "o-1", [1, 2], { idempotencyKey: "k", expectedVersion: 0 })

      const again = yield* append(shop, "o-1", [1, 2], { idempotencyKey: "k", expectedVersion: 0 })
      const otherEvents = yield* append(shop, "o-1", [3], { idempotencyKey: "k" })
      const otherEntity = yield* append(shop, "o-2", [1], { idempotencyKey: "k" })
      const emitted = yield* shop.emit("item.added", 1, { idempotencyKey: "k" })

      assert.deepStrictEqual(again, { ...first, duplicate: true })
      assert.deepStrictEqual(otherEvents, { ...first, duplicate: true, conflicting: true })
      assert.deepStrictEqual([otherEntity.duplicate, emitted.duplicate], [false, false])
      assert.strictEqual((yield* read(shop, "o-1")).totalCount, 2)
    })

    test("an appended event starts functions, which see its entity", function* (shop) {
      yield* shop.register(
        handles("pack", { on: ["item.*"] }),
        handles("late", { triggers: [{ event: "item.added", expression: "event.entity.version > 1" }] })
      )

      yield* append(shop, "o-1", [{ sku: "ABC" }])

      const job = yield* shop.claimOne()
      assert.strictEqual(job.functionId, "pack")
      assert.deepInclude(job.event, {
        name: "item.added",
        data: '{"sku":"ABC"}',
        entity: { id: "o-1", type: "order", version: 1 }
      })
      yield* append(shop, "o-1")
      assert.deepStrictEqual(
        (yield* shop.claim({ room: 10 })).map(({ functionId }) => functionId).toSorted(),
        ["late", "pack"]
      )
    })

    test("an appended event satisfies waits, earlier and later ones", function* (shop) {
      yield* shop.register(handles("ship"))
      const job = yield* shop.start("order.placed", { sku: "ABC" })
      yield* shop.report(job, waitFor("packed:0", "item.added", { match: "data.sku" }), suspend("packed:0"))

      yield* append(shop, "o-1", [{ sku: "XYZ" }, { sku: "ABC" }])

      const next = yield* shop.claimOne()
      assert.deepInclude(JSON.parse(String(Object(next.journal[0]?.outcome).value)), {
        name: "item.added",
        data: { sku: "ABC" },
        entity: { id: "o-1", type: "order", version: 2 }
      })
      const [looksBack] = yield* shop.report(next, waitFor("again:0", "item.added"))
      assert.strictEqual(looksBack?._tag, "Success")
    })

    test("an appended event is in the log with its entity", function* (shop) {
      const { position } = yield* append(shop, "o-1")

      const page = yield* shop.store.read(
        LogRows.readLog({
          environment,
          kind: "event",
          after: position - 1,
          limit: 1
        })
      )

      assert.deepInclude(page.entries[0], {
        position,
        name: "item.added",
        entity: { id: "o-1", type: "order", version: 1 }
      })
    })

    test("each environment has its own streams", function* (shop) {
      yield* append(shop, "o-1", [1, 2])
      yield* shop.store.write(StreamRows.appendToStream("staging", items("o-1", [1], { entityType: "cart" })))

      assert.strictEqual((yield* shop.store.read(StreamRows.getStream("staging", "o-1"))).version, 1)
      assert.strictEqual((yield* shop.store.read(StreamRows.getStream(environment, "o-1"))).version, 2)
      assert.strictEqual(
        (yield* Effect.flip(shop.store.read(StreamRows.getStream("nowhere", "o-1")))).code,
        "STREAM_NOT_FOUND"
      )
    })

    test("streams are listed by entity id, by type and in pages, with the times of their first and last event", function* (shop) {
      yield* append(shop, "b")
      yield* append(shop, "a", [1], { entityType: "cart" })
      yield* shop.pass(1000)
      yield* append(shop, "c", [1, 2])
      yield* append(shop, "b")

      const list = (more: { entityType?: string; limit?: number; offset?: number } = {}) =>
        Effect.map(
          shop.store.read(StreamRows.listStreams({ environment, limit: 10, offset: 0, ...more })),
          ({ streams, totalCount }) => [streams.map(({ entityId }) => entityId), totalCount]
        )
      assert.deepStrictEqual(yield* list(), [["a", "b", "c"], 3])
      assert.deepStrictEqual(yield* list({ entityType: "order" }), [["b", "c"], 2])
      assert.deepStrictEqual(yield* list({ limit: 1, offset: 1 }), [["b"], 3])
      const { createdAt, updatedAt, ...info } = yield* shop.store.read(StreamRows.getStream(environment, "b"))
      assert.deepStrictEqual(info, { entityId: "b", entityType: "order", version: 2 })
      assert.strictEqual(updatedAt - createdAt, 1000)
    })

    test("snapshots are found by version, and replaced", function* (shop) {
      yield* append(shop, "o-1", [1, 2, 3])
      const put = (entityVersion: number, state: unknown, entityType = "order") =>
        shop.store.write(
          StreamRows.putSnapshot({
            environment,
            entityId: "o-1",
            entityType,
            entityVersion,
            state: JSON.stringify(state)
          })
        )
      yield* put(1, "one")
      yield* put(3, "drei")
      const id = yield* put(3, "three")

      const get = (before: number) => shop.store.read(StreamRows.getSnapshot(environment, "o-1", before))
      assert.deepInclude(yield* get(0), {
        snapshotId: id,
        entityId: "o-1",
        entityType: "order",
        entityVersion: 3,
        state: '"three"'
      })
      assert.strictEqual((yield* get(3))?.entityVersion, 1)
      assert.isUndefined(yield* get(1))
      assert.isUndefined(yield* shop.store.read(StreamRows.getSnapshot(environment, "o-2", 0)))
      assert.strictEqual((yield* Effect.flip(put(4, "four"))).code, "VALIDATION_ERROR")
      assert.strictEqual((yield* Effect.flip(put(1, "one", "cart"))).code, "INVALID_STATE")
    })
  })

  describe("the history of an entity", () => {
    const history = (
      shop: Shop,
      options: { fromVersion?: number; limit?: number; backward?: boolean } = {}
    ) =>
      Effect.map(
        shop.store.read(
          StreamHistory.readStreamHistory({
            environment,
            entityId: "o-1",
            fromVersion: 0,
            limit: 100,
            backward: false,
            ...options
          })
        ),
        ({ entries, info, nextVersion }) => ({
          entries: entries.map(({ event, runs }) => [
            event.entityVersion,
            ...runs.map((run) => ({
              functionId: run.functionId,
              status: run.status,
              steps: run.steps.map(({ id, status }) => [id.slice(run.id.length), status])
            }))
          ]),
          version: info.version,
          nextVersion
        })
      )

    test("shows runs that its events started, and no others", function* (shop) {
      yield* shop.register(
        handles("order", { on: ["item.added"] }),
        handles("count", { triggers: [{ event: "item.added", expression: "event.data.n == 2" }] }),
        handles("other"),
        handles("child", { on: [] })
      )
      yield* shop.emit("order.placed")
      yield* append(shop, "o-1", [{ n: 1 }])
      yield* append(shop, "o-2", [{ n: 1 }])
      yield* append(shop, "o-1", [{ n: 2 }, { n: 3 }])
      const [first] = yield* shop.claim({ functions: ["order"] })
      // a child run starts at the end of the log, where the last event of the entity is
      yield* shop.report(
        first!,
        done("check:0"),
        { _tag: "Invoke", stepKey: "ask:0", name: "ask", functionId: "child", input: "1", timeoutMs: 1000 },
        suspend("ask:0")
      )
      yield* shop.emit("order.placed")

      const pending = { status: "pending" as const, steps: [] }
      assert.deepStrictEqual(yield* history(shop), {
        entries: [
          [
            1,
            {
              functionId: "order",
              status: "waiting",
              steps: [
                [":check:0", "completed"],
                [":ask:0", "waiting"]
              ]
            }
          ],
          [2, { functionId: "order", ...pending }, { functionId: "count", ...pending }],
          [3, { functionId: "order", ...pending }]
        ],
        version: 3,
        nextVersion: undefined
      })
    })

    test("shows the runs of every function, in the order of the functions' runs, and forks", function* (shop) {
      yield* shop.register(
        handles("order", { on: ["item.added"] }),
        handles("ship", { on: ["item.added"] }),
        handles("count", { on: ["item.added"] })
      )
      yield* append(shop, "o-1", [1, 2, 3])
      const [first] = yield* shop.claim({ functions: ["order"] })
      for (let n = 0; n < 5; n++) yield* shop.store.write(Forking.forkRun(environment, first!.runId, {}))
      yield* append(shop, "o-1", [4])

      const found = yield* history(shop)
      const functionsOf = ([version, ...runs]: ReadonlyArray<unknown>) => [
        version,
        ...runs.map((run) => Object(run).functionId as string).sort()
      ]
      assert.deepStrictEqual(found.entries.map(functionsOf), [
        [1, "count", ...Array.from({ length: 6 }, () => "order"), "ship"],
        [2, "count", "order", "ship"],
        [3, "count", "order", "ship"],
        [4, "count", "order", "ship"]
      ])
    })

    test("comes in pages in both directions, and only for an existing stream", function* (shop) {
      yield* append(shop, "o-1", [1, 2, 3, 4, 5])

      const forward = yield* history(shop, { limit: 2, fromVersion: 2 })
      const backward = yield* history(shop, { limit: 2, fromVersion: 2, backward: true })
      const last = yield* history(shop, { limit: 2, backward: true })

      assert.deepStrictEqual([forward.entries, forward.nextVersion], [[[2], [3]], 4])
      assert.deepStrictEqual([backward.entries, backward.nextVersion], [[[2], [1]], undefined])
      assert.deepStrictEqual([last.entries, last.nextVersion], [[[5], [4]], 3])
      const none = yield* Effect.flip(
        shop.store.read(
          StreamHistory.readStreamHistory({
            environment,
            entityId: "o-9",
            fromVersion: 0,
            limit: 1,
            backward: false
          })
        )
      )
      assert.strictEqual(none._tag, "StreamNotFoundError")
    })
  })

  describe("the writes of a step", () => {
    test("are stored with the step, in order, and answered with their results", function* (shop) {
      yield* shop.register(handles("reserve"), handles("notify", { on: ["order.reserved"] }))
      const job = yield* shop.start()

      const [outcome] = yield* shop.report(
        job,
        transact("reserve:0", [
          appendWrite("stock", [1, 2], 0),
          emitWrite("order.reserved", { orderId: "o-1" }),
          appendWrite("stock", [3], 2)
        ])
      )

      const stored = JSON.parse(String(Object(outcome).value))
      assert.strictEqual(stored.value, "reserved")
      assert.deepStrictEqual(
        stored.writes.map(({ _tag, entityVersion }: any) => [_tag, entityVersion]),
        [
          ["append", 2],
          ["emit", undefined],
          ["append", 3]
        ]
      )
      assert.deepStrictEqual(
        (yield* read(shop, "stock")).events.map(([version]) => version),
        [1, 2, 3]
      )
      const [started] = yield* shop.claim({ functions: ["notify"] })
      assert.deepStrictEqual(stored.writes[1].runIds, [started?.runId])
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["reserve:0 completed"])
      const [step] = yield* RunInspection.getRunSteps(shop.store, environment, job.runId)
      assert.deepInclude(step, { kind: "tx", output: stored })
    })

    test("are dropped together when one of them is refused, and the step may be tried again", function* (shop) {
      yield* shop.register(handles("reserve"))
      yield* append(shop, "stock")
      const job = yield* shop.start()
      const before = yield* shop.emit("marker")

      const [refused] = yield* shop.report(
        job,
        transact("reserve:0", [
          emitWrite("order.reserved", {}),
          appendWrite("stock", [2], 1),
          appendWrite("stock", [3], 1)
        ])
      )

      assert.deepInclude(Object(refused).error, { name: "VersionConflictError", retryable: true })
      assert.deepStrictEqual(Object(refused).error.data.details, {
        entityId: "stock",
        expectedVersion: 1,
        actualVersion: 2
      })
      assert.strictEqual((yield* read(shop, "stock")).totalCount, 1)
      assert.deepStrictEqual(yield* shop.steps(job.runId), [])
      const after = yield* shop.emit("marker")
      assert.strictEqual(after.position, before.position + 1, "nothing was added to the log")

      yield* shop.report(job, retryStep("reserve:0", 1, 1000))
      yield* shop.pass(1000)
      const [outcome] = yield* shop.report(job, transact("reserve:0", [appendWrite("stock", [2], 1)], 2))
      assert.strictEqual(outcome?._tag, "Success")
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["reserve:0 completed"])
      yield* shop.report(job, complete())
    })

    test("are not repeated by a report that comes twice", function* (shop) {
      yield* shop.register(handles("reserve"))
      const job = yield* shop.start()
      const op = transact("reserve:0", [appendWrite("stock", [1])])

      const [first] = yield* shop.report(job, op)
      const [again] = yield* shop.report(job, op)

      assert.deepStrictEqual(again, first)
      assert.strictEqual((yield* read(shop, "stock")).totalCount, 1)
    })

    test("change keys of several buckets, and return their revisions in the order of the calls", function* (shop) {
      yield* shop.register(handles("reserve"))
      yield* makeBuckets(shop)
      const job = yield* shop.start()

      const [outcome] = yield* shop.report(
        job,
        transact("reserve:0", [
          keeping("wide", "a", "new", 1),
          keeping("narrow", "b", "b", 0),
          appendWrite("stock", [1]),
          keeping("wide", "b", undefined),
          keeping("narrow", "a", undefined, 1),
          keeping("wide", "c", "c")
        ])
      )

      const { writes } = JSON.parse(String(Object(outcome).value))
      assert.deepStrictEqual(
        writes.map(({ bucket, key, revision, _tag }: any) => [_tag, bucket, key, revision]),
        [
          ["kv", "wide", "a", 2],
          ["kv", "narrow", "b", 2],
          ["append", undefined, undefined, undefined],
          ["kv", "wide", "b", 0],
          ["kv", "narrow", "a", 3],
          ["kv", "wide", "c", 3]
        ]
      )
      assert.deepStrictEqual(yield* contents(shop), [["a=new@2", "c=c@3"], ["b=b@2"]])
      assert.deepStrictEqual(
        shop.lastChanges?.kv.map(({ key, revision }) => `${key}@${revision}`),
        ["a@2", "c@3", "b@2", "a@3"],
        "watchers are notified"
      )
    })

    test("of keys are dropped when a later one is refused, and no watcher sees them", function* (shop) {
      yield* shop.register(handles("reserve"))
      yield* makeBuckets(shop)
      const job = yield* shop.start()
      const good = [keeping("wide", "a", "new", 1), appendWrite("stock", [1])]
      const refusals = [
        ["RevisionConflictError", keeping("narrow", "a", "new", 2)],
        ["RevisionConflictError", keeping("narrow", "a", "new", 0)],
        ["RevisionConflictError", keeping("narrow", "b", undefined, 1)],
        ["BucketNotFoundError", keeping("none", "a", "new")],
        ["LimitExceededError", keeping("narrow", "b", "longer than 10")],
        // 4 bytes are stored, and two more values of 9 bytes are too many
        ["LimitExceededError", keeping("narrow", "b", "12345678"), keeping("narrow", "c", "12345678")],
        ["VersionConflictError", keeping("narrow", "b", "b"), appendWrite("stock", [2], 0)]
      ] as const

      for (const [name, ...writes] of refusals) {
        const [refused] = yield* shop.report(job, transact("reserve:0", [...good, ...writes]))

        assert.strictEqual(Object(refused).error.name, name)
        assert.strictEqual(Object(refused).error.retryable, /Conflict/.test(name))
        assert.deepStrictEqual(yield* contents(shop), [["a=old@1"], ["a=old@1"]])
        assert.strictEqual((yield* read(shop, "stock")).totalCount, 0)
        assert.deepStrictEqual(shop.lastChanges?.kv ?? [], [])
      }
      assert.deepStrictEqual(yield* shop.steps(job.runId), [])

      const [stored] = yield* shop.report(job, transact("reserve:0", good, 2))
      assert.strictEqual(stored?._tag, "Success")
      assert.deepStrictEqual(yield* contents(shop), [["a=new@2"], ["a=old@1"]])
    })

    test("of keys are not repeated by a report that comes twice", function* (shop) {
      yield* shop.register(handles("reserve"))
      yield* makeBuckets(shop)
      const job = yield* shop.start()
      const op = transact("reserve:0", [keeping("wide", "a", "new", 1), keeping("narrow", "a", "new")])

      const [first] = yield* shop.report(job, op)
      const [again] = yield* shop.report(job, op)

      assert.deepStrictEqual(again, first)
      assert.deepStrictEqual(yield* contents(shop), [["a=new@2"], ["a=new@2"]])
    })

    test("report trigger expressions that fail for them", function* (shop) {
      yield* shop.register(
        handles("reserve"),
        handles("big", { triggers: [{ event: "order.reserved", expression: "event.data.amount > 100" }] })
      )
      const job = yield* shop.start()

      yield* shop.report(job, transact("reserve:0", [emitWrite("order.reserved", {})]))

      const warnings = shop.lastChanges?.warnings ?? []
      assert.strictEqual(warnings.length, 1)
      assert.include(warnings[0], 'function "big"')
    })

    test("of a worker that has lost its lease are not stored", function* (shop) {
      yield* shop.register(handles("reserve"))
      const job = yield* shop.start("order.placed", {}, { leaseMs: 1000 })
      yield* shop.pass(1000)

      assert.strictEqual(
        yield* shop.refused(job, transact("reserve:0", [appendWrite("stock", [1])])),
        "LEASE_LOST"
      )
      assert.strictEqual((yield* read(shop, "stock")).totalCount, 0)
    })

    test("share a report with other steps", function* (shop) {
      yield* shop.register(handles("reserve"))
      const job = yield* shop.start()

      const outcomes = yield* shop.report(
        job,
        done("check:0"),
        transact("reserve:0", []),
        complete("all well")
      )

      assert.deepStrictEqual(outcomes[1], { _tag: "Success", value: '{"value":"reserved","writes":[]}' })
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["check:0 completed", "reserve:0 completed"])
    })
  })
}
