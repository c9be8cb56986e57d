/**
 * Types cost the compiler little, and the cost grows no faster than the program.
 *
 * These tests count how often the compiler fills in type parameters: the same number on every machine. The bounds are a fifth
 * above the current numbers. Higher numbers make editors slow, so improve the types before you raise a bound.
 */
import { expect, test } from "vitest"
import { countInstantiations } from "./Project.ts"

interface Size {
  readonly events: number
  readonly functions: number
}

const range = (length: number): ReadonlyArray<number> => Array.from({ length }, (_, i) => i)
const nameOf = (i: number): string => `area${i % 10}.happened${i}`
const inputOf = (i: number): string => `{ id: "${i}", amount${i}: ${i}, items: [] }`

/** Schemas for the data of events. */
const zodSchemas = ({ events }: Size): string =>
  [
    'import { z } from "zod"',
    "const item = z.object({ sku: z.string(), qty: z.number() })",
    ...range(events).map(
      (i) =>
        `const Data${i} = z.object({ id: z.string(), amount${i}: z.number(), items: z.array(item), at: z.string().optional() })`
    )
  ].join("\n")

/** Each function is started by an event, runs a step, waits for another event and invokes another function. */
const promiseProgram = ({ events, functions }: Size): string =>
  [
    zodSchemas({ events, functions }),
    'import { createClient, createFunction, createProjection, createWorker, defineEvent, type EventMap } from "@ironflow/node"',
    ...range(events).map((i) => `const Event${i} = defineEvent({ name: "${nameOf(i)}", schema: Data${i} })`),
    `type Events = EventMap<${range(events)
      .map((i) => `typeof Event${i}`)
      .join(" | ")}>`,
    "const client = createClient<Events>()",
    ...range(events).flatMap((i) => [
      `await client.emit(Event${i}, ${inputOf(i)})`,
      `await client.emit("${nameOf(i)}", ${inputOf(i)})`
    ]),
    ...range(functions).map((i) => {
      const invoked =
        i === 0 ? "" : `\n  const before = await step.invoke(function${i - 1}, ${inputOf(i - 1)})`
      return `const function${i} = createFunction({ id: "function-${i}", triggers: [Event${i}] }, async ({ event, step }) => {
  const charged = await step.run("charge", async () => ({ receipt: event.data.id, amount: event.data.amount${i}, at: new Date() }))
  const answer = await step.waitForEvent("answer", { event: Event${functions + i}, match: "data.id" })${invoked}
  const [first, second] = await step.parallel("both", [(s) => s.run("one", () => 1), (s) => s.run("two", () => "2")])
  return { receipt${i}: charged.receipt, at: charged.at, amount: answer.data.amount${functions + i} + first, second${i === 0 ? "" : ", before: before.at"} }
})`
    }),
    `const totals = createProjection({
  name: "totals",
  events: [${range(events)
    .map((i) => `Event${i}`)
    .join(", ")}],
  initialState: () => ({ count: 0 }),
  handler: (state, event) => (event.name === "${nameOf(0)}" ? { count: state.count + event.data.amount0 } : state)
})`,
    `createWorker({ functions: [${range(functions)
      .map((i) => `function${i}`)
      .join(", ")}], projections: [totals] })`
  ].join("\n")

const effectSchemas = ({ events }: Size): string =>
  [
    'import { Effect, Layer, Schema } from "effect"',
    "const item = Schema.Struct({ sku: Schema.String, qty: Schema.Number })",
    ...range(events).map(
      (i) =>
        `const Data${i} = Schema.Struct({ id: Schema.String, amount${i}: Schema.Number, items: Schema.Array(item), at: Schema.optionalKey(Schema.DateFromString) })`
    )
  ].join("\n")

const effectProgram = ({ events, functions }: Size): string =>
  [
    effectSchemas({ events, functions }),
    'import { Client, Event, IronflowFunction, Projection, Step, Worker } from "@ironflow/node/effect"',
    ...range(events).map((i) => `const Event${i} = Event.define("${nameOf(i)}", { data: Data${i} })`),
    "export const emitAll = Effect.gen(function* () {",
    "  const client = yield* Client.Client",
    ...range(events).map(
      (i) => `  yield* client.emit(Event${i}, { id: "${i}", amount${i}: ${i}, items: [], at: new Date() })`
    ),
    "})",
    ...range(functions).map((i) => {
      const invoked =
        i === 0 ? "" : `\n  const before = yield* Step.invoke(function${i - 1}, ${inputOf(i - 1)})`
      return `const function${i} = IronflowFunction.make({ id: "function-${i}", triggers: [Event${i}] }, Effect.fnUntraced(function* ({ event }) {
  const charged = yield* Step.run("charge", Effect.succeed({ receipt: event.data.id, amount: event.data.amount${i} }))
  const answer = yield* Step.waitForEvent("answer", { event: Event${functions + i}, match: "data.id" })${invoked}
  const [first, second] = yield* Step.parallel("both", [Step.run("one", Effect.succeed(1)), Step.run("two", Effect.succeed("2"))])
  return { receipt${i}: charged.receipt, amount: answer.data.amount${functions + i} + first, second${i === 0 ? "" : ", before: before.amount"} }
}))`
    }),
    `const totals = Projection.make({
  name: "totals",
  events: [${range(events)
    .map((i) => `Event${i}`)
    .join(", ")}],
  initialState: () => ({ count: 0 }),
  handler: (state, event) => (event.name === "${nameOf(0)}" ? { count: state.count + event.data.amount0 } : state)
})`,
    `export const Main = Worker.layer({ functions: [${range(functions)
      .map((i) => `function${i}`)
      .join(", ")}], projections: [totals] })`
  ].join("\n")

const small: Size = { events: 2, functions: 1 }
const large: Size = { events: 100, functions: 50 }

const programs = [
  { name: "a small program of the Promise API", program: promiseProgram(small), bound: 90_000 },
  { name: "100 events and 50 functions of the Promise API", program: promiseProgram(large), bound: 550_000 },
  { name: "a small program of the Effect API", program: effectProgram(small), bound: 14_000 },
  { name: "100 events and 50 functions of the Effect API", program: effectProgram(large), bound: 190_000 }
]

test.for(programs)("$name stays within $bound instantiations", ({ bound, program }) => {
  expect(countInstantiations(`${program}\nexport {}\n`)).toBeLessThan(bound)
})
