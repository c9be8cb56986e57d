/**
 * The memory for bodies of requests that are coming in: whoever sends many large ones at once, which need no right signature to be
 * sent, takes that much of it and no more. Small bodies need no room, and large ones hear 503 while others have it.
 */
import { type IronflowError, UnavailableError, withStatus } from "../Errors.ts"

/** Bytes of all bodies that are coming in. */
const ROOM = 64 * 1024 * 1024

/** Bodies of so many bytes need no room. */
const SMALL = 64 * 1024

/** A body that is coming in. */
export interface Arriving {
  /** So many bytes of it are here. Throws `UnavailableError` when there is no room for them. */
  readonly hold: (size: number) => void
  readonly end: () => void
}

export class BodyRoom {
  readonly #most: number
  #held = 0

  /** One body has room in any case: how large it may be is said elsewhere. */
  constructor(maxBodyBytes: number) {
    this.#most = Math.max(ROOM, maxBodyBytes)
  }

  begin(): Arriving {
    let own = 0
    let isOver = false
    return {
      hold: (size) => {
        if (!isOver && size <= SMALL) return
        if (isOver || this.#held + size - own > this.#most) throw noRoom()
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

const noRoom = (): IronflowError =>
  withStatus(
    new UnavailableError(
      "There is no room for the body of this request, beside those of others that are large",
      {
        code: "SERVER_BUSY"
      }
    ),
    503
  )
