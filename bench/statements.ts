/**
 * Counts what a process asks of SQLite: preloaded with `--import`, it wraps `node:sqlite` and, when the process ends,
 * writes `{ statements, commits }` to the file that `STATEMENTS_FILE` names.
 *
 * A write outside of any transaction counts as a commit, since SQLite makes it one.
 */
import fs from "node:fs"
import { DatabaseSync, StatementSync } from "node:sqlite"

const counts = { statements: 0, commits: 0 }
const prepared = new WeakMap<StatementSync, { readonly sql: string; readonly db: DatabaseSync }>()

const count = (sql: string, db: DatabaseSync): void => {
  counts.statements += 1
  if (/^\s*(commit|end)\b/i.test(sql)) counts.commits += 1
  else if (!db.isTransaction && /^\s*(insert|update|delete|replace)\b/i.test(sql)) counts.commits += 1
}

const prepare = DatabaseSync.prototype.prepare
DatabaseSync.prototype.prepare = function (...args) {
  const statement = prepare.apply(this, args)
  prepared.set(statement, { sql: args[0], db: this })
  return statement
}

const exec = DatabaseSync.prototype.exec
DatabaseSync.prototype.exec = function (sql) {
  count(sql, this)
  return exec.call(this, sql)
}

for (const method of ["run", "get", "all", "iterate"] as const) {
  const original = StatementSync.prototype[method]
  Object.defineProperty(StatementSync.prototype, method, {
    value(this: StatementSync, ...args: Array<unknown>) {
      const statement = prepared.get(this)
      if (statement !== undefined) count(statement.sql, statement.db)
      return Reflect.apply(original, this, args)
    }
  })
}

const file = process.env.STATEMENTS_FILE
if (file === undefined) throw new Error("STATEMENTS_FILE must name the file to write the counts to")
process.once("exit", () => fs.writeFileSync(file, JSON.stringify(counts)))
