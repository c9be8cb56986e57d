/** The size of the blocks into which small pieces are copied, in bytes. */
const BLOCK_BYTES = 64 * 1024
/** A piece with more bytes than this is kept as it is, and not copied into a block. */
const SMALL_BYTES = 4 * 1024

/**
 * Collects bytes that arrive in pieces. Small pieces are copied into shared blocks: a byte that is kept as an
 * object of its own costs a hundred times as much.
 */
export class ByteCollector {
  readonly #blocks: Array<Buffer> = []
  /** The last block, if it still has room. */
  #openBlock: Buffer | undefined
  #used = 0
  #length = 0

  get length(): number {
    return this.#length
  }

  add(piece: Buffer): void {
    this.#length += piece.length
    // a body mostly arrives in one piece, which needs no copy
    if (piece.length > SMALL_BYTES || this.#length === piece.length) {
      this.#close()
      this.#blocks.push(piece)
      return
    }
    if (this.#openBlock === undefined || this.#used + piece.length > BLOCK_BYTES) {
      this.#close()
      this.#openBlock = Buffer.allocUnsafeSlow(BLOCK_BYTES)
      this.#used = 0
      this.#blocks.push(this.#openBlock)
    }
    this.#used += piece.copy(this.#openBlock, this.#used)
  }

  /** All bytes. */
  get bytes(): Buffer {
    this.#close()
    if (this.#blocks.length !== 1) this.#blocks.splice(0, Infinity, Buffer.concat(this.#blocks, this.#length))
    return this.#blocks[0]!
  }

  #close(): void {
    if (this.#openBlock === undefined) return
    this.#blocks[this.#blocks.length - 1] = this.#openBlock.subarray(0, this.#used)
    this.#openBlock = undefined
  }
}
