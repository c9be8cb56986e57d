/**
 * Statements that are sent together and answered together. The driver alone would ask the server after each statement to send its
 * answer now. Each of these answers would wake this process, which would compete for the processors with a server on the same
 * machine. A pipeline asks once, after its last statement, for all answers. For a statement that is already prepared, it also does
 * not ask again which columns the statement returns.
 *
 * When a statement fails, the server skips the rest of the pipeline.
 */
import type { Client } from "pg"
import type { Value } from "../Program.ts"
import { parserOf } from "./Driver.ts"
import { isConnectionLost } from "./PostgresErrors.ts"

/** The answer to a statement. */
export interface Answer {
  // the columns of each statement differ
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly rows: Array<any>
  /** The number of rows that were read or changed; 0 for a statement that does neither. */
  readonly rowCount: number
  /** The first word of what the server says it has done, such as `COMMIT`. */
  readonly command: string
}

/** A value in the form in which it is sent. */
export type Sendable = string | Buffer | null

/** A statement of a pipeline. */
export interface PipelineEntry {
  /** The name of the prepared statement; empty for a statement that is used once. */
  readonly name: string
  readonly text: string
  readonly values: ReadonlyArray<Sendable>
  /** Whether rows are arrays. */
  readonly asArrays: boolean
  readonly succeed: (answer: Answer) => void
  readonly fail: (error: unknown) => void
}

/** The error of a statement that was not executed. The server uses the same code for a statement in a failed transaction. */
export const skippedError = (): Error =>
  Object.assign(
    new Error("The statement was not executed, because an earlier statement of its transaction has failed"),
    { code: "25P02" }
  )

/** Whether a statement was not executed because an earlier statement has failed. */
export const isSkipped = (error: unknown): boolean => Object(error).code === "25P02"

/** A value in the form in which it is sent. Arrays become the text of an array of Postgres. */
export const toSendable = (value: Value | ReadonlyArray<Value>): Sendable => {
  if (typeof value === "string" || value === null) return value
  if (Array.isArray(value)) return arrayText(value)
  return value instanceof Uint8Array ? bufferOf(value) : String(value as number | bigint)
}

const bufferOf = ({ buffer, byteLength, byteOffset }: Uint8Array): Buffer =>
  Buffer.from(buffer, byteOffset, byteLength)

const arrayText = (values: ReadonlyArray<Value>): string => {
  let text = ""
  for (const value of values) {
    if (text !== "") text += ","
    if (value === null) text += "NULL"
    else if (typeof value === "string") text += `"${value.replaceAll(/["\\]/g, "\\$&")}"`
    else text += value instanceof Uint8Array ? `"\\\\x${bufferOf(value).toString("hex")}"` : String(value)
  }
  return `{${text}}`
}

interface Column {
  readonly name: string
  readonly parse: (text: string) => unknown
}

/** What this process knows of the statements that are prepared on a connection. */
interface PreparedStatements {
  /** The columns of each prepared statement, by its name. */
  readonly columns: Map<string, ReadonlyArray<Column>>
  /** The names of statements that were sent to be prepared, and for which the server has not confirmed that they are prepared. */
  readonly maybePrepared: Set<string>
}

const preparedOfClient = new WeakMap<Client, PreparedStatements>()

const preparedStatementsOf = (client: Client): PreparedStatements => {
  const known = preparedOfClient.get(client)
  if (known !== undefined) return known
  const added: PreparedStatements = { columns: new Map(), maybePrepared: new Set() }
  preparedOfClient.set(client, added)
  return added
}

/** The members of the driver's connection that a pipeline uses. */
interface Connection {
  readonly stream: { readonly cork: () => void; readonly uncork: () => void }
  readonly close: (what: { readonly type: "S"; readonly name: string }) => void
  readonly parse: (statement: { readonly name: string; readonly text: string }) => void
  readonly bind: (what: {
    readonly statement: string
    readonly values: ReadonlyArray<Sendable>
    readonly valueMapper: (value: Sendable) => Sendable
  }) => void
  readonly describe: (what: { readonly type: "P"; readonly name: "" }) => void
  readonly execute: (what: { readonly portal: "" }) => void
  readonly sync: () => void
}

const identity = (value: Sendable): Sendable => value

/** A class of queries of the driver. */
type QueryClass = new (config: { readonly text: string; readonly callback: () => void }) => {
  /** Stops the timer of the driver that limits the time of the query, if there is one. */
  callback: () => void
}

/** Sends the statements to the server now, even if the driver still waits for answers to earlier statements. */
export const sendPipeline = (client: Client, entries: ReadonlyArray<PipelineEntry>): void => {
  // taken from the client, because `pg` is loaded only when it is used; its types lack this member
  const { Query } = client.constructor as unknown as { readonly Query: QueryClass }
  Pipeline ??= definePipeline(Query)
  // the driver accepts any object with a method `submit`
  client.query(new Pipeline(entries, preparedStatementsOf(client)) as never)
}

