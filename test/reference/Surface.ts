/**
 * The public API: every export of every entry with its docstring, and every member of the exported types.
 *
 * It is read from the sources as they are written, not as a compiler resolves them, so that a type is shown with the names that
 * its author gave. A name is followed through imports and exports to its declaration.
 */
import fs from "node:fs"
import path from "node:path"
import { parseSync } from "oxc-parser"

export interface Member {
  readonly name: string
  /** As in the source, without the docstring. */
  readonly signature: string
  readonly doc: string | undefined
  readonly line: number
  /** Where it begins in its file. */
  readonly start: number
  /** The number of parameters of a call; 0 for anything else. */
  readonly parameters: number
}

export interface Declaration {
  readonly name: string
  readonly kind: "class" | "const" | "function" | "interface" | "type"
  /** Relative to the root of the repository. */
  readonly file: string
  readonly line: number
  /** Where it begins in its file. */
  readonly start: number
  /** As in the source, without bodies and docstrings. */
  readonly signature: string
  readonly doc: string | undefined
  readonly parameters: number
  readonly members: ReadonlyArray<Member>
  /** The types of this package that it extends or consists of. */
  readonly parents: ReadonlyArray<Declaration>
}

interface Namespace {
  readonly name: string
  readonly file: string
  readonly doc: string | undefined
  readonly exports: ReadonlyArray<Export>
}

export interface Export {
  /** The name under which it is imported. */
  readonly name: string
  readonly declaration: Declaration
}

export interface Entry {
  /** `@ironflow/node/engine`. */
  readonly name: string
  readonly file: string
  readonly doc: string | undefined
  readonly exports: ReadonlyArray<Export>
  readonly namespaces: ReadonlyArray<Namespace>
}

/** A node of the syntax tree, in the form of ESTree. */
interface Node {
  readonly type: string
  readonly start: number
  readonly end: number
  // oxlint-disable-next-line typescript/no-explicit-any -- the syntax tree has some hundred types of nodes, each with its own
  // members
  readonly [member: string]: any
}

interface Module {
  readonly file: string
  readonly text: string
  readonly body: ReadonlyArray<Node>
  /** Docstrings, by the position at which they end. */
  readonly docs: ReadonlyMap<number, string>
}

const repository = path.join(import.meta.dirname, "../..")

/** Every entry of `exports` in package.json, in its order. */
export const readEntries = (): ReadonlyArray<Entry> => {
  const manifest = JSON.parse(fs.readFileSync(path.join(repository, "package.json"), "utf8")) as {
    readonly name: string
    readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>
  }
  const reader = new Reader()
  return Object.entries(manifest.exports).flatMap(([subpath, target]) => {
    if (typeof target === "string") return []
    const file = path.join(target["@ironflow/source"] ?? "")
    return [{ name: path.posix.join(manifest.name, subpath), file, ...reader.entry(file) }]
  })
}

class Reader {
  readonly #modules = new Map<string, Module>()
  readonly #declarations = new Map<string, Declaration | undefined>()

