/**
 * Limits the memory for request bodies that are arriving. Anybody can send large bodies without a valid
 * signature, so all of them together get at most 64 MiB, or as much as one body may have if that is more. Small
 * bodies need no room. A large body for which there is no room is answered with 503.
 */
import { type IronflowError, UnavailableError, withStatus } from "../Errors.ts"

/** Maximum number of bytes of all bodies that are arriving, unless one body may have more. */
const MAX_TOTAL_BYTES = 64 * 1024 * 1024

/** A body of at most this many bytes needs no room. */
const SMALL = 64 * 1024

/** A body that is arriving. */
export interface Arriving {
  /**
   * Takes room for the `size` bytes that have arrived so far. Throws `UnavailableError` when there is no room,
   * and after `end`.
   */
  readonly hold: (size: number) => void
  readonly end: () => void
}

export class RequestBodyBudget {
  readonly #most: number
  #held = 0

  /** Makes a budget. It has room for at least one body of the largest allowed size. */
  constructor(maxBodyBytes: number) {
    this.#most = Math.max(MAX_TOTAL_BYTES, maxBodyBytes)
  }

  begin(): Arriving {
    let own = 0
    let isOver = false
    return {
      hold: (size) => {
        if (!isOver && size <= SMALL) return
        if (isOver || this.#held + size - own > this.#most) throw tooManyBodyBytes()
        this.#held += size - own
        own = size
      },
      end: () => {
        isOver = true
        this.#held -= own
        own = 0
      }
    }
  }
}

const tooManyBodyBytes = (): IronflowError =>
  withStatus(
    new UnavailableError(
      "There is no memory left for the body of this request: too many large requests arrive at once. Send it again",
      {
        code: "SERVER_BUSY"
      }
    ),
    503
  )
