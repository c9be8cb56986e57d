/**
 * The transport between a worker and an engine: the service, its layer for an engine in the same process, and its layers for a
 * worker that reaches the engine over the network.
 */
export {
  endsTurn,
  WorkerTransport,
  type Job,
  type JournalEntry,
  type Notice,
  type OpenStep,
  type Outcome,
  type TurnAck,
  type TurnOp,
  type TurnReport,
  type WorkerHandlers,
  type WorkerRegistration,
  type WorkerSession
} from "../Protocol/Worker.ts"
export { layerWorkerTransport as layerMemory } from "./Engine.ts"
export { layer as layerConnect } from "../Worker/ConnectTransport.ts"
export { layer as layerRpc } from "../Worker/RpcTransport.ts"
export { layer as layerStreaming } from "../Worker/FastestTransport.ts"
export { layer as layerPolling, type PollingOptions } from "../Worker/PollingTransport.ts"
