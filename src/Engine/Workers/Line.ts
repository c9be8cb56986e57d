/** The connection of a worker: it is present while it is open. */
export interface Line {
  readonly isOpen: boolean
  /** Calls `f` when the connection closes, unless what is returned is called before. It must not be closed yet. */
  readonly onClose: (f: () => void) => () => void
}
