/** The envelopes of ConnectRPC: one byte of flags, four bytes of length, and the message. */
import { BodyError, LimitExceededError, ValidationError } from "../../Errors.ts"
import { MESSAGE_DAMAGED } from "../../Protocol/Seal.ts"
import { ByteCollector } from "../Http/ByteCollector.ts"

const COMPRESSED = 1
const END_OF_STREAM = 2

const HEAD_BYTES = 5

export const envelope = (flags: number, payload: Uint8Array): Buffer => {
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt8(flags)
  head.writeUInt32BE(payload.length, 1)
  return Buffer.concat([head, payload])
}

/** The envelope that ends a stream. It is empty, or has the body of a failure as ConnectRPC encodes it. */
export const endOfStream = (failure?: { readonly [key: string]: unknown }): Buffer =>
  envelope(END_OF_STREAM, Buffer.from(JSON.stringify(failure === undefined ? {} : { error: failure })))

/** Assembles messages from the chunks of a stream. */
export class Envelopes {
  readonly #maxBytes: number
  readonly #what: string
  #rest = new ByteCollector()
  /** How many bytes must be there before more can be parsed. */
  #needed = HEAD_BYTES

  /** `maxBytes` is the size limit of a message, and `what` names the message in errors. */
  constructor(maxBytes: number, what: string) {
    this.#maxBytes = maxBytes
    this.#what = what
  }

  /** How many bytes of an incomplete message are held. */
  get heldBytes(): number {
    return this.#rest.length
  }

  /**
   * Takes a chunk, and returns the messages that are now complete. Throws an `IronflowError` for an invalid
   * message.
   */
  read(chunk: Buffer): ReadonlyArray<Buffer> {
    this.#rest.add(chunk)
    if (this.#rest.length < this.#needed) return []
    const bytes = this.#rest.bytes
    const messages: Array<Buffer> = []
    let at = 0
    this.#needed = HEAD_BYTES
    while (bytes.length - at >= HEAD_BYTES) {
      const flags = bytes.readUInt8(at)
      const length = bytes.readUInt32BE(at + 1)
      if ((flags & COMPRESSED) !== 0) {
        throw new BodyError("Compressed messages are not supported: send them uncompressed", {
          code: "BODY_UNSUPPORTED"
        })
      }
      if (flags !== 0)
        throw new ValidationError(`The flags of a message must be 0, got ${flags}`, { code: MESSAGE_DAMAGED })
      if (length > this.#maxBytes) {
        throw new LimitExceededError(this.#what, length, this.#maxBytes, "bytes")
      }
      if (bytes.length - at < HEAD_BYTES + length) {
        this.#needed = HEAD_BYTES + length
        break
      }
      at += HEAD_BYTES + length
      messages.push(bytes.subarray(at - length, at))
    }
    this.#rest = new ByteCollector()
    if (at < bytes.length) this.#rest.add(bytes.subarray(at))
    return messages
  }
}
