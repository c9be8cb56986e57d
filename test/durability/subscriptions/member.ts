/**
 * A member of the group `printers` that never finishes an event: `node --conditions=@ironflow/source member.ts
 * '{"serverUrl", "ackWait"}'`. Prints `got <i>` when its loop takes an event.
 */
import process from "node:process"
import { createSubscriptionClient } from "@ironflow/node"

const { ackWait, serverUrl } = JSON.parse(process.argv[2] ?? "") as {
  readonly serverUrl: string
  readonly ackWait: string
}
const sub = createSubscriptionClient({ serverUrl })
for await (const { data } of sub.stream("topic:news", { consumerGroup: "printers", ackWait })) {
  process.stdout.write(`got ${data.i}\n`)
  await new Promise(() => setInterval(() => undefined, 60_000))
}
