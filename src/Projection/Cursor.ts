/**
 * A place in the changes of a projection's states: the version of a save, and the epoch that it belongs to. After a rebuild,
 * and in a projection that was deleted and made anew, the epoch is another one, and every state is new.
 */
export interface Cursor {
  readonly epoch: string
  readonly version: number
}

export const writeCursor = ({ epoch, version }: Cursor): string => `${epoch}.${version}`

/** `undefined` for what is no cursor. */
export const readCursor = (text: unknown): Cursor | undefined => {
  const [, epoch, version] = (typeof text === "string" && /^([\w-]{1,64})\.(\d{1,15})$/.exec(text)) || []
  return epoch === undefined ? undefined : { epoch, version: Number(version) }
}
