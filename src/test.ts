/** Tests functions: either alone, with stubs for their steps, or in a real engine on virtual time. */
export {
  createTestClient,
  type TestClient,
  type TestClientConfig,
  type TestRun,
  type TestStep,
  type TestStream
} from "./Testing/TestClient.ts"
export type { TestWrite, TestWrittenEvent } from "./Testing/StepTxMemory.ts"
export {
  createTestEngine,
  type IronflowTestEngine,
  type TestEngineConfig,
  type TestWorker
} from "./Testing/TestEngine.ts"
export type { RepeatedSteps } from "./Testing/RepeatedSteps.ts"
export type { RunToEndOptions } from "./Testing/VirtualEngine.ts"
export type { RunHistory } from "./Protocol/History.ts"
export type { Divergence, StepName } from "./Testing/Replay.ts"
export { verify, type VerifyOptions } from "./Testing/Verify.ts"
