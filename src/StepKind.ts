/** What a step can be: this list is the only one. A step key that is recorded under one kind and asked for under another is nondeterminism. */
export const stepKinds = [
  "run",
  "sleep",
  "waitForEvent",
  "invoke",
  "invokeAsync",
  "publish",
  "tx",
  "parallel",
  "compensate"
] as const

export type StepKind = (typeof stepKinds)[number]