  entry(file: string): Omit<Entry, "file" | "name"> {
    const module = this.#module(file)
    const exports = this.#exportsOf(file)
    const namespaces = module.body.flatMap((node) =>
      node.type === "ExportAllDeclaration" && node.exported !== null
        ? [this.#namespace(nameOf(node.exported), follow(file, node.source.value))]
        : []
    )
    return { doc: headerOf(module), exports, namespaces }
  }

  #namespace(name: string, file: string): Namespace {
    return { name, file, doc: headerOf(this.#module(file)), exports: this.#exportsOf(file) }
  }

  #exportsOf(file: string): ReadonlyArray<Export> {
    return [...this.#namesOf(file)]
      .map((name) => {
        const declaration = this.find(file, name)
        if (declaration === undefined) throw new Error(`${file} exports ${name}, which is declared nowhere`)
        return { name, declaration }
      })
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** The names that a module exports, except namespaces and the default. */
  #namesOf(file: string): ReadonlySet<string> {
    const names = new Set<string>()
    for (const node of this.#module(file).body) {
      if (node.type === "ExportAllDeclaration" && node.exported === null) {
        for (const name of this.#namesOf(follow(file, node.source.value))) names.add(name)
      }
      if (node.type !== "ExportNamedDeclaration") continue
      for (const { exported } of node.specifiers)
        if (nameOf(exported) !== "default") names.add(nameOf(exported))
      for (const name of declaredBy(node.declaration)) names.add(name)
    }
    return names
  }

  /** The declaration that a name of a module leads to, exported or not. */
  find(file: string, name: string): Declaration | undefined {
    const key = `${file}#${name}`
    if (!this.#declarations.has(key)) {
      this.#declarations.set(key, undefined) // for types that lead to themselves
      this.#declarations.set(key, this.#search(file, name))
    }
    return this.#declarations.get(key)
  }

  #search(file: string, name: string): Declaration | undefined {
    const module = this.#module(file)
    const found: Array<Declaration> = []
    for (const node of module.body) {
      const declaration = node.type === "ExportNamedDeclaration" ? node.declaration : node
      if (declaration !== null && declaredBy(declaration).includes(name)) {
        const one = this.#describe(module, node, declaration, name)
        if (one !== undefined) found.push(one)
      }
    }
    if (found.length > 0) return merge(found)

    for (const node of module.body) {
      if (
        node.type === "ImportDeclaration" ||
        (node.type === "ExportNamedDeclaration" && node.source !== null)
      ) {
        const specifier = node.specifiers.find(
          ({ exported, local }: Node) => nameOf(exported ?? local) === name
        )
        if (specifier === undefined || !isRelative(node.source.value)) continue
        return this.find(follow(file, node.source.value), nameOf(specifier.imported ?? specifier.local))
      }
      if (node.type === "ExportNamedDeclaration" && node.source === null) {
        const specifier = node.specifiers.find(({ exported }: Node) => nameOf(exported) === name)
        if (specifier !== undefined && nameOf(specifier.local) !== name) {
          return this.find(file, nameOf(specifier.local))
        }
      }
      if (node.type === "ExportAllDeclaration" && node.exported === null) {
        const there = follow(file, node.source.value)
        if (this.#namesOf(there).has(name)) return this.find(there, name)
      }
    }
    return undefined
  }

  #describe(module: Module, statement: Node, node: Node, name: string): Declaration | undefined {
    const base = {
      name,
      file: module.file,
      line: lineOf(module, node.start),
      start: statement.start,
      doc: docAt(module, statement.start),
      parameters: 0,
      members: [],
      parents: []
    }
    switch (node.type) {
      case "TSInterfaceDeclaration":
        return {
          ...base,
          kind: "interface",
          signature: cut(module, node.start, node.body.start),
          members: this.#membersOf(module, node),
          parents: this.#parentsOf(module, node)
        }
      case "ClassDeclaration":
        return {
          ...base,
          kind: "class",
          signature: cut(module, node.start, node.body.start),
          members: this.#membersOf(module, node),
          parents: this.#parentsOf(module, node)
        }
      case "TSTypeAliasDeclaration":
        return {
          ...base,
          kind: "type",
          signature: withoutComments(module, node),
          members: this.#membersOfType(module, node.typeAnnotation),
          parents: this.#partsOf(module, node.typeAnnotation)
        }
      case "FunctionDeclaration":
      case "TSDeclareFunction":
        return {
          ...base,
          kind: "function",
          signature: cut(module, node.start, node.body?.start ?? node.end),
          parameters: parametersOf(module, node)
        }
      case "VariableDeclaration": {
        const variable = node.declarations.find(({ id }: Node) => id.name === name)
        const value = bare(variable.init)
        const isFunction = value !== null && /^(Arrow)?Function/.test(value.type)
        const typed = variable.id.typeAnnotation
        return {
          ...base,
          kind: isFunction ? "function" : "const",
          signature: isFunction
            ? `const ${cut(module, variable.start, value.type.startsWith("Arrow") ? arrowOf(module, value) : value.body.start)}`
            : `const ${typed === null || typed === undefined ? withoutBodies(module, variable) : cut(module, variable.id.start, variable.id.end)}`,
          parameters: isFunction ? parametersOf(module, value) : 0
        }
      }
      default:
        return undefined
    }
  }

  /** Own members of an interface or a class. A member without a docstring has the docstring of the inherited member. */
  #membersOf(module: Module, node: Node): ReadonlyArray<Member> {
    const inherited = this.#parentsOf(module, node).flatMap(allMembers)
    const own = inOrder(
      node.body.body
        .filter((member: Node) => !implementsOverloads(member, node.body.body))
        .flatMap((member: Node) => this.#member(module, member, inherited))
    )
    const serviceMembers =
      node.type === "ClassDeclaration" && node.superClass !== null
        ? this.#membersOfService(module, node.superClass)
        : []
    return [...serviceMembers, ...own]
  }

  /** The members in `class X extends Context.Service<X, { ... }>()("...")`. */
  #membersOfService(module: Module, call: Node): ReadonlyArray<Member> {
    if (call.type !== "CallExpression") return []
    const types = call.typeArguments?.params ?? []
    return [
      ...this.#membersOfService(module, call.callee),
      ...types.flatMap((type: Node) =>
        type.type === "TSTypeLiteral" ? this.#membersOfType(module, type) : []
      )
    ]
  }

  #parentsOf(module: Module, node: Node): ReadonlyArray<Declaration> {
    const heritage: ReadonlyArray<Node> = [...(node.extends ?? []), ...(node.implements ?? [])]
    const names = heritage.flatMap(({ expression }) =>
      expression.type === "Identifier" ? [nameOf(expression)] : []
    )
    if (node.superClass?.type === "Identifier") names.push(nameOf(node.superClass))
    return names.flatMap((name) => this.find(module.file, name) ?? [])
  }

