/**
 * Counts the calls of an engine to SQLite, and the requests to the engine. This module is preloaded with `--import`, and wraps
 * `node:sqlite`. When the process ends, it writes an `EngineUse` to the file `USE_FILE`, and adds the CPU time to a second file. In
 * a process without a database it writes only the CPU time, so that clients and workers can preload it too.
 */
import { subscribe } from "node:diagnostics_channel"
import fs from "node:fs"
import { DatabaseSync, StatementSync } from "node:sqlite"
import { WebSocket } from "ws"
import { cpuFile } from "./usage.ts"

const use = { statements: 0, commits: 0, bytes: 0, requests: 0 }
let hasDatabase = false
const databases = new Set<DatabaseSync>()
const prepared = new WeakMap<StatementSync, { readonly sql: string; readonly db: DatabaseSync }>()

const count = (sql: string, db: DatabaseSync): void => {
  use.statements += 1
  if (/^\s*(commit|end)\b/i.test(sql)) use.commits += 1
  else if (!db.isTransaction && /^\s*(insert|update|delete|replace)\b/i.test(sql)) use.commits += 1
}

const { prepare, exec, close } = DatabaseSync.prototype
const { get } = StatementSync.prototype

const measure = (db: DatabaseSync): void => {
  const pragma = (name: string): number => {
    const row: unknown = Reflect.apply(get, prepare.call(db, `PRAGMA ${name}`), [])
    return Number(Object(row)[name])
  }
  use.bytes += (pragma("page_count") - pragma("freelist_count")) * pragma("page_size")
  databases.delete(db)
}

DatabaseSync.prototype.prepare = function (...args) {
  hasDatabase = true
  databases.add(this)
  const statement = prepare.apply(this, args)
  prepared.set(statement, { sql: args[0], db: this })
  return statement
}

DatabaseSync.prototype.exec = function (sql) {
  hasDatabase = true
  databases.add(this)
  count(sql, this)
  return exec.call(this, sql)
}

DatabaseSync.prototype.close = function () {
  if (databases.has(this)) measure(this)
  close.call(this)
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

subscribe("http.server.request.start", () => {
  use.requests += 1
})
const { emit } = WebSocket.prototype
WebSocket.prototype.emit = function (event, ...args) {
  if (event === "message") use.requests += 1
  return emit.call(this, event, ...args)
}

const file = process.env.USE_FILE ?? ""
if (file === "") throw new Error("USE_FILE must name the file to write the figures to")
process.once("exit", () => {
  for (const db of databases) measure(db)
  const { system, user } = process.cpuUsage()
  fs.appendFileSync(cpuFile(file), `${(user + system) / 1000}\n`)
  if (hasDatabase) fs.writeFileSync(file, JSON.stringify(use))
})
// the server of the limit does not handle SIGTERM, and would end without the event "exit"
process.on("SIGTERM", () => {
  if (process.listenerCount("SIGTERM") === 1) process.exit(0)
})
