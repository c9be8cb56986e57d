/**
 * Types cost the compiler little, and what they cost grows with the program and no faster.
 *
 * What is counted is how often the compiler fills in type parameters: the same number on every machine. The bounds leave a third
 * above what is needed; what goes beyond makes editors slow, and is to be mended and not to be allowed.
 */
import { expect, test } from "vitest"
import { makeProject } from "./Project.ts"

interface Size {
  readonly events: number
  readonly functions: number
}

const large: Size = { events: 100, functions: 50 }
const half: Size = { events: 50, functions: 25 }

const range = (length: number): ReadonlyArray<number> => Array.from({ length }, (_, i) => i)
const nameOf = (i: number): string => `area${i % 10}.happened${i}`
const inputOf = (i: number): string => `{ id: "${i}", amount${i}: ${i}, items: [] }`

/** Events with schemas, and nothing that is made of them: what the library of the schemas costs. */
const promiseEvents = ({ events }: Size): string =>
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

const effectEvents = ({ events }: Size): string =>
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

const instantiationsOf = (program: string): number => {
  using project = makeProject({ "program.ts": `${program}\nexport {}\n` })
  expect(project.complaints()).toEqual([])
  return project.instantiations()
}

/** What a program costs besides the schemas in it. */
const costOf = (schemas: string, program: string): number =>
  instantiationsOf(`${schemas}\n${program}`) - instantiationsOf(schemas)

const faces = [
  { face: "promise", events: promiseEvents, program: promiseProgram, bounds: { large: 1, small: 1 } },
  { face: "effect", events: effectEvents, program: effectProgram, bounds: { large: 1, small: 1 } }
]

test.for(faces)("100 events and 50 functions of the $face face", ({ bounds, events, program }) => {
  const cost = costOf(events(large), program(large))
  const costOfHalf = costOf(events(half), program(half))
  console.log(cost, costOfHalf)

  expect(cost).toBeLessThan(bounds.large)
  expect(cost / costOfHalf).toBeLessThan(2.3)
})

test.for(faces)("a small program of the $face face", ({ bounds, events, program }) => {
  const small = { events: 2, functions: 1 }

  expect(costOf(events(small), program(small))).toBeLessThan(bounds.small)
})
