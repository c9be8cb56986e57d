// The least that stores entity streams durably: a group commit over node:sqlite, one row an event, and one row an entity that
// a conditional update moves on. NOT an engine: no triggers, waits, idempotency, types or environments.
import path from "node:path"
import { DatabaseSync } from "node:sqlite"

export const openStreams = (dir) => {
  const db = new DatabaseSync(path.join(dir, "streams.db"))
  db.exec("pragma journal_mode=wal; pragma synchronous=FULL")
  db.exec("create table events (entity text not null, version int not null, data text not null, primary key (entity, version)) without rowid; create table streams (entity text primary key, version int not null) without rowid")
  const first = db.prepare("insert into streams values (?, 1) on conflict do nothing")
  const next = db.prepare("update streams set version = version + 1 where entity = ? returning version")
  const nextIf = db.prepare("update streams set version = version + 1 where entity = ? and version = ?")
  const event = db.prepare("insert into events values (?, ?, ?)")
  const version = db.prepare("select version from streams where entity = ?")
  const from = db.prepare("select version, data from events where entity = ? and version >= ? order by version limit ?")
  const apply = ({ entity, data, expected }) => {
    let at
    if (expected === undefined) at = first.run(entity).changes === 1 ? 1 : next.get(entity).version
    else if (expected === 0 ? first.run(entity).changes === 1 : nextIf.run(entity, expected).changes === 1) at = expected + 1
    else return undefined
    event.run(entity, at, JSON.stringify(data))
    return at
  }
  let queue = [], busy = false
  const pump = async () => {
    while (queue.length > 0) {
      const batch = queue.splice(0, 512)
      db.exec("begin immediate")
      for (const one of batch) one.result = apply(one)
      db.exec("commit")
      for (const { resolve, result } of batch) resolve(result)
      await new Promise(setImmediate)
    }
    busy = false
  }
  return {
    // resolves after the commit: to the version, or to undefined on a conflict
    append: (entity, data, expected) =>
      new Promise((resolve) => {
        queue.push({ entity, data, expected, resolve, result: undefined })
        if (!busy) { busy = true; setImmediate(pump) }
      }),
    versionOf: async (entity) => version.get(entity)?.version ?? 0,
    read: async (entity, at, limit) => from.all(entity, at, limit).map((row) => ({ version: row.version, data: JSON.parse(row.data) })),
    close: () => db.close()
  }
}
