/** How long runs are kept after their end, milliseconds, where their function sets it. */
import type { KeptRuns } from "../../KeepRuns.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { registryOf } from "./Registry.ts"

/** For runs of a function that ended with this status; `keepMs` is the engine's default. */
export const keptMs = (
  tx: Transaction,
  functionKey: number,
  status: keyof KeptRuns | undefined,
  keepMs: number
): number => {
  const kept = status && registryOf(tx).byKey(functionKey)?.registration.keepRuns?.[status]
  return kept === undefined ? keepMs : kept === "forever" ? Number.POSITIVE_INFINITY : kept
}

/** The shortest time for which any function keeps any of its runs. */
export const shortestKept = (tx: Transaction, keepMs: number): number =>
  registryOf(tx)
    .all()
    .flatMap(({ registration: { keepRuns = {} } }) => Object.values(keepRuns))
    .reduce<number>((least, kept) => (kept === "forever" ? least : Math.min(least, Number(kept))), keepMs)
