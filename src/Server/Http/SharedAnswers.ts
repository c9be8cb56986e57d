/**
 * Answers that several requests share. A request with `Cache-Control: max-age=1` accepts an answer that is up to a second old, so of
 * the same call by the same caller one in that time is answered anew. Pages that ask again every second, in many tabs, cost little more
 * than one of them.
 */
import type { IncomingHttpHeaders } from "node:http"
import * as Effect from "effect/Effect"
import type { Caller } from "../../Engine/Access/Access.ts"
import type { Reply } from "./Route.ts"

/** How long an answer is shared, milliseconds. Less than a second: who asks once a second is always answered anew. */
const SHARED_MS = 800
/** The most bytes of one answer, and of all that are kept. */
const MOST_BYTES = 4 * 1024 * 1024
const MOST_BYTES_IN_ALL = 16 * 1024 * 1024
/** The most characters of what identifies a call. */
const MOST_CHARACTERS = 4096

interface Kept {
  readonly at: number
  readonly reply: Reply
  readonly length: number
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

interface Asked {
  readonly request: { readonly headers: IncomingHttpHeaders }
  /** Present when it came over a channel. */
  readonly visitor?: object
}

export class SharedAnswers {
  readonly #now: () => number
  /** The oldest first. */
  readonly #kept = new Map<string, Kept>()
  readonly #numbers = new WeakMap<Caller, number>()
  #callers = 0
  #bytes = 0

  /** `now` is in milliseconds. */
  constructor(now: () => number) {
    this.#now = now
  }

  /** The answer of a moment ago to the same call, or else that of `answer`, which is kept if it is a success. */
  share<E>(call: SharedCall, answer: () => Effect.Effect<Reply, E>): Effect.Effect<Reply, E> {
    const key = this.#keyOf(call)
    if (key.length > MOST_CHARACTERS) return answer()
    const kept = this.#kept.get(key)
    const at = this.#now()
    if (kept !== undefined && isFresh(kept, at)) return Effect.succeed(kept.reply)
    return Effect.tap(answer(), (reply) => Effect.sync(() => this.#keep(key, at, reply)))
  }

  #keep(key: string, at: number, { headers, status, text, type }: Reply): void {
    const now = this.#now()
    for (const [one, kept] of this.#kept) {
      if (isFresh(kept, now)) break
      this.#drop(one, kept)
    }
    const before = this.#kept.get(key)
    // a slower one that began earlier
    if (text === undefined || status !== 200 || (before !== undefined && before.at > at && before.at <= now))
      return
    if (before !== undefined) this.#drop(key, before)
    const bytes = Buffer.from(text)
    if (bytes.length > MOST_BYTES) return
    const reply: Reply = {
      status,
      bytes,
      ...(type === undefined ? {} : { type }),
      headers: { ...headers, age: "0" }
    }
    this.#kept.set(key, { at, reply, length: bytes.length })
    this.#bytes += bytes.length
    for (const [one, kept] of this.#kept) {
      if (this.#bytes <= MOST_BYTES_IN_ALL) break
      this.#drop(one, kept)
    }
  }

  #drop(key: string, { length }: Kept): void {
    this.#kept.delete(key)
    this.#bytes -= length
  }

  /** Callers may see different things, and other things once their permissions have changed. */
  #keyOf({ body, caller, environment, method, url }: SharedCall): string {
    let number = this.#numbers.get(caller)
    if (number === undefined) this.#numbers.set(caller, (number = ++this.#callers))
    // whatever has no JSON text has none as a body
    return `${number} ${caller.changes} ${environment} ${method} ${url} ${body === undefined ? "" : JSON.stringify(body)}`
  }
}

/** A clock may have been set back. */
const isFresh = ({ at }: Kept, now: number): boolean => now >= at && now - at < SHARED_MS

/** Whether the request accepts an answer that is a second old. The headers of a channel are not those of its calls. */
export const acceptsShared = ({ request: { headers }, visitor }: Asked): boolean => {
  const control = headers["cache-control"]
  if (control === undefined || visitor !== undefined) return false
  return !/\bno-(?:cache|store)\b/i.test(control) && /\bmax-age=0*[1-9]/i.test(control)
}