  #member(module: Module, node: Node, inherited: ReadonlyArray<Member>): ReadonlyArray<Member> {
    if (node.type === "MethodDefinition" && (node.kind === "constructor" || node.kind === "set")) return []
    if (
      !["TSPropertySignature", "TSMethodSignature", "MethodDefinition", "PropertyDefinition"].includes(
        node.type
      )
    ) {
      return []
    }
    if (node.key.type === "PrivateIdentifier" || node.accessibility === "private" || node.override) return []
    const name = node.computed
      ? `[${module.text.slice(node.key.start, node.key.end)}]`
      : (node.key.name ?? String(node.key.value))
    const own = docAt(module, node.start)
    const called = node.type === "MethodDefinition" ? node.value : (bare(node.value ?? null) ?? node)
    const type = node.typeAnnotation?.typeAnnotation
    const signature =
      node.type === "MethodDefinition"
        ? cut(module, node.start, node.value.body?.start ?? node.end)
        : withoutComments(module, node)
    return [
      {
        name,
        signature,
        doc: own ?? inherited.find((member) => member.name === name)?.doc,
        line: lineOf(module, node.start),
        start: node.start,
        parameters: parametersOf(module, type?.type === "TSFunctionType" ? type : called)
      }
    ]
  }

  /** The members of a type itself, or of the parts of a union or intersection. */
  #membersOfType(module: Module, type: Node): ReadonlyArray<Member> {
    switch (type.type) {
      case "TSTypeLiteral":
        return inOrder(type.members.flatMap((member: Node) => this.#member(module, member, [])))
      case "TSIntersectionType":
      case "TSUnionType":
        return inOrder(type.types.flatMap((part: Node) => this.#membersOfType(module, part)))
      case "TSParenthesizedType":
        return this.#membersOfType(module, type.typeAnnotation)
      default:
        return []
    }
  }

  /** The types of this package that a type consists of. */
  #partsOf(module: Module, type: Node): ReadonlyArray<Declaration> {
    switch (type.type) {
      case "TSTypeReference":
        return type.typeName.type === "Identifier"
          ? [this.find(module.file, nameOf(type.typeName)) ?? []].flat()
          : []
      case "TSIntersectionType":
      case "TSUnionType":
        return type.types.flatMap((part: Node) => this.#partsOf(module, part))
      case "TSParenthesizedType":
        return this.#partsOf(module, type.typeAnnotation)
      default:
        return []
    }
  }

  #module(file: string): Module {
    const known = this.#modules.get(file)
    if (known !== undefined) return known
    const text = fs.readFileSync(path.join(repository, file), "utf8")
    const { comments, program } = parseSync(file, text)
    const docs = new Map(
      comments
        .filter(({ type, value }) => type === "Block" && value.startsWith("*"))
        .map(({ end, value }) => [end, proseOf(value)])
    )
    const module = { file, text, body: program.body as unknown as ReadonlyArray<Node>, docs }
    this.#modules.set(file, module)
    return module
  }
}

/** Every declaration of these entries once, with the declarations that it extends. */
export const declarationsOf = (entries: ReadonlyArray<Entry>): ReadonlyArray<Declaration> => {
  const found = new Map<string, Declaration>()
  const visit = (declaration: Declaration): void => {
    const key = `${declaration.file}:${declaration.start}:${declaration.name}`
    if (found.has(key)) return
    found.set(key, declaration)
    for (const parent of declaration.parents) visit(parent)
  }
  for (const { exports, namespaces } of entries) {
    for (const one of [...exports, ...namespaces.flatMap((namespace) => namespace.exports)])
      visit(one.declaration)
  }
  return [...found.values()]
}

const hasExample = ({ doc = "" }: { readonly doc: string | undefined }): boolean =>
  /```|@deprecated|\{@link/.test(doc)

/** Declarations and members without a docstring, and calls with more than two parameters without an example. */
export const undocumented = (entries: ReadonlyArray<Entry>): ReadonlyArray<string> =>
  declarationsOf(entries).flatMap((declaration) => {
    const shown = declaration.members.filter(hasExample).map(({ name }) => name)
    const say = (name: string, line: number, what: string): string =>
      `${declaration.file}:${line} ${name} has no ${what}`
    return [
      ...(declaration.doc === undefined ? [say(declaration.name, declaration.line, "docstring")] : []),
      ...(declaration.parameters > 2 && !hasExample(declaration)
        ? [say(declaration.name, declaration.line, "example, and more than two parameters")]
        : []),
      ...declaration.members.flatMap(({ doc, line, name, parameters }) => [
        ...(doc === undefined ? [say(`${declaration.name}.${name}`, line, "docstring")] : []),
        ...(parameters > 2 && !shown.includes(name)
          ? [say(`${declaration.name}.${name}`, line, "example, and more than two parameters")]
          : [])
      ])
    ]
  })

/** The members of a declaration and of all that it extends. */
const allMembers = (declaration: Declaration): ReadonlyArray<Member> => [
  ...declaration.members,
  ...declaration.parents.flatMap(allMembers)
]

/** Gives all signatures of a method the first docstring that one of them has. */
const inOrder = (members: ReadonlyArray<Member>): ReadonlyArray<Member> => {
  const firstDocs = new Map<string, string>()
  for (const { doc, name } of members) if (doc !== undefined && !firstDocs.has(name)) firstDocs.set(name, doc)
  return members.map((member) => ({ ...member, doc: member.doc ?? firstDocs.get(member.name) }))
}

/** Whether a member is the implementation of overloads. Users see the overloads only. */
const implementsOverloads = (member: Node, members: ReadonlyArray<Node>): boolean =>
  member.type === "MethodDefinition" &&
  member.value.body !== null &&
  members.some(
    (other) =>
      other.type === "MethodDefinition" &&
      other.value.body === null &&
      other.key.name !== undefined &&
      other.key.name === member.key.name
  )

const nameOf = (node: Node): string => node.name ?? node.value

const isRelative = (specifier: string): boolean => specifier.startsWith(".")

const follow = (file: string, specifier: string): string =>
  path.posix.join(path.posix.dirname(file), specifier)

const declaredBy = (node: Node | null): ReadonlyArray<string> => {
  switch (node?.type) {
    case "VariableDeclaration":
      return node.declarations.map(({ id }: Node) => id.name)
    case "ClassDeclaration":
    case "FunctionDeclaration":
    case "TSDeclareFunction":
    case "TSInterfaceDeclaration":
    case "TSTypeAliasDeclaration":
      return [nameOf(node.id)]
    default:
      return []
  }
}

/** Merges declarations of the same name: a value and its type, or overloads. */
const merge = ([first, ...others]: ReadonlyArray<Declaration>): Declaration | undefined =>
  first === undefined || others.length === 0
    ? first
    : {
        ...first,
        doc: first.doc ?? others.find(({ doc }) => doc !== undefined)?.doc,
        signature: [first, ...others].map(({ signature }) => signature).join("\n"),
        parameters: Math.max(first.parameters, ...others.map(({ parameters }) => parameters)),
        members: [first, ...others].flatMap(({ members }) => members)
      }

/** The expression inside `as const`, `satisfies` and brackets. */
const bare = (node: Node | null): Node | null =>
  node !== null && ["ParenthesizedExpression", "TSAsExpression", "TSSatisfiesExpression"].includes(node.type)
    ? bare(node.expression)
    : node

/** The number of parameters, without rest parameters: those are optional arguments of a read. */
const parametersOf = (module: Module, node: Node): number => {
  const parameters: ReadonlyArray<Node> = node.params?.items ?? node.params ?? []
  return parameters.filter(
    (parameter) =>
      parameter.type !== "RestElement" && module.text.slice(parameter.start, parameter.start + 4) !== "this"
  ).length
}

const lineOf = (module: Module, position: number): number => module.text.slice(0, position).split("\n").length

/** The docstring that ends before a position, with only white space and comments for tools in between. */
const docAt = (module: Module, position: number): string | undefined => {
  const before = module.text.slice(0, position).replace(/(\s*\/\/ oxlint[^\n]*\n)?\s*$/, "")
  return module.docs.get(before.length)
}

/** The header of a file: a docstring at its top that does not belong to its first declaration. */
const headerOf = (module: Module): string | undefined => {
  const [first] = [...module.docs.entries()]
  if (first === undefined || module.text.slice(0, first[0]).trim().startsWith("import")) return undefined
  const [end, doc] = first
  return module.text.slice(0, end).trimStart().startsWith("/**") && module.text.indexOf("/**") === 0
    ? doc
    : undefined
}

const proseOf = (comment: string): string =>
  comment
    .slice(1)
    .split("\n")
    .map((line) => line.replace(/^\s*\* ?/, ""))
    .join("\n")
    .trim()

const cut = (module: Module, start: number, end: number): string => tidy(module.text.slice(start, end))

const arrowOf = (module: Module, arrow: Node): number => module.text.lastIndexOf("=>", arrow.body.start)

const withoutComments = (module: Module, node: Node): string => cut(module, node.start, node.end)

const withoutBodies = (module: Module, variable: Node): string => {
  const text = cut(module, variable.start, variable.end)
  return text.length > 300 ? cut(module, variable.id.start, variable.id.end) : text
}

const tidy = (text: string): string =>
  text
    .replaceAll(/\/\*\*?[^]*?\*\//g, "")
    .replaceAll(/^\s*\/\/.*$/gm, "")
    .replaceAll(/\n\s*\n+/g, "\n")
    .replace(/^export /, "")
    .trim()
