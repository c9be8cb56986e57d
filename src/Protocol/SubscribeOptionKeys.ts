/** The keys of subscription options, separate from the rest of the protocol, which is loaded with the first subscription. */
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
