/** How the kind of a step is stored: unchanged, with a prefix when the step was patched. */
import type { StepKind } from "../../StepKind.ts"

/**
 * The prefix of the kind of a patched step. A person chose the value of the step, so a step of any kind in the code accepts it.
 */
const PATCHED = "patched:"

/**
 * The stored kind of a patched step. The kinds `compensate` and `parallel` are unchanged, because such steps are found by their
 * kind.
 */
export const patchedKind = (stored: string): string =>
  stored === "compensate" || stored === "parallel" || stored.startsWith(PATCHED) ? stored : PATCHED + stored

/** Reads a stored kind; for `anyKind` see `JournalEntry`. */
export const readKind = (stored: unknown): { readonly kind: StepKind; readonly anyKind?: true } => {
  const text = String(stored)
  // only this engine writes the column, and only with values of `StepKind`
  return text.startsWith(PATCHED)
    ? { kind: text.slice(PATCHED.length) as StepKind, anyKind: true }
    : { kind: text as StepKind }
}
