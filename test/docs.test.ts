/** The code in README.md and docs/ compiles, and the examples marked as runnable (` ```ts run `) run. */
import fs from "node:fs"
import path from "node:path"
import { afterAll, expect, test } from "vitest"
import { makeExamples } from "./Examples.ts"
import { moduleOf } from "./reference/Examples.ts"

const repository = path.join(import.meta.dirname, "..")
const documents = [
  "README.md",
  "CONTRIBUTING.md",
  ...fs
    .readdirSync(path.join(repository, "docs"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".md"))
    .map((file) => path.posix.join("docs", file))
]

/** The TypeScript blocks of a document. Each file is named after the document and the line where the code begins. */
const readBlocks = (document: string) => {
  const text = fs.readFileSync(path.join(repository, document), "utf8")
  return [...text.matchAll(/^(?<indent> *)```ts(?<flags>[^\n]*)\n(?<code>[^]*?)^ *```$/gm)].flatMap(
    (match) => {
      const { code = "", flags = "", indent = "" } = match.groups ?? {}
      // signatures in the reference are not programs
      if (flags.trim() === "signature") return []
      const line = text.slice(0, match.index).split("\n").length + 1
      return {
        file: `${document.replaceAll(/\W/g, "-")}-line-${line}.ts`,
        code: document.startsWith("docs/reference/")
          ? moduleOf(code.replaceAll(new RegExp(`^${indent}`, "gm"), ""), path.basename(document, ".md"))
          : code,
        runs: flags.trim() === "run"
      }
    }
  )
}

const blocks = documents.flatMap(readBlocks)
const prelude = fs.readFileSync(path.join(import.meta.dirname, "docs/prelude.d.ts.txt"), "utf8")
const examples = makeExamples(
  { "prelude.d.ts": prelude, ...Object.fromEntries(blocks.map(({ file, code }) => [file, code])) },
  blocks.flatMap(({ file, runs }) => (runs ? [file] : []))
)
afterAll(() => examples[Symbol.dispose]())

test("every code block of the documents compiles", async () => {
  expect(blocks.length).toBeGreaterThan(20)

  expect(await examples.typeCheck()).toBe("")
}, 120_000)

test.for(blocks.filter((block) => block.runs))(
  "$file runs to its end",
  { timeout: 60_000 },
  async ({ file }) => {
    const { code, stderr } = await examples.run(file)

    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
  }
)

test("the documents mark code with a language that this test knows", () => {
  const languages = documents.flatMap((document) =>
    [...fs.readFileSync(path.join(repository, document), "utf8").matchAll(/^```(\w+)/gm)].map(
      (match) => match[1]
    )
  )

  expect(languages.filter((language) => !["ts", "sh", "text", "sql"].includes(language ?? ""))).toEqual([])
})

test("docs/errors.md names the code of every error class", () => {
  const folder = path.join(repository, "src/Errors")
  const source = fs
    .readdirSync(folder)
    .filter((file) => file !== "Classes.ts")
    .map((file) => fs.readFileSync(path.join(folder, file), "utf8"))
    .join("\n")
  const codes = [...source.matchAll(/(?:code:|\?\?|\|) "(?<code>[A-Z_]+)"/g)].map(
    (match) => match.groups?.code ?? ""
  )
  const text = fs.readFileSync(path.join(repository, "docs/errors.md"), "utf8")

  expect(codes.length).toBeGreaterThan(20)
  expect(codes.filter((code) => !text.includes(`\`${code}\``))).toEqual([])
})

test("docs/effect.md names every namespace of the Effect API, and no other", () => {
  const source = fs.readFileSync(path.join(repository, "src/effect.ts"), "utf8")
  const text = fs.readFileSync(path.join(repository, "docs/effect.md"), "utf8")
  const exported = [...source.matchAll(/^export \* as (\w+)/gm)].map(([, name]) => name)
  const table = text.slice(text.indexOf("| Namespace"), text.indexOf("## A function"))
  const documented = [...table.matchAll(/^\| `(\w+)` /gm)].map(([, name]) => name)

  expect(documented.toSorted()).toEqual(exported.toSorted())
})

test("links between the documents lead to existing headings", () => {
  const anchors = new Map<string, ReadonlySet<string>>()
  const anchorsOf = (document: string): ReadonlySet<string> => {
    const known = anchors.get(document)
    if (known !== undefined) return known
    const text = fs.readFileSync(path.join(repository, document), "utf8")
    const found = new Set(
      [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) =>
        heading
          .toLowerCase()
          .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
          .replaceAll(" ", "-")
      )
    )
    anchors.set(document, found)
    return found
  }
  const broken = documents.flatMap((document) =>
    [
      ...fs
        .readFileSync(path.join(repository, document), "utf8")
        .matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g)
    ]
      .map(([, file = "", anchor]) => {
        const target = file === "" ? document : path.posix.join(path.posix.dirname(document), file)
        const found = fs.existsSync(path.join(repository, target))
        return found && (anchor === undefined || !target.endsWith(".md") || anchorsOf(target).has(anchor))
          ? undefined
          : `${document}: ${file}#${anchor}`
      })
      .filter((link) => link !== undefined)
  )

  expect(broken).toEqual([])
})

/** Pages that begin with a command or a table instead, because readers look for that. */
const withoutTryIt = [
  "docs/cli.md",
  "docs/operations.md",
  "docs/production.md",
  "docs/reasons.md",
  "docs/versions.md"
]

test.for(documents.filter((document) => /^docs\/[^/]+$/.test(document) && !withoutTryIt.includes(document)))(
  "%s begins with something to try",
  (document) => {
    const text = fs.readFileSync(path.join(repository, document), "utf8")
    const [, first = ""] = text.split(/^## /m)

    expect(first).toMatch(/^Try it\n[^]*^```(ts|sh)/m)
  }
)

test("README.md has fewer than 350 lines", () => {
  expect(fs.readFileSync(path.join(repository, "README.md"), "utf8").split("\n").length).toBeLessThan(350)
})

test("README.md links to every page", () => {
  const readme = fs.readFileSync(path.join(repository, "README.md"), "utf8")
  const pages = documents.filter((document) => /^docs\/[^/]+$/.test(document))

  expect(pages.filter((page) => !readme.includes(`](${page}`))).toEqual([])
})
