/** Watches of the Promise API: as an async iterable, or with callbacks. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import type * as Stream from "effect/Stream"
import type { KVWatchEvent } from "../Client/Kv.ts"
import { createDeferred } from "../Deferred.ts"
import { toError } from "../Errors.ts"
import type { RuntimeHandle } from "./Promisify.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"

/** The callbacks of a watch. Any error ends the watch, also one that `onUpdate` throws or rejects with. */
export interface WatchCallbacks<A> {
  /** Called with one change at a time. The next change waits until the returned promise has resolved. */
  readonly onUpdate: (event: A) => void | PromiseLike<void>
  /** Called when the watch has failed. A failure ends the watch. */
  readonly onError?: (error: Error) => void
  /** Called once, when the watch has ended for any reason. */
  readonly onClose?: () => void
}

const callbackKeys = { onUpdate: true, onError: true, onClose: true } satisfies Keys<WatchCallbacks<never>>

/** A watch that is active or starting. It can be iterated once; a watch with callbacks cannot be iterated. */
export interface Watcher<A> extends AsyncIterable<A>, AsyncDisposable {
  /**
   * Resolves when the watch is active: from then on the watch sees every change. Also resolves when the watch ends
   * without an error before it is active. Rejects when the watch cannot start.
   */
  readonly ready: Promise<void>
  /** Ends the watch, and the iteration over its changes. A second call does nothing. */
  stop(): Promise<void>
}

/** The callbacks of a watch of keys. */
export type KVWatchCallbacks<Value = unknown> = WatchCallbacks<KVWatchEvent<Value>>
/** An active watch of keys. */
export type KVWatcher<Value = unknown> = Watcher<KVWatchEvent<Value>>

/**
 * How many changes are read ahead of the iteration. When more changes come, the watch itself waits. For states of
 * projections there is another limit.
 */
const MAX_READ_AHEAD = 16

/**
 * Starts a watch on the runtime. `open` gets a function `onOpen`, and returns the stream of changes. The stream
 * calls `onOpen` once the watch is active.
 */
export const startWatch = <A, E, R, ER>(
  handle: RuntimeHandle<R, ER>,
  open: (onOpen: () => void) => Effect.Effect<Stream.Stream<A, E>, E, R>,
  callbacks?: WatchCallbacks<A>,
  maxReadAhead = MAX_READ_AHEAD
): Watcher<A> => {
  checkKeys(callbacks, callbackKeys, "watch()")
  const { promise: ready, reject, resolve } = createDeferred<void>()
  // a caller that does not await `ready` gets the error where it waits for changes
  ready.catch(() => undefined)
  const queue = Effect.runSync(Queue.bounded<A, Error | Cause.Done>(maxReadAhead))
  const abortController = new AbortController()
  const deliver =
    callbacks === undefined
      ? (event: A) => Effect.asVoid(Queue.offer(queue, event))
      : (event: A) => Effect.tryPromise({ try: async () => callbacks.onUpdate(event), catch: toError })

  const ended = handle.runtime
    .runPromiseExit(
      Effect.gen(function* () {
        // imported here, since only watches need it
        const { runForEach } = yield* Effect.promise(() => import("effect/Stream"))
        yield* runForEach(yield* open(resolve), deliver)
      }),
      { signal: abortController.signal }
    )
    .then((exit) => {
      const wasInterrupted = Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
      const error = Exit.isFailure(exit) && !wasInterrupted ? toError(Cause.squash(exit.cause)) : undefined
      if (error === undefined) {
        resolve()
        Effect.runSync(Queue.end(queue))
      } else {
        reject(error)
        Effect.runSync(Queue.fail(queue, error))
        callbacks?.onError?.(error)
      }
      callbacks?.onClose?.()
    })

  const stop = async (): Promise<void> => {
    abortController.abort()
    await ended
  }
  return {
    ready,
    stop,
    [Symbol.asyncDispose]: stop,
    async *[Symbol.asyncIterator]() {
      try {
        while (true) {
          const exit = await Effect.runPromiseExit(Queue.take(queue))
          if (Exit.isSuccess(exit)) {
            yield exit.value
            continue
          }
          const error = Cause.squash(exit.cause)
          if (Cause.isDone(error)) return
          throw toError(error)
        }
      } finally {
        await stop()
      }
    }
  }
}
