/** The envelopes of ConnectRPC: one byte of flags, four of length, the message. */
import { IronflowError, LimitExceededError, ValidationError } from "../../Errors.ts"
import { MESSAGE_DAMAGED } from "../../Protocol/Seal.ts"

const COMPRESSED = 1
const END_OF_STREAM = 2

const HEAD_BYTES = 5

export const envelope = (flags: number, payload: Uint8Array): Buffer => {
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt8(flags)
  head.writeUInt32BE(payload.length, 1)
  return Buffer.concat([head, payload])
}

/** What a stream ends with: nothing, or the body of a failure in the dialect of ConnectRPC. */
export const endOfStream = (failure?: { readonly [key: string]: unknown }): Buffer =>
  envelope(END_OF_STREAM, Buffer.from(JSON.stringify(failure === undefined ? {} : { error: failure })))

/** Puts the chunks of a stream together. */
export class Envelopes {
  readonly #maxBytes: number
  readonly #what: string
  #chunks: Array<Buffer> = []
  #length = 0

  /** `maxBytes` is what one message may have, and `what` names it. */
  constructor(maxBytes: number, what: string) {
    this.#maxBytes = maxBytes
    this.#what = what
  }

  /** Whether there is nothing of a message that is not complete. */
  get isEmpty(): boolean {
    return this.#length === 0
  }

  /** The messages that are complete with this chunk. Throws an `IronflowError` for what is none. */
  read(chunk: Buffer): ReadonlyArray<Buffer> {
    this.#chunks.push(chunk)
    this.#length += chunk.length
    const messages: Array<Buffer> = []
    while (this.#length >= HEAD_BYTES) {
      const head = this.#chunks[0]!.length >= HEAD_BYTES ? this.#chunks[0]! : this.#join()
      const flags = head.readUInt8(0)
      const length = head.readUInt32BE(1)
      if ((flags & COMPRESSED) !== 0) {
        throw new IronflowError("Compressed messages are not read: send them as they are", {
          code: "BODY_UNSUPPORTED"
        })
      }
      if (flags !== 0)
        throw new ValidationError(`${flags} is no flag of a message`, { code: MESSAGE_DAMAGED })
      if (length > this.#maxBytes) {
        throw new LimitExceededError(this.#what, length, this.#maxBytes, "bytes")
      }
      if (this.#length < HEAD_BYTES + length) break
      const all = this.#join()
      messages.push(all.subarray(HEAD_BYTES, HEAD_BYTES + length))
      this.#chunks = all.length > HEAD_BYTES + length ? [all.subarray(HEAD_BYTES + length)] : []
      this.#length -= HEAD_BYTES + length
    }
    return messages
  }

  #join(): Buffer {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)]
    return this.#chunks[0]!
  }
}
