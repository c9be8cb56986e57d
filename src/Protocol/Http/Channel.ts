/**
 * The channel protocol: many calls on one WebSocket between a client and an engine of this package (the socket `channel` in
 * `Protocol/Server.ts`).
 *
 * A call has method, path, body and status, as over HTTP, without the cost of a request. A text frame holds any number of
 * messages. Each message is a line of words followed by a text; the last word is the length of that text in UTF-16 code units.
 *
 * | from   | words                        | text           |
 * | ------ | ---------------------------- | -------------- |
 * | client | id, method, path, length     | the body       |
 * | client | id, `CANCEL`, `-`, `0`       |                |
 * | server | id, status, length           | the answer     |
 *
 * Answers come in any order. A cancelled call gets no answer, but may have been executed. Environment and API key are those of
 * the request that opened the WebSocket. An engine advertises the path of its channel in the header {@link CHANNEL_HEADER} of its
 * HTTP answers. Legacy servers send no such header, so clients do not try to open a channel there.
 */
export const CHANNEL_HEADER = "x-ironflow-channel"

/** The method of a message that cancels a call. */
export const CANCEL = "CANCEL"

/**
 * The end of the reason with which a server closes a connection after it has answered all calls that it has
 * received. To the client it means: the server has not received the calls that are still without an answer.
 */
export const NOT_TAKEN = "what has no answer was not taken"

/** Maximum number of pending calls on one connection; the engine answers further calls with 429. */
export const MAX_CALLS = 10_000

/**
 * Maximum length of a text in UTF-16 code units. Longer texts go by HTTP: on the channel they would delay all messages behind
 * them.
 */
export const MAX_TEXT = 1024 * 1024

/** A frame is sent once it has this length, in UTF-16 code units. Its last message may exceed the length. */
const FRAME_TEXT = 256 * 1024

/** Maximum size of a frame in bytes. */
export const MAX_FRAME_BYTES = 3 * (MAX_TEXT + FRAME_TEXT) + 64 * 1024

export const encodeMessage = (words: string, text: string): string => `${words} ${text.length}\n${text}`

export interface Message {
  readonly words: ReadonlyArray<string>
  readonly text: string
  /** Index in the frame at which the next message begins. */
  readonly end: number
}

/**
 * The message at the index `start` of a frame: its words without the length, and its text. The result is `undefined`
 * when no valid message begins there.
 */
export const readMessage = (frame: string, start: number): Message | undefined => {
  const lineEnd = frame.indexOf("\n", start)
  if (lineEnd === -1) return undefined
  const words = frame.slice(start, lineEnd).split(" ")
  const length = Number(words.pop())
  const end = lineEnd + 1 + length
  if (!Number.isSafeInteger(length) || length < 0 || end > frame.length) return undefined
  return { words, text: frame.slice(lineEnd + 1, end), end }
}

/** Calls `handle` with the words (without the length) and the text of each message. Returns whether the frame is well formed. */
export const readFrame = (
  frame: string,
  handle: (words: ReadonlyArray<string>, text: string) => void
): boolean => {
  for (let start = 0; start < frame.length;) {
    const message = readMessage(frame, start)
    if (message === undefined) return false
    handle(message.words, message.text)
    start = message.end
  }
  return true
}

/** Collects the messages of one round of the event loop, and sends them in few frames. */
export class Frames {
  readonly #send: (frame: string) => void
  #messages: Array<string> = []
  #length = 0
  #scheduled = false

  constructor(send: (frame: string) => void) {
    this.#send = send
  }

  /** Length of the waiting messages in UTF-16 code units. */
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
