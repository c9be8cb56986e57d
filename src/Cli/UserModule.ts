/**
 * Loads the functions and projections that a user's file exports, in TypeScript or JavaScript. Node itself strips the
 * types. Hooks of Node do two more things. An import of `./orders.js` finds `orders.ts`, since TypeScript projects
 * often import a file by the name that it has after compilation. And a file with `import` or `export` is an ES module,
 * whatever the nearest `package.json` says.
 */
import { readFileSync } from "node:fs"
import Module from "node:module"
import path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import type { IronflowError } from "../Errors.ts"
import { CommandError } from "./CommandError.ts"
import type { AnyFunction } from "../Function.ts"
import { isObject } from "../Json.ts"
import type { AnyProjection } from "../Projection/Projection.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import { checkFile } from "./UserFile.ts"

/** The functions and projections that a file exports, and its registry of event definitions. */
export interface Definitions {
  readonly functions: ReadonlyArray<AnyFunction>
  readonly projections: ReadonlyArray<AnyProjection>
  /** What `createEventDefinitionRegistry()` returned; absent when the file exports none. */
  readonly eventDefinitions?: EventDefinitionRegistry
}

/**
 * The functions and projections that the file exports, directly or in arrays, and its registry of event definitions.
 * Rejects with an `IronflowError` of code `MODULE_NOT_FOUND`, `MODULE_INVALID` or `NO_FUNCTIONS`.
 */
export const loadDefinitions = async (file: string): Promise<Definitions> => {
  const absolute = path.resolve(file)
  checkFile(file)
  const loadedFiles = new LoadedFiles()
  loadedFiles.registerHooks()
  let exports: { readonly [name: string]: unknown }
  try {
    exports = await import(pathToFileURL(absolute).href)
  } catch (error) {
    throw loadError(file, error, loadedFiles)
  }
  const exported = Object.values(exports).flat()
  const functions = [...new Set(exported.filter(isFunctionDefinition))]
  const projections = [...new Set(exported.filter(isProjectionDefinition))]
  if (functions.length + projections.length > 0) {
    const registries = [...new Set(exported.filter(isEventDefinitionRegistry))]
    if (registries.length > 1) {
      throw invalidModuleError(
        `${file} exports ${registries.length} registries of event definitions: export one with all definitions`
      )
    }
    const [eventDefinitions] = registries
    return { functions, projections, ...(eventDefinitions === undefined ? {} : { eventDefinitions }) }
  }
  // every CommonJS module has these two names
  const names = Object.keys(exports).filter((name) => name !== "default" && name !== "module.exports")
  throw new CommandError(
    `${file} exports no functions and no projections${names.length === 0 ? "" : ` (only ${names.join(", ")})`}. It must export what createFunction() or ` +
      'IronflowFunction.make() returned: `export const processOrder = createFunction({ id: "process-order", ... }, ...)`, ' +
      "or an array of such functions",
    { code: "NO_FUNCTIONS" }
  )
}

/** Checks the shape and not the class, since the file may use another copy of this package. */
const isFunctionDefinition = (value: unknown): value is AnyFunction =>
  isObject(value) &&
  isObject(value.config) &&
  typeof value.config.id === "string" &&
  (typeof value.handler === "function" || typeof value.program === "function")

const isProjectionDefinition = (value: unknown): value is AnyProjection =>
  isObject(value) &&
  isObject(value.config) &&
  typeof value.config.name === "string" &&
  Array.isArray(value.config.events) &&
  (typeof value.config.handler === "function" || typeof value.program === "function")

const isEventDefinitionRegistry = (value: unknown): value is EventDefinitionRegistry =>
  isObject(value) &&
  typeof value.register === "function" &&
  typeof value.upcastEvent === "function" &&
  typeof value.getLatestVersion === "function"

const TYPESCRIPT = /\.[cm]?ts$/

/** The hooks that load the user's files, and the files that they have loaded. */
class LoadedFiles {
  readonly #files: Array<string> = []

