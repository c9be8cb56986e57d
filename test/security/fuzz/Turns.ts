/** Valid reports of workers. Mutations of them get further than a report that is refused at its first field. */
import type { Dice } from "../../durability/Plan.ts"

const at = { attempt: 1, startedAt: 1, endedAt: 2 }
const error = { name: "E", message: "m" }
const due = { afterMs: 5 }

const steps: ReadonlyArray<object> = [
  {
    _tag: "StepDone",
    stepKey: "a:0",
    name: "a",
    kind: "run",
    outcome: { _tag: "Success", value: "1" },
    ...at
  },
  { _tag: "StepDone", stepKey: "b:0", name: "b", kind: "run", outcome: { _tag: "Failure", error }, ...at },
  { _tag: "StepRetry", stepKey: "c:0", name: "c", kind: "run", failures: 1, error, due },
  {
    _tag: "Transact",
    stepKey: "t:0",
    name: "t",
    value: "1",
    writes: [{ _tag: "kv", bucket: "carts", key: "c-1", value: { type: "json", data: "1" } }],
    ...at
  },
  {
    _tag: "Transact",
    stepKey: "u:0",
    name: "u",
    value: "1",
    writes: [
      {
        _tag: "append",
        entityId: "o-9",
        entityType: "order",
        events: [{ name: "order.x", version: 1, data: "{}" }]
      },
      { _tag: "emit", name: "order.y", version: 1, data: "{}", metadata: '{"a":1}' }
    ],
    ...at
  },
  { _tag: "Sleep", stepKey: "s:0", name: "s", due },
  {
    _tag: "WaitForEvent",
    stepKey: "w:0",
    name: "w",
    scope: "",
    event: "order.paid",
    match: "event.data.id == trigger.data.id",
    timeout: due,
    timeoutMs: 5
  },
  { _tag: "Invoke", stepKey: "i:0", name: "i", functionId: "ship-order", input: "{}", timeoutMs: 5 },
  { _tag: "InvokeAsync", stepKey: "j:0", name: "j", functionId: "ship-order", input: "{}" },
  { _tag: "Publish", stepKey: "p:0", name: "p", topic: "news", data: '{"a":[1,{"b":null}]}' },
  { _tag: "Settle", stepKey: "s:0" },
  { _tag: "Withdraw", stepKey: "s:0" }
]

const ends: ReadonlyArray<object> = [
  { _tag: "Complete", output: '{"a":1}' },
  { _tag: "Fail", error },
  { _tag: "RetryRun", error, due },
  { _tag: "Compensate", error, compensations: ["compensate:a:0"] },
  { _tag: "Suspend", open: ["s:0"] },
  { _tag: "Pause", code: "ODD", message: "m", details: { a: [1] } },
  { _tag: "Release" }
]

/** Ops of one report, some of them with an end. */
export const opsOf = (dice: Dice, hasEnd: boolean): ReadonlyArray<object> => [
  ...Array.from({ length: dice.between(hasEnd ? 0 : 1, 4) }, () => dice.pick(steps)),
  ...(hasEnd ? [dice.pick(ends)] : [])
]
