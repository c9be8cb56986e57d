/**
 * Connections as sessions use them. Many listeners wait for the end of one, and Node warns of a leak at more than
 * ten.
 */
import type { Duplex } from "node:stream"
import type { Line } from "../../Engine/Workers/Line.ts"

const lines = new WeakMap<Duplex, Line>()

/** Wraps the connection; returns the same object each time. */
export const lineOf = (connection: Duplex): Line => {
  let line = lines.get(connection)
  if (line === undefined) lines.set(connection, (line = makeLine(connection)))
  return line
}

const makeLine = (connection: Duplex): Line => {
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
