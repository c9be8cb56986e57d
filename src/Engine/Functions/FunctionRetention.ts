/** How long runs are kept after their end, in milliseconds: by their function's setting, or by the engine's default. */
import type { KeptRuns } from "../../KeepRuns.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { registryOf } from "./Registry.ts"

/** How long a run of the function is kept after it has ended with `status`. `keepMs` is the engine's default. */
export const retentionMs = (
  tx: Transaction,
  functionKey: number,
  status: keyof KeptRuns | undefined,
  keepMs: number
): number => {
  const keepFor = status && registryOf(tx).byKey(functionKey)?.registration.keepRuns?.[status]
  return keepFor === undefined ? keepMs : keepFor === "forever" ? Number.POSITIVE_INFINITY : keepFor
}

/** The shortest time for which runs are kept, by the default or by any function's setting. */
export const shortestRetentionMs = (tx: Transaction, keepMs: number): number =>
  registryOf(tx)
    .all()
    .flatMap(({ registration: { keepRuns = {} } }) => Object.values(keepRuns))
    .reduce<number>(
      (least, keepFor) => (keepFor === "forever" ? least : Math.min(least, Number(keepFor))),
      keepMs
    )
