/** The connection of a worker, which counts as present while it is open. */
export interface WatchedConnection {
  readonly isOpen: boolean
  /** Calls `f` when the connection closes. Returns a function that cancels this. The connection must still be open. */
  readonly onClose: (f: () => void) => () => void
}
