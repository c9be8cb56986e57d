/**
 * What it costs to decode the most frequent requests with their codecs, compared with parsing their JSON.
 *
 * `node --conditions=@ironflow/source bench/codec.ts [rounds]` prints a JSON line for each request: how often per second it is
 * decoded and parsed, as the median of five measurements.
 */
import type { Codec } from "../src/Protocol/Codec.ts"
import { decoder } from "../src/Protocol/ServerCodec.ts"
import { callSpecs as events } from "../src/Protocol/Events.ts"
import { callSpecs as keys } from "../src/Protocol/Kv.ts"
import { Room, callSpecs as workers } from "../src/Protocol/Workers.ts"

const rounds = Number(process.argv[2] ?? 50_000)

const many = <A>(count: number, item: (i: number) => A): ReadonlyArray<A> =>
  Array.from({ length: count }, (_, i) => item(i))

const requests: { readonly [name: string]: readonly [codec: Codec<unknown>, request: unknown] } = {
  trigger: [
    events.trigger.body!,
    { event: "order.placed", data: { total: 1 }, idempotency_key: "order-1", metadata: { by: "me" } }
  ],
  "poll of 20 jobs": [
    workers.pollTurns.body!,
    {
      session: "s_1",
      seen: 12,
      waitMs: 5000,
      asked: 100,
      withdrawn: 3,
      holding: many(20, (i) => `job_${i}`)
    }
  ],
  "sign of life": [Room, { session: "s_1", seen: 12, asked: 100, withdrawn: 3, holding: [] }],
  "update of 5 steps": [
    workers.updateJob.body!,
    {
      status: "completed",
      output: { a: 1 },
      steps: many(5, (i) => ({
        id: `run:step:${i}`,
        name: "step",
        type: "invoke",
        status: "completed",
        started_at: "2026-01-01T00:00:00Z",
        ended_at: "2026-01-01T00:00:00Z",
        output: { x: i }
      }))
    }
  ],
  "20 writes": [
    keys.writeKeys.body!,
    { writes: many(20, (i) => ({ op: "put", key: `order-${i}`, value: "MQ==", revision: "7", unknown: i })) }
  ]
}

const perSecond = <A>(read: (value: A) => unknown, value: A): number => {
  const runs = Array.from({ length: 6 }, () => {
    const begun = performance.now()
    for (let i = 0; i < rounds; i++) read(value)
    return Math.round((rounds / (performance.now() - begun)) * 1000)
  })
  // the first measurement is a warm-up
  return runs.slice(1).toSorted((a, b) => a - b)[2] ?? Number.NaN
}

for (const [name, [codec, request]] of Object.entries(requests)) {
  const decoded = perSecond(decoder(codec, name), request)
  const parsed = perSecond(JSON.parse, JSON.stringify(request))
  console.log(JSON.stringify({ request: name, decoded, parsed }))
}
