/** The client service and the layers behind it. `Engine.layerClient` is one more, for an engine in the same process. */
export * from "./Client.ts"
export { Channels, layer as layerChannel } from "./Channel.ts"
export { layer as layerHttp } from "./HttpServices.ts"
export type { ClientOptions } from "./HttpServices.ts"
export type { ServerOptions } from "./HttpConfig.ts"
