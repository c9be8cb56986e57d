/** The connection of a worker. The worker counts as present while the connection is open. */
export interface WatchedConnection {
  readonly isOpen: boolean
  /**
   * Calls `listener` when the connection closes. Returns a function that cancels this. To be called while the connection is open.
   */
  readonly onClose: (listener: () => void) => () => void
}
