/** Damages a closed database as a disk would: a page, or a row. */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"

const look = <A>(filename: string, body: (db: DatabaseSync) => A): A => {
  const db = new DatabaseSync(filename)
  try {
    return body(db)
  } finally {
    db.close()
  }
}

/** Runs SQL on the file. */
export const change = (filename: string, sql: string): void => look(filename, (db) => db.exec(sql))

/** Overwrites the page of a table that holds the text, for each of the texts. */
export const overwritePagesWith = (
  filename: string,
  table: string,
  ...texts: ReadonlyArray<string>
): void => {
  const { candidates, size } = look(filename, (db) => {
    // without what is left over in the free space of other pages
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
    // a row that did not fit in a page any more has left something of itself there
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
