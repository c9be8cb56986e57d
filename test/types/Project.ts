/** A user's program: the errors that the compiler finds in it, and the types that it sees. */
import { spawnSync } from "node:child_process"
import fs from "node:fs"
import path from "node:path"
import process from "node:process"
import {
  isAsExpression,
  isBindingElement,
  isExportDeclaration,
  isExpression,
  isIdentifier,
  isImportDeclaration,
  isInterfaceDeclaration,
  isNonNullExpression,
  isPropertyAccessExpression,
  isTypeAliasDeclaration,
  isTypeAssertion,
  isTypeNode,
  type Node,
  type SourceFile,
  SyntaxKind
} from "typescript/unstable/ast"
import {
  API,
  type Diagnostic,
  type Symbol as CompilerSymbol,
  SymbolFlags,
  TypeFlags
} from "typescript/unstable/sync"
import { entryPoints, makeDeclarations, repository, tsc } from "./Declarations.ts"

export interface Complaint {
  readonly file: string
  /** Starts at 1. */
  readonly line: number
  readonly column: number
  /** What the compiler prints after the place. Each reason is indented further than what it explains. */
  readonly text: string
}

export interface Project extends Disposable {
  readonly pathOf: (file: string) => string
  readonly complaints: () => ReadonlyArray<Complaint>
  /** Expressions of a file whose type is `any`, as `line: code`. */
  readonly anys: (file: string) => ReadonlyArray<string>
  /** What overrides the compiler in a file: `as`, `<T>x`, `x!`, and `any` in a type. */
  readonly casts: (file: string) => ReadonlyArray<string>
  /** Members of types that a file reads or calls, as `Type.member` by the types that declare them. */
  readonly uses: (file: string) => ReadonlySet<string>
  /** Members of the type of a variable of the file, in the form of {@link uses}. */
  readonly members: (file: string, variable: string) => ReadonlyArray<string>
}

/** The options of a project, as from `tsc --init` and as this package's docs require. */
const compilerOptions = {
  target: "ES2023",
  lib: ["ES2023", "ESNext.Disposable"],
  module: "NodeNext",
  moduleDetection: "force",
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  noErrorTruncation: false,
  skipLibCheck: true,
  types: ["node"],
  noEmit: true
}

interface Folder extends Disposable {
  readonly folder: string
  /** The path of its tsconfig.json. */
  readonly config: string
}

/** Writes files, by name and content, to a new folder inside the repository, so that packages are found. */
const writeProject = (files: Readonly<Record<string, string>>): Folder => {
  const folder = fs.mkdtempSync(path.join(repository, "test", ".examples-"))
  const config = path.join(folder, "tsconfig.json")
  for (const [file, content] of Object.entries(files)) fs.writeFileSync(path.join(folder, file), content)
  fs.writeFileSync(
    config,
    JSON.stringify({
      compilerOptions: { ...compilerOptions, paths: entryPoints(makeDeclarations()) },
      files: Object.keys(files)
    })
  )
  return { folder, config, [Symbol.dispose]: () => fs.rmSync(folder, { recursive: true, force: true }) }
}

/**
 * How often the compiler fills in type parameters to check a program: the same number on every machine. Throws the compiler's
 * errors.
 */
export const countInstantiations = (program: string): number => {
  using project = writeProject({ "program.ts": program })
  const { status, stdout } = spawnSync(
    process.execPath,
    // parallel checkers would divide the files differently each time
    [tsc, "-p", project.config, "--singleThreaded", "--extendedDiagnostics"],
    { encoding: "utf8" }
  )
  if (status !== 0) throw new Error(stdout)
  return Number(/^Instantiations:\s+(\d+)$/m.exec(stdout)?.[1])
}

