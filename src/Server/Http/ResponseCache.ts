/**
 * Shares an answer among several requests. A request with `Cache-Control: max-age=1` accepts an answer that
 * is up to a second old. When one caller repeats such a call within that time, it gets the same answer. Thus
 * a page that asks every second costs little more in many tabs than in one.
 */
import type { IncomingHttpHeaders } from "node:http"
import * as Effect from "effect/Effect"
import type { Caller } from "../../Engine/Access/Access.ts"
import type { Reply } from "./Route.ts"

/**
 * How long an answer is shared, in milliseconds. It is less than a second, so that a caller who asks once a
 * second always gets a new answer.
 */
const SHARED_MS = 800
/** Maximum number of bytes of one answer that is kept. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024
/** Maximum number of bytes of all answers that are kept. */
const MAX_TOTAL_BYTES = 16 * 1024 * 1024
/** The longest key of a call whose answer is kept, in characters. */
const MAX_KEY_LENGTH = 4096

interface KeptReply {
  /** When the call that got this reply began, in epoch milliseconds. */
  readonly startedAt: number
  readonly reply: Reply
  readonly bytes: number
}

/** A call whose answer may be shared. */
interface SharedCall {
  readonly caller: Caller
  readonly environment: string
  readonly method: string
  /** The path with its query. */
  readonly url: string
  readonly body: unknown
}

interface SharedRequest {
  readonly request: { readonly headers: IncomingHttpHeaders }
  /** Who opened the WebSocket that carries the call. Absent for a call that is an HTTP request of its own. */
  readonly visitor?: object
}

export class ResponseCache {
  readonly #now: () => number
  /** By key, the oldest first. */
  readonly #keptReplies = new Map<string, KeptReply>()
  readonly #callerIds = new WeakMap<Caller, number>()
  #lastCallerId = 0
  #totalBytes = 0

  /** `now` is a clock, in milliseconds. */
  constructor(now: () => number) {
    this.#now = now
  }

  /**
   * Returns the reply to the same call of a moment ago, if there is one. Otherwise runs `answer`, and keeps
   * the reply if it has the status 200.
   */
  share<E>(call: SharedCall, answer: () => Effect.Effect<Reply, E>): Effect.Effect<Reply, E> {
    const key = this.#keyOf(call)
    if (key.length > MAX_KEY_LENGTH) return answer()
    const kept = this.#keptReplies.get(key)
    const startedAt = this.#now()
    if (kept !== undefined && isFresh(kept, startedAt)) return Effect.succeed(kept.reply)
    return Effect.tap(answer(), (reply) => Effect.sync(() => this.#keep(key, startedAt, reply)))
  }

  #keep(key: string, startedAt: number, { headers, status, text, type }: Reply): void {
    const now = this.#now()
    for (const [oldKey, oldReply] of this.#keptReplies) {
      if (isFresh(oldReply, now)) break
      this.#drop(oldKey, oldReply)
    }
    const previous = this.#keptReplies.get(key)
    if (text === undefined || status !== 200) return
    // keep a stored reply whose call began later than this one, even if it ended earlier; but a reply from the future
    // is due to a jump of the clock
    if (previous !== undefined && previous.startedAt > startedAt && previous.startedAt <= now) return
    if (previous !== undefined) this.#drop(key, previous)
    const bytes = Buffer.from(text)
    if (bytes.length > MAX_ANSWER_BYTES) return
    const reply: Reply = {
      status,
      bytes,
      ...(type === undefined ? {} : { type }),
      headers: { ...headers, age: "0" }
    }
    this.#keptReplies.set(key, { startedAt, reply, bytes: bytes.length })
    this.#totalBytes += bytes.length
    for (const [oldKey, oldReply] of this.#keptReplies) {
      if (this.#totalBytes <= MAX_TOTAL_BYTES) break
      this.#drop(oldKey, oldReply)
    }
  }

  #drop(key: string, { bytes }: KeptReply): void {
    this.#keptReplies.delete(key)
    this.#totalBytes -= bytes
  }

  /**
   * The key of a call. It contains the caller and how often the caller's permissions have changed, since both decide
   * what the answer may show.
   */
  #keyOf({ body, caller, environment, method, url }: SharedCall): string {
    let callerId = this.#callerIds.get(caller)
    if (callerId === undefined) this.#callerIds.set(caller, (callerId = ++this.#lastCallerId))
    // `undefined` cannot be written as JSON
    return `${callerId} ${caller.changeCount} ${environment} ${method} ${url} ${body === undefined ? "" : JSON.stringify(body)}`
  }
}

/** Whether the answer may still be shared. `now` is before `startedAt` when the clock was set back. */
const isFresh = ({ startedAt }: KeptReply, now: number): boolean =>
  now >= startedAt && now - startedAt < SHARED_MS

/**
 * Whether the request accepts an answer that is a second old. A call over a WebSocket never does, since the headers of
 * the WebSocket say nothing about a single call.
 */
export const acceptsCached = ({ request: { headers }, visitor }: SharedRequest): boolean => {
  const control = headers["cache-control"]
  if (control === undefined || visitor !== undefined) return false
  return !/\bno-(?:cache|store)\b/i.test(control) && /\bmax-age=0*[1-9]/i.test(control)
}
