/** For programs that only run a worker. */
export type { EngineHandle } from "./Promise/EngineConnection.ts"
export {
  createWorker,
  createWorker as default,
  type RunnableFunction,
  type RunnableProjection,
  type Worker,
  type WorkerConfig,
  type WorkerConnection
} from "./Promise/Worker.ts"
