/** All kinds of steps. A replay that asks for a recorded step key under another kind is nondeterministic. */
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
