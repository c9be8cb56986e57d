/**
 * Collects bytes that arrive in pieces. Small pieces are copied into shared blocks: a byte that is kept as an
 * object of its own costs a hundred times as much.
 */
const BLOCK = 64 * 1024
const SMALL = 4 * 1024

export class ByteCollector {
  readonly #blocks: Array<Buffer> = []
  /** The last block, if it still has room. */
  #open: Buffer | undefined
  #used = 0
  #length = 0

  get length(): number {
    return this.#length
  }

  add(piece: Buffer): void {
    this.#length += piece.length
    // a body mostly arrives in one piece, which needs no copy
    if (piece.length > SMALL || this.#length === piece.length) {
      this.#close()
      this.#blocks.push(piece)
      return
    }
    if (this.#open === undefined || this.#used + piece.length > BLOCK) {
      this.#close()
      this.#open = Buffer.allocUnsafeSlow(BLOCK)
      this.#used = 0
      this.#blocks.push(this.#open)
    }
    this.#used += piece.copy(this.#open, this.#used)
  }

  /** All bytes. */
  get bytes(): Buffer {
    this.#close()
    if (this.#blocks.length !== 1) this.#blocks.splice(0, Infinity, Buffer.concat(this.#blocks, this.#length))
    return this.#blocks[0]!
  }

  #close(): void {
    if (this.#open === undefined) return
    this.#blocks[this.#blocks.length - 1] = this.#open.subarray(0, this.#used)
    this.#open = undefined
  }
}
