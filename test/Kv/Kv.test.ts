/** The key-value store as users see it: with the Promise API, in the process and over HTTP. */
import {
  BucketExistsError,
  BucketNotFoundError,
  createClient,
  type IronflowClient,
  KeyNotFoundError,
  KVBucketHandle,
  KVClient,
  type KVWatchEvent,
  LimitExceededError,
  RevisionConflictError,
  ValidationError
} from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"

describe.each(["in process", "over HTTP"])("the key-value store %s", (where) => {
  let engine: IronflowEngine
  let client: IronflowClient
  beforeEach(async () => {
    engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    client = where === "in process" ? engine.client : createClient({ serverUrl: engine.url })
  })
  afterEach(async () => {
    await client.close()
    await engine.close()
  })

  const bucketOf = async (options = {}): Promise<KVBucketHandle> => {
    await client.kv().createBucket({ name: "orders", ...options })
    return client.kv().bucket("orders")
  }

  it.each([
    ["an object", { token: "abc", list: [1, null, true], __proto__: null }],
    ["an array", [1, "two", { three: 3 }]],
    ["null", null],
    ["a number", -1.5],
    ["a boolean", false],
    ["a string", "plain text"],
    ["a string that looks like JSON", '{"a":1}'],
    ["a string that looks like base64", "aGVsbG8="],
    ["an empty string", ""],
    ["a string of other alphabets", "Größe 物 🦀"],
    ["bytes", new Uint8Array([0, 255, 128, 10])],
    ["bytes that are text", new TextEncoder().encode("text")],
    ["no bytes", new Uint8Array()]
  ])("returns %s unchanged", async (_, value) => {
    const bucket = await bucketOf()

    const { revision } = await bucket.put("key", value)
    const entry = await bucket.get("key")

    expect(entry.value).toEqual(value)
    expect(entry.value instanceof Uint8Array).toBe(value instanceof Uint8Array)
    expect(entry).toMatchObject({ key: "key", revision, operation: "put" })
    expect(Date.parse(entry.created_at)).not.toBeNaN()
  })

  it("creates buckets with their options, lists, describes and deletes them", async () => {
    const kv = client.kv()
    const config = {
      name: "sessions",
      description: "who is here",
      ttlSeconds: 3600,
      maxValueSize: 1000,
      maxBytes: 100_000,
      history: 3
    }

    const created = await kv.createBucket(config)
    await kv.createBucket({ name: "carts" })
    await kv.bucket("sessions").put("user-1", "ab")

    expect(created).toMatchObject({
      name: "sessions",
      description: "who is here",
      ttl_seconds: 3600,
      max_value_size: 1000,
      max_bytes: 100_000,
      history: 3,
      values: 0,
      bytes: 0
    })
    expect((await kv.listBuckets()).map(({ name, values }) => [name, values])).toEqual([
      ["carts", 0],
      ["sessions", 1]
    ])
    expect(await kv.getBucketInfo("sessions")).toMatchObject({ values: 1, bytes: 8, revision: 1 })
    await expect(kv.createBucket(config)).rejects.toBeInstanceOf(BucketExistsError)

    await kv.deleteBucket("sessions")
    const gone = kv.bucket("sessions")
    const outcomes = await Promise.allSettled([
      kv.deleteBucket("sessions"),
      kv.getBucketInfo("sessions"),
      gone.get("user-1"),
      gone.put("user-1", 1),
      gone.delete("user-1"),
      gone.listKeys(),
      gone.write([{ op: "put", key: "user-1", value: 1 }])
    ])
    for (const outcome of outcomes)
      expect(outcome).toMatchObject({ status: "rejected", reason: { _tag: "BucketNotFoundError" } })
  })

  it("has no keys of an earlier bucket in a recreated one, and no earlier revision matches", async () => {
    const bucket = await bucketOf()
    await bucket.put("a", 1)
    const { revision } = await bucket.put("b", 1)
    await client.kv().deleteBucket("orders")

    const again = await bucketOf()
    const put = await again.put("b", 2)

    expect(await again.listKeys()).toEqual(["b"])
    expect(put.revision).toBeGreaterThan(revision)
    await expect(again.update("b", 3, revision)).rejects.toBeInstanceOf(RevisionConflictError)
  })

  it("lets create and update succeed once, and otherwise reports the current revision", async () => {
    const bucket = await bucketOf()

    const { revision } = await bucket.create("user:1", "first")
    const created = await bucket.create("user:1", "second").catch((error: unknown) => error)
    const updated = await bucket.update("user:1", "third", revision)
    const stale = await bucket.update("user:1", "fourth", revision).catch((error: unknown) => error)
    const absent = await bucket.update("user:2", "x", 7).catch((error: unknown) => error)

    expect(created).toBeInstanceOf(RevisionConflictError)
    expect(created).toMatchObject({ expected: 0, actual: revision, bucket: "orders", key: "user:1" })
    expect(stale).toBeInstanceOf(RevisionConflictError)
    expect(stale).toMatchObject({ expected: revision, actual: updated.revision, code: "REVISION_CONFLICT" })
    expect(absent).toMatchObject({ expected: 7, actual: 0, _tag: "RevisionConflictError" })
    expect((await bucket.get("user:1")).value).toBe("third")
  })

  it("lets one of many writers of a revision succeed", async () => {
    const bucket = await bucketOf()
    const { revision } = await bucket.put("counter", 0)

    const outcomes = await Promise.allSettled(
      Array.from({ length: 32 }, (_, i) => bucket.update("counter", i, revision))
    )

    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1)
  })

  it("keeps the history of a deleted key, which can be created again, and not that of a purged key", async () => {
    const bucket = await bucketOf({ history: 5 })
    await bucket.put("a", 1)
    await bucket.put("a", 2)

    await bucket.delete("a")
    await bucket.delete("a")
    await bucket.delete("never there")

    await expect(bucket.get("a")).rejects.toBeInstanceOf(KeyNotFoundError)
    expect((await bucket.history("a")).map(({ operation, value }) => [operation, value])).toEqual([
      ["put", 1],
      ["put", 2],
      ["delete", undefined]
    ])
    await bucket.create("a", 3)
    expect((await bucket.history("a")).map(({ value }) => value)).toEqual([1, 2, undefined, 3])

    await bucket.purge("a")
    await expect(bucket.history("a")).rejects.toBeInstanceOf(KeyNotFoundError)
    expect(await client.kv().getBucketInfo("orders")).toMatchObject({ values: 0, bytes: 0 })
  })

  it("keeps as many revisions as the bucket allows", async () => {
    const bucket = await bucketOf({ history: 3 })
    for (let i = 0; i < 10; i++) await bucket.put("a", i)

    expect((await bucket.history("a")).map(({ value }) => value)).toEqual([7, 8, 9])
    expect(await client.kv().getBucketInfo("orders")).toMatchObject({ values: 1, bytes: 6 })
  })

  it.each([
    [undefined, ["a/b c", "order.1.item", "order.2", "user-1", "user-2"]],
    [">", ["a/b c", "order.1.item", "order.2", "user-1", "user-2"]],
    ["user-*", ["user-1", "user-2"]],
    ["*-1", ["user-1"]],
    ["order.*", ["order.2"]],
    ["order.>", ["order.1.item", "order.2"]],
    ["*.1.*", ["order.1.item"]],
    ["user-1", ["user-1"]],
    ["nobody", []]
  ])("finds the keys of listKeys(%j), in order", async (filter, keys) => {
    const bucket = await bucketOf()
    for (const key of ["user-2", "user-1", "order.2", "order.1.item", "a/b c", "gone"])
      await bucket.put(key, 1)
    await bucket.delete("gone")

    expect(await bucket.listKeys(filter)).toEqual(keys)
  })

  it.each([
    "a/b",
    "a//b",
    "../up",
    "a/./b",
    "user:1",
    "50%",
    "a b?c#d",
    "%2F",
    "é/ü",
    "*",
    "/",
    "a.b.c",
    "watch"
  ])("treats the key %j like any other", async (key) => {
    const bucket = await bucketOf()

    await bucket.create(key, { key })
    const entry = await bucket.get(key)
    const history = await bucket.history(key)
    await bucket.update(key, 2, entry.revision)
    await bucket.delete(key)

    expect(entry).toMatchObject({ key, value: { key } })
    expect(history).toHaveLength(1)
    expect(await bucket.listKeys()).toEqual([])
  })

  it("writes several keys together or not at all", async () => {
    const bucket = await bucketOf()
    const { revision } = await bucket.put("stock", 5)
    await bucket.put("old", 1)

    const { revisions } = await bucket.write([
      { op: "update", key: "stock", value: 4, revision },
      { op: "create", key: "order-1", value: new Uint8Array([1]) },
      { op: "put", key: "log", value: "sold" },
      { op: "delete", key: "old" }
    ])
    const refused = await bucket
      .write([
        { op: "put", key: "log", value: "sold again" },
        { op: "update", key: "stock", value: 3, revision }
      ])
      .catch((error: unknown) => error)

    expect(revisions).toEqual([3, 4, 5, 6])
    expect(refused).toMatchObject({ _tag: "RevisionConflictError", key: "stock", expected: 1, actual: 3 })
    expect((await bucket.get("log")).value).toBe("sold")
    expect((await bucket.get("order-1")).value).toEqual(new Uint8Array([1]))
    expect(await bucket.listKeys()).toEqual(["log", "order-1", "stock"])
    await expect(
      bucket.write([
        { op: "put", key: "a", value: 1 },
        { op: "delete", key: "a" }
      ])
    ).rejects.toThrow("twice")
  })

  it("refuses too large values and writes to full buckets, and changes nothing", async () => {
    const bucket = await bucketOf({ maxValueSize: 10, maxBytes: 20 })
    await bucket.put("a", "12345678")

    await expect(bucket.put("a", "12345678901")).rejects.toMatchObject({
      _tag: "ValidationError",
      size: 11,
      limit: 10
    })
    await expect(bucket.put("b", "1234567890")).resolves.toBeDefined()
    await expect(bucket.put("c", "")).rejects.toBeInstanceOf(LimitExceededError)
    await expect(
      bucket.write([
        { op: "delete", key: "a" },
        { op: "put", key: "cc", value: "1234567" }
      ])
    ).resolves.toBeDefined()
    expect(await client.kv().getBucketInfo("orders")).toMatchObject({ bytes: 20, values: 2 })
  })

  it.each([
    ["a bucket without a name", () => client.kv().createBucket({} as never)],
    ["a bucket with an invalid name", () => client.kv().createBucket({ name: "no spaces" })],
    ["a bucket with a reserved name", () => client.kv().createBucket({ name: "$config" })],
    ["a negative time to live", () => client.kv().createBucket({ name: "b", ttlSeconds: -1 })],
    [
      "a time to live that is not a number",
      () => client.kv().createBucket({ name: "b", ttlSeconds: Number.NaN })
    ],
    ["a history that is too long", () => client.kv().createBucket({ name: "b", history: 65 })],
    ["a history that is a fraction", () => client.kv().createBucket({ name: "b", history: 1.5 })],
    [
      "a limit for values that is too large",
      () => client.kv().createBucket({ name: "b", maxValueSize: 2 ** 21 })
    ],
    ["an empty key", () => client.kv().bucket("orders").put("", 1)],
    ["a key of dots", () => client.kv().bucket("orders").put("..", 1)],
    ["a key with a control character", () => client.kv().bucket("orders").put("a\nb", 1)],
    ["a key that is too long", () => client.kv().bucket("orders").put("k".repeat(1025), 1)],
    [
      "a key that is not a string",
      () =>
        client
          .kv()
          .bucket("orders")
          .get(5 as never)
    ],
    ["undefined", () => client.kv().bucket("orders").put("a", undefined)],
    ["a BigInt", () => client.kv().bucket("orders").put("a", { big: 1n })],
    [
      "a function",
      () =>
        client
          .kv()
          .bucket("orders")
          .put("a", () => 1)
    ],
    [
      "a value over 1 MiB",
      () =>
        client
          .kv()
          .bucket("orders")
          .put("a", "x".repeat(2 ** 20 + 1))
    ],
    ["revision 0", () => client.kv().bucket("orders").update("a", 1, 0)],
    [
      "a revision that is not a number",
      () =>
        client
          .kv()
          .bucket("orders")
          .update("a", 1, "1" as never)
    ],
    ["no change at all", () => client.kv().bucket("orders").write([])],
    [
      "an unknown change",
      () =>
        client
          .kv()
          .bucket("orders")
          .write([{ op: "move", key: "a" } as never])
    ],
    [
      "a filter that is not a string",
      () =>
        client
          .kv()
          .bucket("orders")
          .listKeys(5 as never)
    ]
  ])("refuses %s with a ValidationError", async (_, call) => {
    await bucketOf()

    await expect(call()).rejects.toBeInstanceOf(ValidationError)

    expect((await client.kv().listBuckets()).map(({ values }) => values)).toEqual([0])
  })

  it("says that `create` writes a key that does not exist", async () => {
    const bucket = await bucketOf()

    await expect(bucket.update("user-1", "ada", 0)).rejects.toThrow("`create` writes such a key")
  })

  describe("a watch", () => {
    it("sees every change of its keys from its start, in order", async () => {
      const bucket = await bucketOf()
      await bucket.put("user-1", "before")
      await using watcher = bucket.watch("user-*")
      await watcher.ready

      // their order is not known, because they may use different connections
      const puts = await Promise.all(
        Array.from({ length: 40 }, async (_, value) => ({ value, ...(await bucket.put("user-1", value)) }))
      )
      const inOrder = puts.toSorted((a, b) => a.revision - b.revision).map(({ value }) => value)
      await bucket.put("order-1", "another")
      await bucket.delete("user-1")
      await bucket.purge("user-1")

      const seen: Array<KVWatchEvent> = []
      for await (const event of watcher) if (seen.push(event) === 42) break
      expect(seen.slice(0, 40).map(({ value }) => value)).toEqual(inOrder)
      expect(seen.slice(40).map(({ operation }) => operation)).toEqual(["delete", "purge"])
      expect(seen.map(({ revision }) => revision)).toEqual(
        seen.map(({ revision }) => revision).toSorted((a, b) => a - b)
      )
      expect(seen[0]).toEqual({
        bucket: "orders",
        key: "user-1",
        value: inOrder[0],
        revision: 2,
        operation: "put"
      })
    })

    it("from a revision begins with what has changed since", async () => {
      const bucket = await bucketOf()
      await bucket.put("a", 1)
      const { revision } = await bucket.put("b", 2)
      await bucket.put("c", new Uint8Array([3]))
      await bucket.delete("a")

      const keysFrom = async (fromRevision: number, count: number) => {
        const keys: Array<unknown> = []
        for await (const { key, value } of bucket.watch(undefined, { fromRevision }))
          if (keys.push([key, value]) === count) break
        return keys
      }

      const since = [
        ["c", new Uint8Array([3])],
        ["a", undefined]
      ]
      expect(await keysFrom(revision, 2)).toEqual(since)
      expect(await keysFrom(0, 3)).toEqual([["b", 2], ...since])
    })

    it("calls back, and ends when it is stopped", async () => {
      const bucket = await bucketOf()
      const updates: Array<unknown> = []
      const onClose = vi.fn()
      const watcher = bucket.watch(
        { onUpdate: ({ value }) => void updates.push(value), onClose },
        { key: "a" }
      )
      await watcher.ready

      await bucket.put("a", 1)
      await bucket.put("b", 2)
      await bucket.put("a", 3)
      await vi.waitFor(() => expect(updates).toEqual([1, 3]))
      await watcher.stop()

      expect(onClose).toHaveBeenCalledOnce()
    })

    it("that is slow sees the latest value of each key", async () => {
      const bucket = await bucketOf()
      await using watcher = bucket.watch()
      await watcher.ready

      const value = "x".repeat(100_000)
      for (let i = 0; i < 20; i++)
        await Promise.all(Array.from({ length: 20 }, (_, j) => bucket.put(`key-${j}`, value + i)))

      const latest = new Map<string, number>()
      let seen = 0
      for await (const { key, value } of watcher) {
        seen++
        latest.set(key, Number(String(value).slice(100_000)))
        if (latest.size === 20 && [...latest.values()].every((i) => i === 19)) break
      }
      // earlier values of a key were dropped while the watcher was slow
      expect(seen).toBeLessThan(400)
      expect(latest.size).toBe(20)
    })

    it("of a missing bucket is refused, and ends when its bucket is deleted", async () => {
      await expect(client.kv().bucket("nowhere").watch().ready).rejects.toBeInstanceOf(BucketNotFoundError)
      const bucket = await bucketOf()
      const onError = vi.fn()
      const watcher = bucket.watch({ onUpdate: () => undefined, onError })
      await watcher.ready

      await client.kv().deleteBucket("orders")

      await vi.waitFor(() => expect(onError).toHaveBeenCalledOnce())
      expect(onError.mock.calls[0]?.[0]).toBeInstanceOf(BucketNotFoundError)
    })

    it("sees an expiry, after which the key cannot be read", async () => {
      const bucket = await bucketOf({ ttlSeconds: 0.2 })
      await using watcher = bucket.watch()
      await watcher.ready

      await bucket.put("a", 1)
      const seen: Array<string> = []
      for await (const { operation } of watcher) if (seen.push(operation) === 2) break

      expect(seen).toEqual(["put", "expire"])
      await expect(bucket.get("a")).rejects.toBeInstanceOf(KeyNotFoundError)
      expect(await bucket.listKeys()).toEqual([])
      await bucket.create("a", 2)
    })
  })

  it("does not block a change by a loop of reads that waits for it", async () => {
    const bucket = await bucketOf()
    await bucket.put("flag", false)
    let writing: Promise<unknown> | undefined
    setImmediate(() => void (writing = bucket.put("flag", true)))

    const deadline = performance.now() + 5000
    while ((await bucket.get("flag")).value !== true) {
      if (performance.now() > deadline) expect.fail("the write never came to pass")
    }

    await writing
  })

  it("does not share buckets between environments", async () => {
    await bucketOf()
    await using staging =
      where === "in process"
        ? createClient({ engine, environment: "staging" })
        : createClient({ serverUrl: engine.url, environment: "staging" })

    expect(await staging.kv().listBuckets()).toEqual([])
  })

  it("can be used with KVClient and KVBucketHandle alone, which report errors", async () => {
    const onError = vi.fn()
    await using kv = new KVClient({ serverUrl: engine.url, onError })
    await kv.createBucket({ name: "alone" })
    await using bucket = new KVBucketHandle("alone", { serverUrl: engine.url, onError })

    await bucket.put("a", 1)
    await expect(bucket.get("b")).rejects.toBeInstanceOf(KeyNotFoundError)
    await expect(kv.bucket("alone").get("c")).rejects.toBeInstanceOf(KeyNotFoundError)

    expect(onError.mock.calls.map(([, context]) => context)).toEqual([
      { method: "kv.bucket.get", endpoint: "/api/v1/kv/buckets/alone/keys/b", statusCode: 404 },
      { method: "kv.bucket.get", endpoint: "/api/v1/kv/buckets/alone/keys/c", statusCode: 404 }
    ])
    expect(() => new KVClient({ serverUrl: "nonsense" })).toThrow(ValidationError)
  })
})
