/** For programs that only use push mode: a handler for the requests of the engine, and webhooks. */
export {
  createHandler,
  type HandlerContext,
  type HandlerOptions,
  serve,
  serve as default,
  type ServeConfig,
  type ServeHandler
} from "./Promise/Serve.ts"
export type { RunnableFunction } from "./Promise/Worker.ts"
export {
  createWebhook,
  type IronflowWebhook,
  type WebhookConfig,
  type WebhookEvent,
  type WebhookRequest,
  type WebhookResult
} from "./Webhook.ts"
