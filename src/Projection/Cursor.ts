/**
 * A position in the changes of a projection's states: the version of a save, and the epoch of that version. A
 * rebuild starts a new epoch, and so does deleting and creating the projection again; then every state counts
 * as new.
 */
export interface Cursor {
  readonly epoch: string
  readonly version: number
}

export const writeCursor = ({ epoch, version }: Cursor): string => `${epoch}.${version}`

/** Reads a cursor; `undefined` when `text` is not a cursor. */
export const readCursor = (text: unknown): Cursor | undefined => {
  const [, epoch, version] = (typeof text === "string" && /^([\w-]{1,64})\.(\d{1,15})$/.exec(text)) || []
  return epoch === undefined ? undefined : { epoch, version: Number(version) }
}
