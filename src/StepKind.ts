/** All kinds of steps. If a replay asks for a recorded step key under another kind, that is nondeterminism. */
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
