/** Damages a page or a row of a closed database, as a disk would. */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"

const withDatabase = <A>(filename: string, body: (db: DatabaseSync) => A): A => {
  const db = new DatabaseSync(filename)
  try {
    return body(db)
  } finally {
    db.close()
  }
}

/** Runs SQL on the file. */
export const change = (filename: string, sql: string): void => withDatabase(filename, (db) => db.exec(sql))

/** For each text, overwrites the page of the table that contains it. */
export const overwritePagesWith = (
  filename: string,
  table: string,
  ...texts: ReadonlyArray<string>
): void => {
  const { candidates, size } = withDatabase(filename, (db) => {
    // VACUUM removes remains of the texts from free space in other pages
    db.exec("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")
    return {
      size: Number(db.prepare("PRAGMA page_size").get()?.page_size),
      candidates: db
        .prepare("SELECT pageno FROM dbstat WHERE name = ? ORDER BY path")
        .all(table)
        .map((row) => Number(row.pageno))
    }
  })
  const content = readFileSync(filename)
  const pageOf = (text: string): number => {
    // a row that moved to another page may have left a part of itself on an earlier one
    const page = candidates.findLast((page) =>
      content.subarray((page - 1) * size, page * size).includes(text)
    )
    if (page === undefined) throw new Error(`no page of ${table} holds "${text}"`)
    return page
  }
  const file = openSync(filename, "r+")
  for (const page of texts.map(pageOf)) writeSync(file, Buffer.alloc(size, 0xa5), 0, size, (page - 1) * size)
  closeSync(file)
}
