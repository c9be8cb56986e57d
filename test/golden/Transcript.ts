/**
 * Recorded exchanges, as JSON that people can read. Ids, keys and ports are replaced by names in the order in which they appear;
 * the rest is unchanged. They are compared as text, so that the order of members counts, except in values that methods of a
 * client return.
 *
 * `UPDATE_GOLDEN=1 npx vitest run test/golden` records the current exchanges.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import { assert } from "vitest"
import { SDK_VERSION } from "../../src/SdkVersion.ts"

const isWriting = process.env.UPDATE_GOLDEN === "1"

/** All random ids, with their kind. */
const randomId =
  /\b(?:(run|evt|msg|snap|job|sub|key|org|role|policy|bulk)_(?:[0-9a-z]{25}|[0-9a-f]{24})|(worker)-[0-9a-z]{25}|(ses)_[0-9a-z]{5,10}|(push)-[0-9a-f]{16}|(ifk)_[\w-]{43}|(sha256):[0-9a-f]{64})(?![\w-])/g

export class Names {
  readonly #names: Map<string, string>
  readonly #counts: Map<string, number>

  constructor(known?: Names) {
    this.#names = new Map(known === undefined ? [] : known.#names)
    this.#counts = new Map(known === undefined ? [] : known.#counts)
  }

  readonly in = (text: string): string =>
    text
      .replace(randomId, (id: string, ...kinds: ReadonlyArray<string | undefined>) =>
        this.#nameOf(
          id,
          kinds.slice(0, 6).find((kind) => kind !== undefined)!
        )
      )
      .replace(/(127\.0\.0\.1|localhost)(:|%3A)\d{2,}/g, "$1$29123")
      .replace(/("key_prefix":"ifk_)[^"]*/g, "$1<start>")
      .replaceAll(`Node.js ${process.versions.node}, @ironflow/node ${SDK_VERSION}`, "<versions>")
      .replaceAll(`"version":"${SDK_VERSION}"`, '"version":"<version>"')

  #nameOf(id: string, kind: string): string {
    const known = this.#names.get(id)
    if (known !== undefined) return known
    const count = (this.#counts.get(kind) ?? 0) + 1
    this.#counts.set(kind, count)
    const name = `<${kind} ${count}>`
    this.#names.set(id, name)
    return name
  }
}

/** The value of a text that is JSON without white space; else the text after `text: `. */
export const readable = (text: string): unknown => {
  // deep nesting is easier to read in one line
  if (text.includes("[[[[")) return `text: ${text}`
  try {
    const value: unknown = JSON.parse(text)
    if (JSON.stringify(value) === text) return value
  } catch {
    // no JSON
  }
  return `text: ${text}`
}

const WIDTH = 130

/** JSON that keeps a value in one line if it fits. */
const format = (value: unknown, indent = ""): string => {
  const line = inLine(value)
  if (line.length + indent.length <= WIDTH || typeof value !== "object" || value === null) return line
  const inside = `${indent}  `
  return Array.isArray(value)
    ? `[\n${value.map((item) => inside + format(item, inside)).join(",\n")}\n${indent}]`
    : `{\n${Object.entries(value)
        .filter(([, member]) => member !== undefined)
        .map(([name, member]) => `${inside}${JSON.stringify(name)}: ${format(member, inside)}`)
        .join(",\n")}\n${indent}}`
}

const inLine = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(inLine).join(", ")}]`
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null"
  const members = Object.entries(value).filter(([, member]) => member !== undefined)
  if (members.length === 0) return "{}"
  return `{ ${members.map(([name, member]) => `${JSON.stringify(name)}: ${inLine(member)}`).join(", ")} }`
}

/** Sorts the members of a value that a method returns, since their order does not matter. */
const inAnyOrder = (entry: Entry | undefined): Entry | undefined =>
  entry === undefined || !("result" in entry) ? entry : { ...entry, result: ordered(entry["result"]) }

const ordered = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(ordered)
  if (typeof value !== "object" || value === null) return value
  const members = Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1))
  return Object.fromEntries(members.map(([name, member]) => [name, ordered(member)]))
}

/** One exchange, one frame, or one call of a client. */
export interface Entry {
  readonly [member: string]: unknown
}

type Sections = Record<string, ReadonlyArray<Entry>>

/** The file with the transcripts of one noun, in sections. */
export class Transcript {
  readonly #file: string
  readonly #order: ReadonlyArray<string>
  readonly #recorded: Sections
  readonly #entries: Sections = {}

  constructor(noun: string, sections: ReadonlyArray<string>) {
    this.#file = join(import.meta.dirname, `${noun}.json`)
    this.#order = sections
    this.#recorded = existsSync(this.#file) ? JSON.parse(readFileSync(this.#file, "utf8")) : {}
  }

  /** Fails at the first entry that differs from the recorded one. */
  check(section: string, entries: ReadonlyArray<Entry>): void {
    this.#entries[section] = entries
    if (isWriting) return
    const recorded = this.#recorded[section]
    assert.isDefined(recorded, `${section} is not in ${this.#file}: write it with UPDATE_GOLDEN=1`)
    for (let i = 0; i < Math.max(entries.length, recorded!.length); i++) {
      if (JSON.stringify(inAnyOrder(entries[i])) === JSON.stringify(inAnyOrder(recorded![i]))) continue
      assert.strictEqual(
        entries[i] === undefined ? "nothing" : format(entries[i]),
        recorded![i] === undefined ? "nothing" : format(recorded![i])
      )
    }
  }

  /** Has to be called when all sections have been checked. With `UPDATE_GOLDEN` it writes the file. */
  finish(): void {
    if (!isWriting) {
      assert.deepStrictEqual(Object.keys(this.#recorded), this.#order, `the sections of ${this.#file}`)
      return
    }
    const all = { ...this.#recorded, ...this.#entries }
    const sections = this.#order
      .filter((section) => all[section] !== undefined)
      .map(
        (section) =>
          `${JSON.stringify(section)}: [\n${all[section]!.map((entry) => `  ${format(entry, "  ")}`).join(",\n")}\n]`
      )
    writeFileSync(this.#file, `{\n${sections.join(",\n")}\n}\n`)
  }
}
