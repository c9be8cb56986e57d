/**
 * Lets many listeners wait for the end of one connection. They share one listener of Node, which warns of a leak at
 * more than ten.
 */
import type { Duplex } from "node:stream"
import type { WatchedConnection } from "../../Engine/Workers/WatchedConnection.ts"

const watchedConnections = new WeakMap<Duplex, WatchedConnection>()

/** Wraps the connection. For the same connection it always returns the same object. */
export const watchedConnection = (connection: Duplex): WatchedConnection => {
  let watched = watchedConnections.get(connection)
  if (watched === undefined) watchedConnections.set(connection, (watched = makeWatchedConnection(connection)))
  return watched
}

const makeWatchedConnection = (connection: Duplex): WatchedConnection => {
  const listeners = new Set<() => void>()
  let isListening = false
  return {
    get isOpen() {
      return !connection.destroyed
    },
    onClose: (f) => {
      if (!isListening) {
        isListening = true
        connection.once("close", () => {
          for (const f of listeners) f()
        })
      }
      listeners.add(f)
      return () => void listeners.delete(f)
    }
  }
}
