/** The worker over ConnectRPC. Needs `@bufbuild/protobuf`, `@connectrpc/connect` and `@connectrpc/connect-node`. */
export type { RunnableFunction, Worker, WorkerConnection } from "./Promise/Worker.ts"
// used by `createWorker({ transport: "streaming" })` only
export { loadConnectStreams } from "./Promise/StreamingWorker.ts"
export {
  createStreamingWorker,
  createStreamingWorker as default,
  type StreamingWorkerConfig
} from "./Promise/StreamingWorker.ts"
