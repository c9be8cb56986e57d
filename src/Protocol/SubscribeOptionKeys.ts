/**
 * The names of the options of a subscription. They have a file of their own, since the rest of the protocol of
 * subscriptions is loaded only with the first subscription.
 */
import type { Keys } from "../OptionKeys.ts"
import type { BufferConfig, SubscribeOptions } from "./Subscriptions.ts"

export const subscribeKeys = {
  replay: true,
  includeMetadata: true,
  filter: true,
  consumerGroup: true,
  ackMode: true,
  ackWait: true,
  backpressure: true,
  buffer: { maxBytes: true } satisfies Keys<BufferConfig>,
  namespace: true
} satisfies Keys<SubscribeOptions>
