/** How kinds of steps are stored: as they are, with a mark when somebody has patched the step. */
import type { StepKind } from "../../StepKind.ts"

/** A patched step is what somebody says it is: it answers a call of any kind. */
const PATCHED = "patched:"

/** A kind as it is stored once the step is patched. Rollbacks and verdicts on branches are found by their kinds, which stay. */
export const patchedKind = (stored: string): string =>
  stored === "compensate" || stored === "parallel" || stored.startsWith(PATCHED) ? stored : PATCHED + stored

/** Reads a stored kind; `anyKind` as in `JournalEntry`. */
export const readKind = (stored: unknown): { readonly kind: StepKind; readonly anyKind?: true } => {
  const text = String(stored)
  // written by this store from a `StepKind`
  return text.startsWith(PATCHED)
    ? { kind: text.slice(PATCHED.length) as StepKind, anyKind: true }
    : { kind: text as StepKind }
}
