/**
 * The format of an export: lines of JSON, the same for SQLite and for Postgres. The first line is the {@link Header}. For each table
 * there is a line with its name and columns, and then a line for each row, as an array of values. The last line has the number of
 * rows, and the checksum of all lines before it.
 */
import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { createInterface } from "node:readline"
import { StoreError, ValidationError } from "../../../Errors.ts"
import { isObject, safeJsonParse } from "../../../Json.ts"
import type { Value } from "../Program.ts"

/** Version of the file format. It is raised only by a change that earlier versions of this package cannot read. */
const FORMAT = 1

/**
 * The highest numbers that were assigned: keys of environments and runs, positions in the log, sequence numbers of journal entries.
 */
interface Numbers {
  readonly environments: number
  readonly events: number
  readonly runs: number
  readonly seq: number
}

export interface Header {
  /** The moment at which the store had the exported state, as an ISO string. */
  readonly madeAt: string
  readonly numbers: Numbers
  /** For each table whose keys are never assigned twice: the last key that was assigned. */
  readonly sequences: { readonly [table: string]: number }
}

export interface Table {
  readonly name: string
  readonly columns: ReadonlyArray<string>
}

export type Values = ReadonlyArray<Value>

/** A store that is exported, as it was at one moment. */
export interface Source {
  readonly header: Header
  readonly tables: ReadonlyArray<Table>
  /** The rows of a table, in batches, in the same order in every store. */
  readonly rows: (table: Table) => AsyncIterable<ReadonlyArray<Values>> | Iterable<ReadonlyArray<Values>>
}

/** A store that an import fills. */
export interface Target {
  readonly tables: ReadonlyArray<Table>
  readonly write: (table: Table, rows: ReadonlyArray<Values>) => Promise<void> | void
}

/** The names of the rows of `meta` that are of use only in their own database. They are not exported. */
export const unexportedMeta: ReadonlyArray<string> = ["owner", "seq", "backup", "oldest"]

const encode = (value: Value): unknown =>
  value instanceof Uint8Array
    ? { bytes: Buffer.from(value).toString("base64") }
    : typeof value === "bigint"
      ? Number(value)
      : value

const decode = (value: unknown, where: string): Value => {
  if (value === null || typeof value === "string" || typeof value === "number") return value
  if (isObject(value) && typeof value["bytes"] === "string") return Buffer.from(value["bytes"], "base64")
  throw damagedError(`${where} has a value of an unknown type`)
}

/** The lines of a file, each with its line break. */
export async function* linesOf({ header, rows, tables }: Source): AsyncGenerator<string> {
  const hash = createHash("sha256")
  const line = (value: unknown): string => {
    const text = `${JSON.stringify(value)}\n`
    hash.update(text)
    return text
  }
  yield line({ ironflow: "export", format: FORMAT, ...header })
  let count = 0
  for (const table of tables) {
    yield line({ table: table.name, columns: table.columns })
    for await (const batch of rows(table)) {
      count += batch.length
      yield batch.map((row) => line(row.map(encode))).join("")
    }
  }
  yield `${JSON.stringify({ end: true, rows: count, sha256: hash.digest("hex") })}\n`
}

const damagedError = (what: string): StoreError =>
  new StoreError(
    `${what}: the file is damaged or incomplete, and nothing was imported. Export the store again`,
    {
      code: "STORE_CORRUPT"
    }
  )

const isNumbers = (value: unknown): value is { readonly [name: string]: number } =>
  isObject(value) && Object.values(value).every((one) => Number.isSafeInteger(one) && Number(one) >= 0)

