/**
 * `ironflow export` copies the contents of a store into a file, and `ironflow import` copies them from such a file into an empty
 * store.
 */
import { closeSync, existsSync, openSync, statSync, writeSync } from "node:fs"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { type StoreError, ValidationError } from "../../../Errors.ts"
import { DEFAULT_MODE, makeFile, refuseNonFile } from "../Files.ts"
import { DatabaseSync } from "../NodeSqlite.ts"
import type { PostgresOptions } from "../Postgres/Options.ts"
import { partialName, putNew, refuseExisting, removeLeftovers, removePartial } from "../AtomicWrite.ts"
import { storeError } from "../SqliteErrors.ts"
import { migrate } from "../SqliteFile.ts"
import { fill, linesOf, type Source } from "./Format.ts"
import { readSqlite, writeNumbers, writeSqlite } from "./SqliteTables.ts"

/** Where a store is: in a database file, or on Postgres. */
export type Place = { readonly filename: string } | { readonly database: PostgresOptions }

/** What was exported or imported. */
export interface Transferred {
  /** The moment at which the store had the exported state, as an ISO string. */
  readonly madeAt: string
  readonly rows: number
  /** The size of the exported file. */
  readonly bytes: number
}

const attempt = <A>(what: string, run: () => Promise<A>): Effect.Effect<A, StoreError | ValidationError> =>
  Effect.tryPromise({
    try: run,
    catch: (cause) => (cause instanceof ValidationError ? cause : storeError(what, cause))
  })

/**
 * Writes the contents of a store at this moment to a new file that only the user of the process may read. Engines of the store may
 * go on. Fails with `ValidationError` when the file exists already, or when the database does not exist. Fails with `StoreError`
 * when the database or the file cannot be used. A failure leaves no partial file.
 */
export const exportStore = (
  from: Place,
  filename: string
): Effect.Effect<Transferred, StoreError | ValidationError> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.uninterruptible(
      attempt(`Cannot write the export "${filename}"`, () => writeExport(from, filename, now))
    )
  )

const writeExport = async (place: Place, filename: string, now: number): Promise<Transferred> => {
  checkNew(filename, "export")
  removeLeftovers(filename)
  const partial = partialName(filename)
  try {
    makeFile(partial, DEFAULT_MODE)
    const written = await withSource(place, now, (source) => writeLines(source, partial))
    await putNew(partial, filename)
    return { ...written, bytes: statSync(filename).size }
  } finally {
    removePartial(partial)
  }
}

const checkNew = (filename: string, what: string): void => {
  if (filename.trim() === "") throw new ValidationError(`The name of the ${what} must not be empty or blank`)
  refuseNonFile(filename)
  refuseExisting(filename)
}

const withSource = async <A>(place: Place, now: number, use: (source: Source) => Promise<A>): Promise<A> => {
  if ("database" in place) {
    const { readPostgres } = await import("./PostgresTables.ts")
    return readPostgres(place.database, now, use)
  }
  const { filename } = place
  refuseNonFile(filename)
  if (!existsSync(filename)) throw new ValidationError(`There is no database "${filename}": check its name`)
  const db = new DatabaseSync(filename, { readOnly: true, timeout: 5000 })
  try {
    // reads from one snapshot, whatever is committed in the meantime
    db.exec("BEGIN")
    return await use(readSqlite(db, filename, now))
  } finally {
    db.close()
  }
}

const writeLines = async (source: Source, file: string) => {
  const descriptor = openSync(file, "w", DEFAULT_MODE)
  let rows = 0
  try {
    const countingSource: Source = {
      ...source,
      async *rows(table) {
        for await (const batch of source.rows(table)) {
          rows += batch.length
          yield batch
        }
      }
    }
    for await (const text of linesOf(countingSource)) {
      const bytes = Buffer.from(text)
      for (let at = 0; at < bytes.length;) at += writeSync(descriptor, bytes, at)
    }
  } finally {
    closeSync(descriptor)
  }
  return { madeAt: source.header.madeAt, rows }
}

/**
 * Fills an empty store with an export, completely or not at all. The store is a database file that does not exist yet, or a schema
 * on Postgres whose tables are missing or empty. Ids, positions, waits and timers are kept, and an engine that is started on this
 * store goes on with the runs. Fails with `ValidationError` when the store is not empty or the file is not an export. Fails with
 * `StoreError` when the file is damaged or of a newer version, or when the store is in use or cannot be written.
 */
export const importStore = (
  filename: string,
  to: Place
): Effect.Effect<Transferred, StoreError | ValidationError> =>
  Effect.uninterruptible(attempt(`Cannot import "${filename}"`, () => readExport(filename, to)))

const readExport = async (filename: string, destination: Place): Promise<Transferred> => {
  const stat = statSync(filename, { throwIfNoEntry: false })
  if (stat === undefined) throw new ValidationError(`There is no file "${filename}"`)
  if (!stat.isFile()) {
    throw new ValidationError(
      `"${filename}" is not an export: it is ${stat.isDirectory() ? "a folder" : "not a file"}`
    )
  }
  const { header, rows } = await ("database" in destination
    ? import("./PostgresTables.ts").then(({ writePostgres }) => writePostgres(destination.database, filename))
    : fillFile(filename, destination.filename))
  return { madeAt: header.madeAt, rows, bytes: stat.size }
}

const fillFile = async (filename: string, target: string) => {
  checkNew(target, "database")
  removeLeftovers(target)
  const partial = partialName(target)
  let db: DatabaseSync | undefined
  try {
    makeFile(partial, DEFAULT_MODE)
    const opened = (db = new DatabaseSync(partial))
    // no journal is needed: after a failure, the partial file is removed
    opened.exec("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
    migrate(opened)
    opened.exec("BEGIN")
    const imported = await fill(filename, () => Promise.resolve(writeSqlite(opened)))
    writeNumbers(opened, imported.header)
    opened.exec("COMMIT")
    opened.close()
    db = undefined
    await putNew(partial, target)
    return imported
  } finally {
    db?.close()
    removePartial(partial)
  }
}
