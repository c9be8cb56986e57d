/** Watching from the Promise face: an async iterable, or callbacks. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import type * as Stream from "effect/Stream"
import type { KVWatchEvent } from "../Client/Kv.ts"
import { createDeferred } from "../Deferred.ts"
import { toError } from "../Errors.ts"
import type { Rim } from "./Promisify.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"

/** What a watch calls. An error ends the watch; an error that `onUpdate` throws or rejects with does so too. */
export interface WatchCallbacks<A> {
  /** Called with one change after the other: the next one waits for the promise that is returned. */
  readonly onUpdate: (event: A) => void | PromiseLike<void>
  /** Called when the watch has failed, and ended. */
  readonly onError?: (error: Error) => void
  /** Called once, when the watch has ended for whatever reason. */
  readonly onClose?: () => void
}

const callbackKeys = { onUpdate: true, onError: true, onClose: true } satisfies Keys<WatchCallbacks<never>>

/** A watch that stands, or is about to. It can be iterated over once, unless it has callbacks. */
export interface Watcher<A> extends AsyncIterable<A>, AsyncDisposable {
  /** Resolves when the watch stands: it sees every change after that. Rejects when it cannot. */
  readonly ready: Promise<void>
  /** Ends the watch; an iteration over it ends too. Stopping again does nothing. */
  stop(): Promise<void>
}

/** Whom a watch of keys calls. */
export type KVWatchCallbacks<Value = unknown> = WatchCallbacks<KVWatchEvent<Value>>
/** A watch of keys that is on. */
export type KVWatcher<Value = unknown> = Watcher<KVWatchEvent<Value>>

/** Changes that wait in front of whoever iterates, unless they are states; then the watch itself waits. */
const AHEAD = 16

/** Starts a watch on the runtime. `open` gives the stream, which calls what it was handed when it stands. */
export const startWatch = <A, E, R, ER>(
  rim: Rim<R, ER>,
  open: (onOpen: () => void) => Effect.Effect<Stream.Stream<A, E>, E, R>,
  callbacks?: WatchCallbacks<A>,
  ahead = AHEAD
): Watcher<A> => {
  checkKeys(callbacks, callbackKeys, "watch()")
  const { promise: ready, reject, resolve } = createDeferred<void>()
  // who does not wait for it hears of the error where the changes come
  ready.catch(() => undefined)
  const queue = Effect.runSync(Queue.bounded<A, Error | Cause.Done>(ahead))
  const closed = new AbortController()
  const take =
    callbacks === undefined
      ? (event: A) => Effect.asVoid(Queue.offer(queue, event))
      : (event: A) => Effect.tryPromise({ try: async () => callbacks.onUpdate(event), catch: toError })

  const ended = rim.runtime
    .runPromiseExit(
      Effect.gen(function* () {
        // only who watches pays for loading it
        const { runForEach } = yield* Effect.promise(() => import("effect/Stream"))
        yield* runForEach(yield* open(resolve), take)
      }),
      { signal: closed.signal }
    )
    .then((exit) => {
      const interrupted = Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
      const error = Exit.isFailure(exit) && !interrupted ? toError(Cause.squash(exit.cause)) : undefined
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
    closed.abort()
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
