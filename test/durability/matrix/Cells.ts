/** The cells of the matrix: every transport with every fault, and why some of them are impossible. */

import process from "node:process"

export const transports = ["http", "channel", "rpc", "connect", "push", "push-alone", "memory"] as const

/**
 * How functions and the engine communicate: `http` and `channel` are polling by plain requests and over a WebSocket,
 * `push` reports to the engine (`serverUrl`) and `push-alone` does not, `memory` is one process.
 */
export type Transport = (typeof transports)[number]

export const faults = [
  "engine-sigterm",
  "engine-sigkill",
  "engine-freeze",
  "worker-sigkill",
  "worker-freeze",
  "cut",
  "half-open",
  "garbage",
  "delay",
  "flip",
  "disk-full",
  "clock"
] as const

export type Fault = (typeof faults)[number]

export interface Cell {
  readonly transport: Transport
  readonly fault: Fault
}

export const isPush = (transport: Transport): boolean => transport === "push" || transport === "push-alone"

/** Why a cell is impossible; `undefined` if it is possible. */
export const impossible = ({ fault, transport }: Cell): string | undefined => {
  if (fault === "disk-full" && process.platform !== "linux") {
    return "only Linux can limit the size of files of a running process (prlimit)"
  }
  if (isPush(transport) && fault === "flip") {
    return "the response of an app has no signature: only TLS protects it"
  }
  if (transport !== "memory") return undefined
  switch (fault) {
    case "worker-sigkill":
    case "worker-freeze":
      return "the worker is the process of the engine: see engine-sigkill and engine-freeze"
    case "cut":
    case "half-open":
    case "garbage":
    case "delay":
    case "flip":
      return "there is no connection between worker and engine in one process"
    case "engine-sigterm":
    case "engine-sigkill":
    case "engine-freeze":
    case "disk-full":
    case "clock":
      return undefined
  }
}

export const allCells: ReadonlyArray<Cell> = transports.flatMap((transport) =>
  faults.map((fault) => ({ transport, fault }))
)

export const nameOf = ({ fault, transport }: Cell): string => `${transport}:${fault}`

/** The cells that a list such as `rpc:cut,connect:*` names. Throws for an unknown name. */
export const cellsNamed = (names: string): ReadonlyArray<Cell> => {
  if (names === "all") return allCells
  return names.split(",").flatMap((name) => {
    const [transport, fault] = name.split(":")
    const cells = allCells.filter(
      (cell) => (transport === "*" || transport === cell.transport) && (fault === "*" || fault === cell.fault)
    )
    if (cells.length > 0) return cells
    throw new Error(
      `There is no cell "${name}". A cell is <transport>:<fault>, or * for either; transports: ${transports.join(", ")}; faults: ${faults.join(", ")}`
    )
  })
}
