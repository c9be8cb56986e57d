/**
 * The documented examples of 0.8.0, unchanged, and how to run them against the server of a test.
 *
 * `readme/*.ts.txt` are verbatim; `readme/prelude.d.ts.txt` declares only the names that they do not declare, and
 * `functions.ts.txt` and `projections.ts.txt` are the modules that they import. Before an example runs, its URL and its ids
 * are replaced by those of the test.
 */
import fs from "node:fs"
import path from "node:path"
import { pathToFileURL } from "node:url"
import {
  createClient,
  createFunction,
  createProjection,
  createWorker,
  type IronflowClient,
  type Run,
  type RunnableFunction
} from "@ironflow/node"
import { afterEach, beforeEach, expect, vi } from "vitest"
import { makeExamples } from "./Examples.ts"
import { type Ironflow, start } from "./wire/Ironflow.ts"

const fixtures = path.join(import.meta.dirname, "readme")
/** The text of every file, by its name without `.txt`. */
export const texts = Object.fromEntries(
  fs
    .readdirSync(fixtures)
    .filter((file) => file.endsWith(".txt"))
    .map((file) => [file.slice(0, -".txt".length), fs.readFileSync(path.join(fixtures, file), "utf8")])
)
/** The text of the example whose file name begins with `name`. */
export const textOf = (name: string): string => {
  const found = Object.keys(texts).filter((file) => file.startsWith(`${name}.`))
  expect(found).toHaveLength(1)
  return texts[found[0] ?? ""] ?? ""
}

/** A server and a client for each test of the file, and functions that run examples against them. Call it in a `describe`. */
export const useDocumented = () => {
  let server: Ironflow
  let client: IronflowClient
  const cleanups: Array<() => unknown> = []

  beforeEach(async () => {
    vi.stubEnv("IRONFLOW_MASTER_KEY", "ab".repeat(32))
    server = await start()
    client = createClient({ serverUrl: server.url })
    given({ createFunction, createProjection, createWorker, client })
    vi.spyOn(console, "log").mockImplementation(() => undefined)
  })
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
    await client.close()
    await server.close()
    vi.unstubAllGlobals()
    vi.unstubAllEnvs()
    vi.restoreAllMocks()
  })

  /** Defines names that the example uses without declaring them. */
  const given = (names: Record<string, unknown>): void => {
    for (const [name, value] of Object.entries(names)) vi.stubGlobal(name, value)
  }

  /** Writes an example with the URL of this test's server, and with its names exported. Returns its path. */
  const placeExample = (text: string, declared: ReadonlyArray<string>, file = "example.ts"): string => {
    const runnable = makeExamples({
      [file]: `${text.replaceAll("http://localhost:9123", server.url)}\nexport { ${declared.join(", ")} }\n`,
      "functions.js": texts["functions.ts"] ?? "",
      "projections.js": texts["projections.ts"] ?? ""
    })
    cleanups.push(() => runnable[Symbol.dispose]())
    return runnable.pathOf(file)
  }

  /** Loads an example, and returns what it declares. */
  const load = async <T extends Record<string, unknown>>(
    name: string,
    declared: ReadonlyArray<keyof T & string>,
    replacements: Record<string, string> = {}
  ): Promise<T> => {
    const text = Object.entries(replacements).reduce(
      (text, [from, to]) => (expect(text).toContain(from), text.replaceAll(from, to)),
      textOf(name)
    )
    return await import(/* @vite-ignore */ pathToFileURL(placeExample(text, declared)).href)
  }

  const work = async (...functions: ReadonlyArray<RunnableFunction>): Promise<void> => {
    const worker = createWorker({ serverUrl: server.url, functions, logger: false })
    const working = worker.start()
    cleanups.push(async () => {
      await worker.stop()
      await working
    })
    await worker.ready()
  }

  /** Loads the function of an example, and starts a worker for it. */
  const workOn = async (name: string, declared: string): Promise<void> => {
    const loaded = await load<Record<string, RunnableFunction>>(name, [declared])
    const found = loaded[declared]
    expect(found).toBeDefined()
    if (found !== undefined) await work(found)
  }

  const begin = async (event: string, data: unknown): Promise<string> => {
    const { runIds } = await client.emit(event, data)
    expect(runIds).toHaveLength(1)
    return runIds[0] ?? ""
  }

  const runOf = async (event: string, data: unknown): Promise<Run> =>
    client.waitForRun(await begin(event, data), { timeout: 15_000 })

  const waitFor = (runId: string): Promise<Run> => client.waitForRun(runId, { timeout: 15_000 })

  const untilExplained = (runId: string, code: string): Promise<void> =>
    vi.waitFor(async () => expect((await client.explain(runId)).code).toBe(code), { timeout: 10_000 })

  return {
    /** The server of this test. */
    get server(): Ironflow {
      return server
    },
    /** A client of that server. */
    get client(): IronflowClient {
      return client
    },
    cleanups,
    given,
    placeExample,
    load,
    work,
    workOn,
    begin,
    runOf,
    waitFor,
    untilExplained
  }
}
