/**
 * Watches of keys. A watch first reads the stored changes after the revision at which it begins, and from then on gets the changes
 * of each commit.
 *
 * A watcher that does not keep up loses its queued changes, and reads the database again from the last change that it has passed
 * on. So the queues need little memory, and no key is missed: the database has the latest change of each key, and keeps the
 * deletion of a key for a day.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { IronflowError } from "../../Errors.ts"
import { Store, type StoreService } from "../Store/Store.ts"
import type { Changes, KvChange } from "../Store/Changes.ts"
import type { KvChangePage } from "./KvRecords.ts"

/** Maximum number of changes that one read returns. */
const PAGE_LENGTH = 256
/** Maximum number of changes that are queued for one watcher. */
const MAX_QUEUED = 1024
/** Maximum number of bytes of values that are queued for one watcher. */
const MAX_QUEUED_BYTES = 256 * 1024

export interface FeedOptions<E> {
  /** Reads the changes after the revision `after`; with `undefined`, the changes after the last revision. */
  readonly read: (after: number | undefined, limit: number) => Effect.Effect<KvChangePage, E>
  /** The watch begins after this revision; if it is `undefined`, after the last revision. */
  readonly startAfter: number | undefined
  readonly accepts: (key: string) => boolean
  /** Called when the watch has begun, with the revision after which it begins. */
  readonly onOpen: (revision: number) => void
  /** Makes the error with which a watch ends when its bucket is deleted. */
  readonly deletedError: () => E
}

export class KvFeedService {
  readonly #watchers = new Set<Watcher>()

  /** From now on, tells the watchers of each commit of the store. Returns a function that ends this. */
  attach(store: StoreService): () => void {
    return store.onCommit((changes) => {
      if (this.#watchers.size === 0) return
      const { kv, deletedBuckets, bucketsChangedByOthers, stale } = changes
      if (kv.length + deletedBuckets.length + bucketsChangedByOthers.length === 0 && !stale.has("kv")) return
      for (const watcher of this.#watchers) watcher.notify(changes)
    })
  }

  /** The changes of accepted keys, in order. The stream ends by an error or by interruption. */
  watch<E extends IronflowError>(options: FeedOptions<E>): Stream.Stream<KvChange, E> {
    return Stream.callback<KvChange, E>(
      (queue) =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            const watcher = new Watcher()
            this.#watchers.add(watcher)
            return watcher
          }),
          (watcher) => Effect.catch(follow(watcher, queue, options), (error) => Queue.fail(queue, error)),
          (watcher) => Effect.sync(() => this.#watchers.delete(watcher))
        ),
      { bufferSize: 1, strategy: "suspend" }
    )
  }
}

export class KvFeed extends Context.Service<KvFeed, KvFeedService>()("@ironflow/node/Engine/KvFeed") {}

export const layer: Layer.Layer<KvFeed, never, Store> = Layer.effect(
  KvFeed,
  Effect.gen(function* () {
    const feed = new KvFeedService()
    const stop = feed.attach(yield* Store)
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    return feed
  })
)

const follow = <E>(
  watcher: Watcher,
  queue: Queue.Queue<KvChange, E>,
  { accepts, deletedError, startAfter, onOpen, read }: FeedOptions<E>
): Effect.Effect<never, E> =>
  Effect.gen(function* () {
    let after = startAfter
    let bucket: number | undefined
    while (true) {
      // queues changes before it reads, so that no change is missed between the page and the queue
      watcher.restart()
      const page: KvChangePage = yield* read(after, PAGE_LENGTH)
      if (bucket !== undefined && bucket !== 0 && bucket !== page.bucket)
        return yield* Effect.fail(deletedError())
      if (bucket === undefined) onOpen(startAfter ?? page.revision)
      bucket = page.bucket
      watcher.bucket = bucket
      for (const change of page.changes) if (accepts(change.key)) yield* Queue.offer(queue, change)
      after = page.revision
      if (!page.atEnd) continue
      for (let next = yield* watcher.next; next !== "behind"; next = yield* watcher.next) {
        if (next === "deleted") return yield* Effect.fail(deletedError())
        for (const change of next) {
          if (change.bucket !== bucket || change.revision <= after) continue
          after = change.revision
          if (accepts(change.key)) yield* Queue.offer(queue, change)
        }
      }
    }
  })

class Watcher {
  #queued: Array<KvChange> = []
  #bytes = 0
  #isBehind = false
  #isDeleted = false
  #waiting: Deferred.Deferred<void> | undefined
  /** The bucket whose changes are queued. 0 stands for all buckets, while the bucket is unknown or does not exist. */
  bucket = 0

  restart(): void {
    this.#queued = []
    this.#bytes = 0
    this.#isBehind = false
  }

  notify({ isInOrder, kv, deletedBuckets, bucketsChangedByOthers, stale }: Changes): void {
    // while there is no bucket, a change of any bucket makes the watcher read again
    const isWatched = (bucket: number): boolean => this.bucket === 0 || bucket === this.bucket
    if (stale.has("kv") || bucketsChangedByOthers.some(isWatched)) this.#isBehind = true
    for (const change of kv) {
      if (!isWatched(change.bucket)) continue
      // if commits do not arrive in order, earlier changes by other engines may not have arrived yet: the watcher reads again
      if (this.bucket === 0 || !isInOrder) this.#isBehind = true
      else this.#enqueue(change)
    }
    if (deletedBuckets.includes(this.bucket)) this.#isDeleted = true
    if (this.#queued.length === 0 && !this.#isBehind && !this.#isDeleted) return
    const waiting = this.#waiting
    this.#waiting = undefined
    if (waiting !== undefined) Deferred.doneUnsafe(waiting, Exit.void)
  }

  /**
   * Waits until changes are queued, and returns the changes since the last call. Returns `"behind"` when the watcher has to read
   * again, and `"deleted"` when the bucket is deleted.
   */
  readonly next: Effect.Effect<ReadonlyArray<KvChange> | "behind" | "deleted"> = Effect.suspend(() => {
    if (this.#isBehind) return Effect.succeed("behind" as const)
    if (this.#queued.length > 0) {
      const queued = this.#queued
      this.#queued = []
      this.#bytes = 0
      return Effect.succeed(queued)
    }
    if (this.#isDeleted) return Effect.succeed("deleted" as const)
    const waiting = Deferred.makeUnsafe<void>()
    this.#waiting = waiting
    return Effect.andThen(Deferred.await(waiting), this.next)
  })

  #enqueue(change: KvChange): void {
    if (this.#isBehind) return
    this.#queued.push(change)
    this.#bytes += change.value.bytes.byteLength
    if (this.#queued.length > MAX_QUEUED || this.#bytes > MAX_QUEUED_BYTES) {
      this.#queued = []
      this.#bytes = 0
      this.#isBehind = true
    }
  }
}