let Pipeline: ReturnType<typeof definePipeline> | undefined

/**
 * Makes a subclass of the driver's own class of queries: only a query of that class is sent before the answers to earlier queries
 * have come. The driver calls a method of the query for each message of the server.
 */
const definePipeline = (Query: QueryClass) =>
  class extends Query {
    readonly #entries: ReadonlyArray<PipelineEntry>
    readonly #prepared: PreparedStatements
    /** The index of the statement that the server answers next. */
    #index = 0
    #columns: ReadonlyArray<Column> | undefined
    #rows: Array<unknown> = []
    /** The error of a row that cannot be read. */
    #rowError: { readonly error: unknown } | undefined

    constructor(entries: ReadonlyArray<PipelineEntry>, prepared: PreparedStatements) {
      super({ text: "", callback: () => undefined })
      this.#entries = entries
      this.#prepared = prepared
    }

    submit(connection: Connection): void {
      const { columns, maybePrepared } = this.#prepared
      const parsedNames = new Set<string>()
      connection.stream.cork()
      for (const { name, text, values } of this.#entries) {
        const isNew = name === "" || !(columns.has(name) || parsedNames.has(name))
        if (isNew) {
          // a statement can be prepared under a name again only after the old one was closed
          if (maybePrepared.has(name)) connection.close({ type: "S", name })
          connection.parse({ name, text })
          if (name !== "") {
            maybePrepared.add(name)
            parsedNames.add(name)
          }
        }
        connection.bind({ statement: name, values, valueMapper: identity })
        if (isNew) connection.describe({ type: "P", name: "" })
        connection.execute({ portal: "" })
      }
      connection.sync()
      connection.stream.uncork()
    }

    handleRowDescription({
      fields
    }: {
      readonly fields: ReadonlyArray<{ readonly name: string; readonly dataTypeID: number }>
    }): void {
      this.#columns = fields.map(({ dataTypeID, name }) => ({ name, parse: parserOf(dataTypeID) }))
      this.#remember(this.#columns)
    }

    handleDataRow({ fields }: { readonly fields: ReadonlyArray<string | null> }): void {
      if (this.#rowError !== undefined) return
      const { asArrays, name } = this.#entry
      const columns = (this.#columns ??= this.#prepared.columns.get(name) ?? [])
      try {
        this.#rows.push(asArrays ? arrayOf(columns, fields) : rowOf(columns, fields))
      } catch (error) {
        this.#rowError = { error }
      }
    }

    handleCommandComplete({ text }: { readonly text: string }): void {
      const entry = this.#entry
      // the server has described no columns, so the statement returns no rows
      if (this.#columns === undefined) this.#remember([])
      const rows = this.#rows
      const unreadable = this.#rowError
      this.#next()
      if (unreadable !== undefined) return entry.fail(unreadable.error)
      const [command = ""] = text.split(" ", 1)
      entry.succeed({ rows, rowCount: Number(/\d+$/.exec(text)?.[0] ?? 0), command })
    }

    /** Called when the server has failed to execute a statement, and when the connection was lost. */
    handleError(error: unknown): void {
      this.callback()
      const remaining = this.#entries.slice(this.#index)
      this.#index = this.#entries.length
      const [failed] = remaining
      if (failed === undefined) return
      failed.fail(error)
      // a lost connection fails all remaining statements; otherwise the server has skipped them
      for (const { fail } of remaining.slice(1)) fail(isConnectionLost(error) ? error : skippedError())
    }

    handleReadyForQuery(): void {
      // all statements are answered by now
      this.callback()
    }

    get #entry(): PipelineEntry {
      // the server answers no more statements than were sent
      return this.#entries[this.#index]!
    }

    #next(): void {
      this.#index++
      this.#columns = undefined
      this.#rows = []
      this.#rowError = undefined
    }

    /** Notes that the current statement is prepared, and its columns. */
    #remember(columns: ReadonlyArray<Column>): void {
      const { name } = this.#entry
      if (name === "" || this.#prepared.columns.has(name)) return
      this.#prepared.columns.set(name, columns)
      this.#prepared.maybePrepared.delete(name)
    }
  }

const rowOf = (
  columns: ReadonlyArray<Column>,
  fields: ReadonlyArray<string | null>
): { [column: string]: unknown } => {
  const row: { [column: string]: unknown } = {}
  for (let i = 0; i < columns.length; i++) {
    const { name, parse } = columns[i]!
    const text = fields[i]
    row[name] = text == null ? null : parse(text)
  }
  return row
}

const arrayOf = (
  columns: ReadonlyArray<Column>,
  fields: ReadonlyArray<string | null>
): ReadonlyArray<unknown> => fields.map((text, i) => (text === null ? null : columns[i]!.parse(text)))
