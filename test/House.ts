/** The source as a graph: which module imports which, as a value, only for its types, or later. */
import { readdirSync, readFileSync } from "node:fs"
import path from "node:path"
import { parseSync } from "oxc-parser"

const root = path.join(import.meta.dirname, "..")

/** How a module uses another. An import of types does not exist at run time, and a `later` one is loaded by a call. */
export type Need = "value" | "type" | "later"

interface Import {
  readonly from: string
  readonly to: string
  readonly need: Need
}

export interface Module {
  /** Its path in `src`, such as `Engine/Engine.ts`. */
  readonly path: string
  readonly text: string
  readonly imports: ReadonlyArray<Import>
  /** Whether it exports values that another module defines. */
  readonly reexports: boolean
  /** The string literals, and the parts of template literals. */
  readonly texts: ReadonlyArray<string>
  /** The keys in its object literals. */
  readonly keys: ReadonlyArray<string>
}

/** Every module in `src`. */
export const readSource = (): ReadonlyArray<Module> =>
  readdirSync(path.join(root, "src"), { recursive: true, encoding: "utf8" })
    .filter((file) => /\.tsx?$/.test(file))
    .sort()
    .map((file) => readModule(file, readFileSync(path.join(root, "src", file), "utf8")))

const readModule = (file: string, text: string): Module => {
  const { module, errors, program } = parseSync(file, text)
  if (errors.length > 0) throw new Error(`${file}: ${errors[0]?.message}`)
  const imports = new Map<string, Import>()
  const add = (request: string, need: Need): void => {
    if (!request.startsWith(".")) return
    const to = path.posix.join(path.posix.dirname(file), request)
    // an import of a value counts more than one of a type
    if (need === "type" && imports.has(to)) return
    imports.set(to, { from: file, to, need })
  }
  for (const { entries, moduleRequest } of module.staticImports) {
    add(moduleRequest.value, entries.length > 0 && entries.every(({ isType }) => isType) ? "type" : "value")
  }
  const exported = module.staticExports.flatMap(({ entries }) => entries)
  for (const { isType, moduleRequest } of exported) {
    if (moduleRequest != null) add(moduleRequest.value, isType ? "type" : "value")
  }
  for (const { moduleRequest } of module.dynamicImports) {
    const [, request] = /^["'](.*)["']$/.exec(text.slice(moduleRequest.start, moduleRequest.end)) ?? []
    if (request !== undefined && !imports.has(request)) add(request, "later")
  }
  return {
    path: file,
    text,
    imports: [...imports.values()],
    reexports: exported.some(({ isType, moduleRequest }) => moduleRequest != null && !isType),
    ...wordsIn(program.body)
  }
}

/** The string literals and the keys of object literals in a syntax tree. */
const wordsIn = (tree: unknown): Pick<Module, "texts" | "keys"> => {
  const texts: Array<string> = []
  const keys: Array<string> = []
  const visit = (node: unknown): void => {
    if (Array.isArray(node)) return node.forEach(visit)
    if (typeof node !== "object" || node === null) return
    // every node of a tree is such an object
    const { type, ...members } = node as { readonly type?: string; readonly [member: string]: unknown }
    if (type === "Literal" && typeof members.value === "string") texts.push(members.value)
    if (type === "TemplateElement") texts.push((members.value as { readonly cooked: string }).cooked)
    if (type === "ObjectExpression") {
      for (const { computed, key } of members.properties as ReadonlyArray<{
        readonly computed?: boolean
        readonly key?: { readonly name?: string; readonly value?: unknown }
      }>) {
        if (computed !== true && key !== undefined) keys.push(String(key.name ?? key.value))
      }
    }
    Object.values(members).forEach(visit)
  }
  visit(tree)
  return { texts, keys }
}

/** The sets of modules that import each other in a circle, largest first, each in the order of their paths. */
export const circles = (
  modules: ReadonlyArray<Module>,
  needs: ReadonlyArray<Need>
): ReadonlyArray<ReadonlyArray<string>> => {
  const edges = new Map(
    modules.map((module) => [
      module.path,
      module.imports.filter(({ need }) => needs.includes(need)).map(({ to }) => to)
    ])
  )
  // Tarjan's algorithm
  const index = new Map<string, number>()
  const low = new Map<string, number>()
  const stack: Array<string> = []
  const found: Array<ReadonlyArray<string>> = []
  const visit = (node: string): number => {
    index.set(node, index.size)
    low.set(node, index.get(node)!)
    stack.push(node)
    for (const next of edges.get(node) ?? []) {
      if (!index.has(next)) low.set(node, Math.min(low.get(node)!, visit(next)))
      else if (stack.includes(next)) low.set(node, Math.min(low.get(node)!, index.get(next)!))
    }
    if (low.get(node) === index.get(node)) {
      const circle = stack.splice(stack.indexOf(node))
      if (circle.length > 1) found.push(circle.sort())
    }
    return low.get(node)!
  }
  for (const node of edges.keys()) if (!index.has(node)) visit(node)
  return found.sort((a, b) => b.length - a.length || (a[0]! < b[0]! ? -1 : 1))
}
