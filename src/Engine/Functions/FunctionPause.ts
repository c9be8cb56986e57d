/** The stored pause of a function. */
import type { StoredPause } from "../Store/Changes.ts"
import type { Row } from "../Store/Program.ts"

/** The pause in a row of `functions`, in the form of the registry. */
export const pauseIn = (row: Row | undefined): { readonly paused?: StoredPause } =>
  row === undefined || row.paused_at === null
    ? {}
    : {
        paused: {
          at: Number(row.paused_at),
          by: String(row.paused_by),
          ...(row.pause_reason === null ? {} : { reason: String(row.pause_reason) })
        }
      }