const readHeader = (text: string | undefined, filename: string): Header => {
  const value = text === undefined ? undefined : safeJsonParse(text)
  if (!isObject(value) || value["ironflow"] !== "export") {
    throw new ValidationError(
      `"${filename}" is not an export: \`ironflow export\` makes one. For a backup, use \`ironflow restore\``
    )
  }
  const { format, madeAt, numbers, sequences } = value
  if (typeof format !== "number" || format > FORMAT) {
    throw new StoreError(
      `"${filename}" was written by a newer version (its format is ${String(format)}, and this package knows ${FORMAT}): upgrade @ironflow/node`,
      { code: "STORE_UNAVAILABLE" }
    )
  }
  if (typeof madeAt !== "string" || !isNumbers(numbers) || !isNumbers(sequences)) {
    throw damagedError(`The first line of "${filename}" is incomplete`)
  }
  const { environments = 0, events = 0, runs = 0, seq = 0 } = numbers
  return { madeAt, sequences, numbers: { environments, events, runs, seq } }
}

const readTable = (value: unknown, known: ReadonlyArray<Table>, filename: string): Table => {
  const { columns, table } = value as { readonly columns?: unknown; readonly table?: unknown }
  const names = Array.isArray(columns) ? (columns as ReadonlyArray<unknown>) : []
  const knownTable = known.find(({ name }) => name === table)
  const unknown =
    knownTable === undefined
      ? table
      : names.find((name) => !knownTable.columns.some((column) => column === name))
  if (knownTable === undefined || unknown !== undefined) {
    throw new StoreError(
      `"${filename}" was written by another version of @ironflow/node: it has ${knownTable === undefined ? "a table" : `in table "${knownTable.name}" a column`} "${String(unknown)}", which this version does not know. Upgrade @ironflow/node`,
      { code: "STORE_UNAVAILABLE" }
    )
  }
  return { name: knownTable.name, columns: names.map(String) }
}

/** How many rows are written at once. */
const BATCH = 500

export interface Imported {
  readonly header: Header
  readonly rows: number
}

/**
 * Fills a store, which `open` returns, with the content of an export. Throws `ValidationError` or `StoreError`. After an error, the
 * caller must discard what was written.
 */
export const fill = async (
  filename: string,
  open: (header: Header) => Promise<Target>
): Promise<Imported> => {
  const input = createReadStream(filename)
  const lines = createInterface({ input, crlfDelay: 0 })
  const hash = createHash("sha256")
  let header: Header | undefined
  let target: Target | undefined
  let table: Table | undefined
  let batch: Array<Values> = []
  let rows = 0
  let closingLine: { readonly [name: string]: unknown } | undefined
  let lineNumber = 0
  const flush = async (): Promise<void> => {
    if (batch.length === 0 || table === undefined || target === undefined) return
    const rowsToWrite = batch
    batch = []
    await target.write(table, rowsToWrite)
  }
  try {
    for await (const text of lines) {
      lineNumber++
      const where = `Line ${lineNumber} of "${filename}"`
      if (header === undefined) {
        header = readHeader(text, filename)
        target = await open(header)
        hash.update(`${text}\n`)
        continue
      }
      if (closingLine !== undefined) throw damagedError(`${where} comes after the end of the export`)
      const value = safeJsonParse(text)
      if (isObject(value) && value["end"] === true) {
        closingLine = value
        continue
      }
      hash.update(`${text}\n`)
      if (Array.isArray(value)) {
        if (table === undefined || value.length !== table.columns.length)
          throw damagedError(`${where} does not have one value for each column of its table`)
        batch.push(value.map((one) => decode(one, where)))
        rows++
        if (batch.length === BATCH) await flush()
      } else if (isObject(value)) {
        await flush()
        table = readTable(value, target!.tables, filename)
      } else throw damagedError(`${where} is not JSON`)
    }
    await flush()
  } finally {
    lines.close()
    input.destroy()
  }
  if (header === undefined) readHeader(undefined, filename)
  if (closingLine === undefined) throw damagedError(`"${filename}" lacks the line that ends an export`)
  if (closingLine["rows"] !== rows || closingLine["sha256"] !== hash.digest("hex"))
    throw damagedError(`"${filename}" does not match its checksum`)
  return { header: header!, rows }
}
