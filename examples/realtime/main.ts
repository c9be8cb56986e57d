/**
 * Events as they happen: a subscription with a filter, a consumer group whose members share and ack messages, and the
 * statistics of a topic. `node --conditions=@ironflow/source examples/realtime/main.ts`
 */
import { createDeferred, createSubscriptionClient } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"

const engine = await startEngine({ filename: ":memory:", logger: false })
const sub = createSubscriptionClient({ engine })
await sub.connect()

const large = createDeferred<void>()
await sub.subscribe("events:order.*", {
  filter: "event.data.amount > 100",
  onEvent: (event) => {
    console.log(`large order: ${event.topic} ${JSON.stringify(event.data)}`)
    large.resolve()
  }
})
await engine.client.emit("order.placed", { orderId: "o-1", amount: 20 })
await engine.client.emit("order.placed", { orderId: "o-2", amount: 200 })
await large.promise

// two members share the messages; one message fails at first, and is delivered again
const done = createDeferred<void>()
const handled = new Set<string>()
let failures = 0
for (const name of ["anna", "ben"]) {
  const member = createSubscriptionClient({ engine })
  await member.connect()
  const subscription = await member.subscribe("topic:parcels", {
    consumerGroup: "packers",
    ackMode: "manual",
    onEvent: async (event) => {
      if (event.data.parcel === "p-2" && failures++ === 0) {
        await subscription.nak(event.eventId!, 10)
        return
      }
      await subscription.ack(event.eventId!)
      handled.add(event.data.parcel)
      console.log(`${name} packed ${event.data.parcel}`)
      if (handled.size === 4) done.resolve()
    }
  })
}
for (const parcel of ["p-1", "p-2", "p-3", "p-4"]) await engine.client.publish("parcels", { parcel })
await done.promise
console.log(await engine.client.getTopicStats("parcels"))

for await (const event of sub.stream("topic:parcels", { replay: 2 })) {
  console.log(`replayed ${event.data.parcel}`)
  if (event.data.parcel === "p-4") break
}
sub.close()
await engine.close()