  registerHooks(): void {
    // A runtime without `registerHooks` loads TypeScript in its own way. There a named import of `registerHooks` would
    // fail when this file is loaded, so `registerHooks` is read from `Module`.
    Module.registerHooks?.({
      resolve: (specifier, context, next) => {
        try {
          return next(specifier, context)
        } catch (error) {
          const typescript = specifier.replace(/\.([cm]?)js$/, ".$1ts")
          if (!isUserFile(context.parentURL) || !/^[./]|^file:/.test(specifier) || typescript === specifier)
            throw error
          try {
            return next(typescript, context)
          } catch {
            // the TypeScript file does not exist either: the error should name the file as written
            throw error
          }
        }
      },
      load: (url, context, next) => {
        if (!isUserFile(url) || !/\.[jt]s$/.test(url)) return next(url, context)
        this.#files.push(url)
        const isModule = context.format === "module" || context.format === "module-typescript"
        if (isModule || !hasModuleSyntax(readFileSync(fileURLToPath(url), "utf8"))) return next(url, context)
        return next(url, { ...context, format: TYPESCRIPT.test(url) ? "module-typescript" : "module" })
      }
    })
  }

  /** Returns a loaded file that has a decorator, which JavaScript does not support yet. */
  findDecorated(): string | undefined {
    const decoratedUrl = this.#files.find(
      (url) => TYPESCRIPT.test(url) && /^\s*@[A-Za-z_$]/m.test(readFileSync(fileURLToPath(url), "utf8"))
    )
    return decoratedUrl === undefined ? undefined : displayPath(decoratedUrl)
  }
}

const isUserFile = (url: string | undefined): boolean =>
  url !== undefined && url.startsWith("file:") && !url.includes("/node_modules/")

const hasModuleSyntax = (source: string): boolean => /^\s*(?:import\b(?!\s*\()|export\b)/m.test(source)

const displayPath = (url: string): string => {
  const relative = path.relative(process.cwd(), fileURLToPath(url))
  return relative.startsWith("..") ? fileURLToPath(url) : relative
}

const loadError = (file: string, error: unknown, loadedFiles: LoadedFiles): IronflowError => {
  const message = error instanceof Error ? error.message : String(error)
  const code = error instanceof Error && "code" in error ? error.code : undefined
  const place = placeIn(error)
  const location = place === undefined ? "" : ` at ${place}`
  if (code === "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX") {
    return invalidModuleError(`${file} cannot be loaded: ${message}${location}. ${NEEDS_TSX}`, error)
  }
  const decorated = error instanceof SyntaxError && location === "" ? loadedFiles.findDecorated() : undefined
  if (decorated !== undefined) {
    return invalidModuleError(
      `${file} cannot be loaded: ${decorated} uses decorators, or has a syntax error. ${NEEDS_TSX}`,
      error
    )
  }
  const name = error instanceof Error ? `${error.name}: ` : ""
  const advice =
    code === "ERR_MODULE_NOT_FOUND"
      ? message.includes("package")
        ? ". Install it with npm"
        : ". Import your own files with their ending: ./orders.ts, or ./orders.js"
      : ""
  return invalidModuleError(`${file} cannot be loaded: ${name}${message}${location}${advice}`, error)
}

const NEEDS_TSX =
  "Node only removes types: enums, namespaces, parameter properties and decorators need more. " +
  'Do without them, or install tsx and run with NODE_OPTIONS="--import tsx"'

const invalidModuleError = (message: string, cause?: unknown): IronflowError =>
  new CommandError(message, { code: "MODULE_INVALID", cause })

/**
 * Where in the user's files the error occurred, as `file:line`. `undefined` when the stack of the error names none
 * of the user's files.
 */
const placeIn = (error: unknown): string | undefined => {
  const stack = error instanceof Error ? (error.stack ?? "") : ""
  for (const [, url, line] of stack.matchAll(/(file:\/\/[^\s()]+?):(\d+)/g)) {
    if (isUserFile(url) && url !== import.meta.url) return `${displayPath(url!)}:${line}`
  }
  return undefined
}
