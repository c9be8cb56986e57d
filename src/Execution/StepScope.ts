/** Where steps are called: at the root of a handler, or in a branch of a parallel call. */
import type { UnseenEvents } from "./UnseenEvents.ts"
import { StepKeys } from "../StepId.ts"

/** The branches of one parallel call. The root of a handler is a group too, with one scope. */
export class BranchGroup {
  /** The scope that made the parallel call; `undefined` for the root. */
  readonly parent: StepScope | undefined
  /**
   * Whether nothing new may start in the group. The outcomes of recorded and running steps are still delivered, so that
   * branches can register their compensations.
   */
  isStopped = false

  constructor(parent: StepScope | undefined) {
    this.parent = parent
  }
}

export class StepScope {
  readonly group: BranchGroup
  readonly keys: StepKeys
  /** The waits for events in the scope; `undefined` until the first one. */
  eventWaits: UnseenEvents | undefined = undefined

  constructor(group: BranchGroup, prefix: string) {
    this.group = group
    this.keys = new StepKeys(prefix)
  }
}

/** Whether the scope is in the group: directly, or in a branch of an inner call. */
export const isWithin = (scope: StepScope, group: BranchGroup): boolean => {
  for (let current: StepScope | undefined = scope; current !== undefined; current = current.group.parent) {
    if (current.group === group) return true
  }
  return false
}

/** Whether nothing new may start in the scope: its own group or a group around it is stopped. */
export const isStopped = (scope: StepScope): boolean => {
  for (let current: StepScope | undefined = scope; current !== undefined; current = current.group.parent) {
    if (current.group.isStopped) return true
  }
  return false
}
