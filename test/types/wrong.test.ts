/**
 * Wrong uses, and the compiler's message to a newcomer about each.
 *
 * In wrong.*.ts.txt a line `// 7. ...` says what is right and begins a wrong use. The first lines of the compiler's message
 * follow the line that it is about. After a change of types, `npx vitest run test/types -u` writes the current messages. Read
 * them like somebody who does not know the types: do they say what is wrong, and what to write instead?
 */
import fs from "node:fs"
import path from "node:path"
import { afterAll, expect, test } from "vitest"
import { type Complaint, makeProject } from "./Project.ts"

/** The recorded lines of a message. Later lines are about parts of parts. */
const shownLines = 4
/** Longer lines have to be scrolled sideways, and are not read. */
const longestLine = 450

const files = ["wrong.promise.ts.txt", "wrong.effect.ts.txt"]
const heading = /^\/\/ \d+\. /
const answer = /^\s*\/\/! /

const sources = files.map((file) => {
  const text = fs.readFileSync(path.join(import.meta.dirname, file), "utf8")
  return { file, lines: text.split("\n").filter((line) => !answer.test(line)) }
})
const project = makeProject(
  Object.fromEntries(sources.map(({ file, lines }) => [path.basename(file, ".txt"), lines.join("\n")]))
)
afterAll(() => project[Symbol.dispose]())

const shown = (complaint: Complaint): ReadonlyArray<string> => complaint.text.split("\n").slice(0, shownLines)

test("there are forty wrong uses", () => {
  const uses = sources.flatMap(({ lines }) => lines.filter((line) => heading.test(line)))

  expect(uses.length).toBeGreaterThanOrEqual(40)
})

test.for(sources)("$file has the messages of the compiler", async ({ file, lines }) => {
  const complaints = project.complaints().filter((it) => it.file === path.basename(file, ".txt"))

  const rendered = lines.flatMap((line, i) => {
    const indent = /^\s*/.exec(line)?.[0] ?? ""
    return [
      line,
      ...complaints
        .filter((it) => it.line === i + 1)
        .flatMap((it) => shown(it).map((text) => `${indent}//! ${text}`))
    ]
  })

  await expect(rendered.join("\n")).toMatchFileSnapshot(file)
})

test.for(sources)("every wrong use in $file is refused, and nothing else", ({ file, lines }) => {
  const complaints = project.complaints().filter((it) => it.file === path.basename(file, ".txt"))
  const starts = lines.flatMap((line, i) => (heading.test(line) ? [i + 1] : []))
  const complaintsOf = (i: number) =>
    complaints.filter(({ line }) => line > (starts[i] ?? 0) && line < (starts[i + 1] ?? Infinity))

  const refused = starts.map((start, i) => ({
    use: lines[start - 1],
    isRefused: complaintsOf(i).length > 0
  }))

  expect(refused.filter(({ isRefused }) => !isRefused)).toEqual([])
  expect(complaints.filter(({ line }) => line < (starts[0] ?? 0))).toEqual([])
})

test.for(sources)("the compiler's messages in $file are short enough to read", ({ file }) => {
  const complaints = project.complaints().filter((it) => it.file === path.basename(file, ".txt"))

  expect(complaints.flatMap(shown).filter((line) => line.length > longestLine)).toEqual([])
})
