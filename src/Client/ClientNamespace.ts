/** The client service and its layers. `Engine.layerClient` is another layer, for an engine in the same process. */
export * from "./Client.ts"
export { type PushEndpoint, PushEndpoints, type PushEndpointsApi } from "./PushEndpoints.ts"
export { Channels, layer as layerChannel } from "./Channel.ts"
export { layer as layerHttp, layerConfig } from "./HttpServices.ts"
export type { ClientConfigOptions, ClientOptions } from "./HttpServices.ts"
export type { ServerOptions } from "./HttpOptions.ts"
