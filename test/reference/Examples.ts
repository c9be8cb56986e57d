/** Makes modules that compile from examples in docstrings: adds the imports and declarations that readers can infer. */
import { readEntries } from "./Surface.ts"

const orderPlaced = `z.object({ orderId: z.string(), amount: z.number() })`
const itemAdded = `defineEvent({ name: "item.added", schema: z.object({ qty: z.number() }) })`

/** Declarations of names that the package does not export. Each may use those above it. */
const given = new Map([
  ["Config", `import { Config } from "effect"`],
  ["Effect", `import { Effect } from "effect"`],
  ["Layer", `import { Layer } from "effect"`],
  ["Schema", `import { Schema } from "effect"`],
  ["Stream", `import { Stream } from "effect"`],
  ["TestClock", `import { TestClock } from "effect/testing"`],
  ["express", `import express from "express"`],
  ["z", `import { z } from "zod"`],
  ["ItemAdded", `const ItemAdded = ${itemAdded}`],
  ["ItemRemoved", `const ItemRemoved = defineEvent({ name: "item.removed", schema: z.object({}) })`],
  ["OrderPlaced", `const OrderPlaced = defineEvent({ name: "order.placed", schema: ${orderPlaced} })`],
  [
    "Order",
    `const Order = defineEntity({ type: "order", events: [${itemAdded}], initialState: () => 0, evolve: (n) => n + 1 })`
  ],
  ["Payments", `declare const Payments: { readonly layer: Layer.Layer<never> }`],
  ["Receipt", `const Receipt = Schema.Struct({ id: Schema.String })`],
  ["app", `declare const app: ReturnType<typeof express>`],
  [
    "charge",
    `declare const charge: (...of: ReadonlyArray<unknown>) => Effect.Effect<{ readonly id: string }>`
  ],
  ["client", `declare const client: IronflowClient`],
  ["hookRequest", `declare const hookRequest: HookRequest`],
  ["insert", `declare const insert: (row: string) => Effect.Effect<void>`],
  ["logger", `declare const logger: Logger`],
  ["order", `declare const order: { readonly id: string; readonly amount: number }`],
  ["orders", `const orders = client.streams.of(Order)`],
  ["request", `declare const request: Request`],
  ["rows", `declare const rows: ReadonlyArray<string>`],
  ["step", `declare const step: StepClient`],
  ["streams", `declare const streams: typeof Streams.Streams.Service`]
])

const entries = readEntries()

/** An example with its missing imports, and in a generator when it yields. */
export const moduleOf = (example: string, page: string): string => {
  const lines = example.split("\n")
  const imports = lines.filter((line) => line.startsWith("import "))
  const code = lines.filter((line) => !line.startsWith("import ")).join("\n")
  const yields = /^(const \w+ = )?yield\*/m.test(code)
  const body = yields ? `export const example = Effect.gen(function* () {\n${code}\n})` : code

  const known = new Set([...namesIn(imports.join("\n")), ...declaredIn(code)])
  const before: Array<string> = []
  const declareAll = (text: string): void => {
    for (const name of namesIn(text)) {
      if (known.has(name)) continue
      const line = given.get(name) ?? importOf(name, page)
      if (line === undefined) continue
      known.add(name)
      if (!line.startsWith("import ")) declareAll(line)
      before.push(line)
    }
  }
  declareAll(body)
  return [...imports, ...before, body, "export {}", ""].join("\n")
}

/** The names that a text uses, except members, labels and strings. */
const namesIn = (text: string): ReadonlyArray<string> =>
  [...text.matchAll(/(?<![.\w"'`/-])[A-Za-z]\w*\b(?!["'`:-])/g)].map(([name]) => name)

const declaredIn = (code: string): ReadonlyArray<string> =>
  [...code.matchAll(/\b(?:const|class|function)\s+(?:[[{] ?)?(\w+)/g)].map(([, name = ""]) => name)

/** The import of a name for a reader of this page. On the page of the Effect API, its own exports come first. */
const importOf = (name: string, page: string): string | undefined => {
  const inOrder = page === "effect" ? entries.toSorted((a, b) => rank(a.name) - rank(b.name)) : entries
  for (const entry of inOrder) {
    const found = entry.exports.find((one) => one.name === name)
    const isType = found?.declaration.kind === "interface" || found?.declaration.kind === "type"
    if (found !== undefined || entry.namespaces.some((one) => one.name === name)) {
      return `import ${isType ? "type " : ""}{ ${name} } from "${entry.name}"`
    }
  }
  return undefined
}

const rank = (entry: string): number => (entry.endsWith("/effect") ? 0 : 1)