/** A program of these files, by name and content. */
export const makeProject = (files: Readonly<Record<string, string>>): Project => {
  const written = writeProject(files)
  const { config, folder } = written
  const pathOf = (file: string): string => path.join(folder, file)
  const api = new API({ cwd: folder })
  const project = api.updateSnapshot({ openProjects: [config] }).getProject(config)
  if (project === undefined) throw new Error(`The compiler does not open ${config}`)
  const { checker, program } = project

  const sourceOf = (file: string): SourceFile => {
    const source = program.getSourceFile(pathOf(file))
    if (source === undefined) throw new Error(`The compiler does not know ${file}`)
    return source
  }
  const show = (source: SourceFile, node: Node): string =>
    `${source.getLineAndCharacterOfPosition(node.getStart(source)).line + 1}: ${node.getText(source).replaceAll(/\s+/g, " ")}`

  /** The expressions whose type is `any`. The compiler fails for some tuples, and for all expressions in the same request. */
  const anysOf = (nodes: ReadonlyArray<Node>): ReadonlyArray<Node> => {
    try {
      const types = checker.getTypeAtLocation(nodes)
      return nodes.filter((_, i) => ((types[i]?.flags ?? 0) & TypeFlags.Any) !== 0)
    } catch (error) {
      const half = Math.ceil(nodes.length / 2)
      if (nodes.length > 1) return [...anysOf(nodes.slice(0, half)), ...anysOf(nodes.slice(half))]
      if (error instanceof Error && error.message.includes("TupleType")) return []
      throw error
    }
  }
  /** The member that a name stands for in `x.name`, `{ name } = x` or `{ name: y } = x`. */
  const memberOf = (name: Node): CompilerSymbol | undefined => {
    if (isPropertyAccessExpression(name.parent)) {
      return name.parent.name === name ? checker.getSymbolAtLocation(name) : undefined
    }
    if (!isBindingElement(name.parent) || (name.parent.propertyName ?? name.parent.name) !== name)
      return undefined
    const type = checker.getTypeAtLocation(name.parent.parent)
    return type === undefined ? undefined : checker.getPropertyOfType(type, name.getText())
  }
  const nameOf = (member: CompilerSymbol): string => {
    // a module is named by its path, in quotes
    const parent = /^(?:.*\/)?(?<name>[^/"]+)"?$/.exec(member.getParent()?.name ?? "")?.groups?.name
    return `${parent}.${member.name}`
  }

  return {
    pathOf,
    complaints: () => [
      ...program.getProgramDiagnostics().map((it) => ({ file: "", line: 0, column: 0, text: textOf(it) })),
      ...Object.keys(files).flatMap((file) =>
        [...program.getSyntacticDiagnostics(pathOf(file)), ...program.getSemanticDiagnostics(pathOf(file))]
          .toSorted((a, b) => a.pos - b.pos)
          .map((diagnostic) => {
            const { line, character } = sourceOf(file).getLineAndCharacterOfPosition(diagnostic.pos)
            return { file, line: line + 1, column: character + 1, text: textOf(diagnostic) }
          })
      )
    ],
    anys: (file) => {
      const source = sourceOf(file)
      const expressions = nodesOf(source, isWithoutValues).filter(
        (node) => isExpression(node) && !(isBindingElement(node.parent) && node.parent.propertyName === node)
      )
      return anysOf(expressions).map((node) => show(source, node))
    },
    casts: (file) => {
      const source = sourceOf(file)
      return nodesOf(source)
        .filter(
          (node) =>
            (isAsExpression(node) && node.type.getText(source) !== "const") ||
            isTypeAssertion(node) ||
            isNonNullExpression(node) ||
            node.kind === SyntaxKind.AnyKeyword
        )
        .map((node) => show(source, node))
    },
    uses: (file) => {
      const source = sourceOf(file)
      const names = nodesOf(source).filter(
        (node) =>
          isIdentifier(node) && (isPropertyAccessExpression(node.parent) || isBindingElement(node.parent))
      )
      return new Set(
        names.flatMap((node) => {
          const symbol = memberOf(node)
          return symbol === undefined ? [] : [nameOf(symbol)]
        })
      )
    },
    members: (file, variable) => {
      const symbol = checker.resolveName(variable, SymbolFlags.Value, sourceOf(file))
      const type = symbol === undefined ? undefined : checker.getTypeOfSymbol(symbol)
      if (type === undefined) throw new Error(`${file} has no ${variable}`)
      return (
        checker
          .getPropertiesOfType(type)
          // without private members, and those that only `using` and `for await` use
          .filter((member) => !member.name.startsWith("__"))
          .map(nameOf)
      )
    },
    [Symbol.dispose]: () => {
      api.close()
      written[Symbol.dispose]()
    }
  }
}

const textOf = (diagnostic: Diagnostic, depth = 0): string =>
  [
    `${"  ".repeat(depth)}${diagnostic.text}`,
    ...(diagnostic.messageChain ?? []).map((it) => textOf(it, depth + 1))
  ].join("\n")

const nodesOf = (source: SourceFile, isLeftOut?: (node: Node) => boolean): ReadonlyArray<Node> => {
  const nodes: Array<Node> = []
  const walk = (node: Node): void => {
    if (isLeftOut?.(node)) return
    nodes.push(node)
    node.forEachChild(walk)
  }
  source.forEachChild(walk)
  return nodes
}

/** Nodes without a value at run time: types, and imports and exports of names. */
const isWithoutValues = (node: Node): boolean =>
  isTypeNode(node) ||
  isTypeAliasDeclaration(node) ||
  isInterfaceDeclaration(node) ||
  isImportDeclaration(node) ||
  isExportDeclaration(node)
