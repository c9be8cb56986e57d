/**
 * Limits the memory for request bodies that are arriving. Anybody can send large bodies without a valid
 * signature, so all bodies together get at most 64 MiB, or the largest size of one body if that is more. Small
 * bodies do not count. A request with a large body for which no memory is left is answered with 503.
 */
import { type IronflowError, UnavailableError, withStatus } from "../Errors.ts"

/** Maximum number of bytes of all bodies that are arriving, unless one body may have more. */
const MAX_TOTAL_BYTES = 64 * 1024 * 1024

/** A body of at most this many bytes does not count. */
const SMALL_BYTES = 64 * 1024

/** A body that is arriving. */
export interface ArrivingBody {
  /**
   * Reserves memory for the `size` bytes that have arrived so far. Throws `UnavailableError` when none is left, and
   * after `end`.
   */
  readonly hold: (size: number) => void
  /** Gives the reserved memory back. */
  readonly end: () => void
}

export class RequestBodyBudget {
  readonly #maxBytes: number
  #totalHeld = 0

  /** Makes a budget that is enough for at least one body of the largest allowed size. */
  constructor(maxBodyBytes: number) {
    this.#maxBytes = Math.max(MAX_TOTAL_BYTES, maxBodyBytes)
  }

  begin(): ArrivingBody {
    let heldBytes = 0
    let hasEnded = false
    return {
      hold: (size) => {
        if (!hasEnded && size <= SMALL_BYTES) return
        if (hasEnded || this.#totalHeld + size - heldBytes > this.#maxBytes) throw noMemoryError()
        this.#totalHeld += size - heldBytes
        heldBytes = size
      },
      end: () => {
        hasEnded = true
        this.#totalHeld -= heldBytes
        heldBytes = 0
      }
    }
  }
}

const noMemoryError = (): IronflowError =>
  withStatus(
    new UnavailableError(
      "There is no memory left for the body of this request: too many large requests arrive at once. Send the request again",
      {
        code: "SERVER_BUSY"
      }
    ),
    503
  )
