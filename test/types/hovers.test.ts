/**
 * What an editor shows when the pointer rests on code: the types as people read them.
 *
 * A line `// ^?` in hovers.*.ts.txt points to the code above it, and is followed by what the editor shows there. After a
 * change of types, `npx vitest run test/types -u` writes what it now shows. Read that as a user would.
 */
import fs from "node:fs"
import path from "node:path"
import { expect, test } from "vitest"
import { openEditor } from "./Editor.ts"
import { makeProject } from "./Project.ts"

const marker = /^(?<before>\s*\/\/\s*)\^\?/

/** The code with its markers, without what the editor showed there. */
const withoutAnswers = (text: string): ReadonlyArray<string> => {
  let isAnswer = false
  return text.split("\n").flatMap((line) => {
    const mark = marker.exec(line)
    isAnswer = mark !== null || (isAnswer && /^\s*\/\//.test(line))
    return mark !== null ? [mark[0]] : isAnswer ? [] : [line]
  })
}

const files = ["hovers.promise.ts.txt", "hovers.effect.ts.txt"]

test.for(files)("%s has what an editor shows", async (file) => {
  const source = fs.readFileSync(path.join(import.meta.dirname, file), "utf8")
  const lines = withoutAnswers(source)
  const marks = lines.flatMap((line, i) => {
    const mark = marker.exec(line)
    return mark === null ? [] : [{ line: i, character: mark[0].length - 2 }]
  })
  const program = path.basename(file, ".txt")
  using project = makeProject({ [program]: lines.join("\n") })
  await using editor = await openEditor(path.dirname(project.pathOf(program)))

  const answers = await editor.hovers(
    program,
    marks.map(({ line, character }) => ({ line: codeAbove(lines, line), character }))
  )

  const rendered = lines.map((line, i) => {
    const answer = answers[marks.findIndex((mark) => mark.line === i)]
    if (answer === undefined) return line
    const [first = "", ...rest] = answer.split("\n")
    const indent = line.slice(0, line.length - 2)
    return [`${line} ${first}`, ...rest.map((it) => `${indent}   ${it}`)].join("\n")
  })
  expect(project.complaints()).toEqual([])
  await expect(rendered.join("\n")).toMatchFileSnapshot(file)
})

/** The line of code above a marker: several markers may follow one line. */
const codeAbove = (lines: ReadonlyArray<string>, from: number): number => {
  let line = from - 1
  while (marker.test(lines[line] ?? "")) line--
  return line
}
