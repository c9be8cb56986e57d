/**
 * Many calls on one connection: what a client and an engine of this package say over the WebSocket of the row `channel` (`Server.ts`).
 *
 * A call is what it is over HTTP, method, path, body and status, without the cost of a request. A frame is a text that
 * holds any number of messages; each is a line of words, the last of which counts the UTF-16 code units of the text that
 * follows the line.
 *
 * | from   | words                        | text           |
 * | ------ | ---------------------------- | -------------- |
 * | client | id, method, path, length     | the body       |
 * | client | id, `CANCEL`, `-`, `0`       |                |
 * | server | id, status, length           | the answer     |
 *
 * Answers come in any order. A cancelled call is not answered, though it may have been carried out. Environment and API key
 * are those of the request that opened the WebSocket. An engine names the path in the header {@link CHANNEL_HEADER} of its
 * HTTP answers; legacy servers do not, so that nobody asks them for it.
 */
export const CHANNEL_HEADER = "x-ironflow-channel"

/** The method of a message that takes a call back. */
export const CANCEL = "CANCEL"

/** A server that closes the channel with this reason has answered each call that it took: it takes none of the others. */
export const NOT_TAKEN = "what has no answer was not taken"

/** Most calls without an answer on one connection; the engine answers more with 429. */
export const MAX_CALLS = 10_000

/** Texts longer than this, in UTF-16 code units, go by HTTP: one of them would hold up all that is behind it. */
export const MAX_TEXT = 1024 * 1024

/** A frame holds no more than this and one message, in UTF-16 code units. */
const FRAME_TEXT = 256 * 1024

/** Bytes that a frame of such messages may have. */
export const MAX_FRAME_BYTES = 3 * (MAX_TEXT + FRAME_TEXT) + 64 * 1024

export const encodeMessage = (words: string, text: string): string => `${words} ${text.length}\n${text}`

export interface Message {
  readonly words: ReadonlyArray<string>
  readonly text: string
  /** Where the next one begins. */
  readonly end: number
}

/** The message that begins at `at` of a frame: the words before the length, and the text; `undefined` when there is none. */
export const readMessage = (frame: string, at: number): Message | undefined => {
  const start = frame.indexOf("\n", at)
  if (start === -1) return undefined
  const words = frame.slice(at, start).split(" ")
  const length = Number(words.pop())
  const end = start + 1 + length
  if (!Number.isSafeInteger(length) || length < 0 || end > frame.length) return undefined
  return { words, text: frame.slice(start + 1, end), end }
}

/** Calls `each` with the words before the length, and the text, of every message. Returns whether the frame was well formed. */
export const readFrame = (
  frame: string,
  each: (words: ReadonlyArray<string>, text: string) => void
): boolean => {
  for (let at = 0; at < frame.length;) {
    const message = readMessage(frame, at)
    if (message === undefined) return false
    each(message.words, message.text)
    at = message.end
  }
  return true
}

/** Gathers the messages of one turn of the event loop into frames. */
export class Frames {
  readonly #send: (frame: string) => void
  #messages: Array<string> = []
  #length = 0
  #scheduled = false

  constructor(send: (frame: string) => void) {
    this.#send = send
  }

  /** What waits, in UTF-16 code units. */
  get length(): number {
    return this.#length
  }

  add(message: string): void {
    this.#messages.push(message)
    this.#length += message.length
    if (this.#length >= FRAME_TEXT) return this.flush()
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.flush()
    })
  }

  flush(): void {
    if (this.#messages.length === 0) return
    const frame = this.#messages.length === 1 ? this.#messages[0]! : this.#messages.join("")
    this.#messages = []
    this.#length = 0
    this.#send(frame)
  }
}
