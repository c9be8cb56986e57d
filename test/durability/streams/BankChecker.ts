/**
 * Judges the evidence of a bank: the tables of its database, and the answers to its clients. Nothing here uses the
 * engine's code, so that an error there cannot hide itself here.
 */
import { DatabaseSync } from "node:sqlite"
import type { Answer, BankEvidence } from "./Bank.ts"

interface EventRow {
  readonly position: number
  readonly id: string
  readonly name: string
  readonly token: string | undefined
  readonly entity: string | undefined
  readonly version: number
}

/** A value of a key, current or earlier. */
interface KeyRow {
  readonly bucket: string
  readonly key: string
  readonly revision: number
  /** The transfer that wrote it. */
  readonly token: string
}

interface Tables {
  /** By bucket and revision. */
  readonly keys: ReadonlyArray<KeyRow>
  readonly buckets: ReadonlyMap<string, number>
  readonly events: ReadonlyArray<EventRow>
  readonly streams: ReadonlyMap<string, number>
  readonly runs: ReadonlyArray<{
    readonly id: string
    readonly fn: string
    readonly status: number
    readonly event: number
    readonly output: any
    /** The result of the transaction, if it is stored. */
    readonly moved: any
  }>
  readonly integrity: string
}

const read = (filename: string): Tables => {
  // not read-only: after a kill SQLite has to recover the write-ahead log first
  const db = new DatabaseSync(filename)
  try {
    const all = (sql: string) => db.prepare(sql).all() as Array<Record<string, any>>
    const moved = new Map(
      all("SELECT run, value FROM steps WHERE kind = 'tx' AND failed = 0").map((row) => [
        row.run,
        JSON.parse(row.value)
      ])
    )
    return {
      keys: all(
        `SELECT b.name AS bucket, e.key, e.revision, CAST(e.value AS TEXT) AS value
         FROM (SELECT bucket, key, revision, value FROM kv_entries
               UNION ALL SELECT bucket, key, revision, value FROM kv_history) e
         JOIN kv_buckets b ON b.key = e.bucket ORDER BY b.name, e.revision`
      ).map(({ bucket, key, revision, value }) => ({
        bucket,
        key,
        revision,
        token: JSON.parse(value).token
      })),
      buckets: new Map(all("SELECT name, revision FROM kv_buckets").map((row) => [row.name, row.revision])),
      events: all("SELECT * FROM events ORDER BY position").map((row) => ({
        position: row.position,
        id: row.id,
        name: row.name,
        token: JSON.parse(row.data).token,
        entity: row.entity_id ?? undefined,
        version: row.entity_version
      })),
      streams: new Map(
        all("SELECT entity_id, version FROM streams").map((row) => [row.entity_id, row.version])
      ),
      runs: all(
        "SELECT r.*, f.id AS fn FROM runs r JOIN functions f ON f.key = r.function ORDER BY r.key"
      ).map((row) => ({
        id: row.id,
        fn: row.fn,
        status: row.status,
        event: row.event,
        output: row.output === null ? undefined : JSON.parse(row.output),
        moved: moved.get(row.key)
      })),
      integrity: String(Object.values(all("PRAGMA integrity_check")[0] ?? {})[0])
    }
  } finally {
    db.close()
  }
}

/** Finds violations of what must hold at any moment, also right after a death. */
const judgeTables = (
  { buckets, events, integrity, keys, runs, streams }: Tables,
  answers: ReadonlyArray<Answer>
): Array<string> => {
  const violations: Array<string> = []
  const complain = (complaint: string) => void violations.push(complaint)
  if (integrity !== "ok") complain(`the file is damaged: ${integrity}`)

  // G9: 1..n without holes, in the order of the log
  const byEntity = new Map<string, Array<EventRow>>()
  for (const event of events) {
    if (event.entity === undefined) continue
    byEntity.set(event.entity, [...(byEntity.get(event.entity) ?? []), event])
  }
  for (const [entity, rows] of byEntity) {
    rows.forEach((row, i) => {
      if (row.version !== i + 1) complain(`${entity}: version ${row.version} stands where ${i + 1} should`)
    })
    if (streams.get(entity) !== rows.length) {
      complain(`${entity} has ${rows.length} events and is said to be at version ${streams.get(entity)}`)
    }
  }
  for (const [entity, version] of streams) {
    if (!byEntity.has(entity)) complain(`${entity} is said to be at version ${version} and has no events`)
  }

  // every answer to a writer is true
  const notes = new Map<string, Array<EventRow>>()
  for (const event of events) {
    if (event.name !== "note.added" || event.token === undefined) continue
    notes.set(event.token, [...(notes.get(event.token) ?? []), event])
  }
  for (const [token, rows] of notes) {
    if (rows.length > 1) complain(`the append ${token} is stored ${rows.length} times`)
  }
  for (const { entity, eventId, expected, position, status, token, version } of answers) {
    const [row] = notes.get(token) ?? []
    if (status === 409) {
      if (row !== undefined)
        complain(`the append ${token} was refused and is stored as version ${row.version}`)
      continue
    }
    if (version !== expected + 1) complain(`${token} expected version ${expected} and became ${version}`)
    if (row === undefined) complain(`the append ${token} was acknowledged and is lost`)
    else if (
      row.entity !== entity ||
      row.version !== version ||
      row.id !== eventId ||
      row.position !== position
    ) {
      complain(`the append ${token} was acknowledged as ${entity}@${version} and stands elsewhere`)
    }
  }

  // G13: in a bucket that keeps all revisions, each revision has one writer
  for (const [bucket, revision] of buckets) {
    const rows = keys.filter((row) => row.bucket === bucket)
    rows.forEach((row, i) => {
      if (row.revision !== i + 1) complain(`${bucket}: revision ${row.revision} stands where ${i + 1} should`)
    })
    if (rows.length !== revision) {
      complain(`bucket ${bucket} has ${rows.length} revisions and is said to be at ${revision}`)
    }
  }

  // a transaction is stored once, in whole or not at all
  for (const run of runs.filter(({ fn }) => fn === "transfer")) {
    const written = events.filter(({ name, token }) => name !== "note.added" && token === run.id)
    const names = written.map(({ name }) => name).join(", ")
    const entries = keys.filter(({ token }) => token === run.id)
    const places = entries.map(({ bucket, key }) => `${bucket}/${key}`).join(", ")
    if (run.moved === undefined) {
      if (entries.length > 0)
        complain(`${run.id} has no result of its transaction, and has written ${places}`)
      if (written.length > 0) complain(`${run.id} has no result of its transaction, and has written ${names}`)
      continue
    }
    if (names !== "money.withdrawn, money.deposited, transfer.done") {
      complain(`the transaction of ${run.id} is stored, and has written ${names || "nothing"}`)
      continue
    }
    if (written.some(({ position }, i) => position !== written[0]!.position + i)) {
      complain(`the writes of ${run.id} are not next to each other in the log`)
    }
    const [ledger, receipt] = entries
    if (
      entries.length !== 2 ||
      `${ledger?.bucket}/${ledger?.key}` !== `ledger/${written[0]!.entity}` ||
      `${receipt?.bucket}/${receipt?.key}` !== `receipts/${run.id}`
    ) {
      complain(`the transaction of ${run.id} is stored, and has written ${places || "no key"}`)
    }
    const revisions = run.moved.writes.filter(({ _tag }: any) => _tag === "kv")
    if (
      String(revisions.map(({ revision }: any) => revision)) !==
      String(entries.map(({ revision }) => revision))
    ) {
      complain(`the transaction of ${run.id} answers with other revisions than it has written`)
    }
    const results = run.moved.writes
      .filter(({ _tag }: any) => _tag !== "kv")
      .map((result: any) => (result._tag === "append" ? result.events[0].eventId : result.eventId))
    if (String(results) !== String(written.map(({ id }) => id))) {
      complain(`the transaction of ${run.id} answers with other events than it has written`)
    }
    const notified = runs.filter(({ event, fn }) => fn === "note" && event === written[2]!.position)
    if (notified.length !== 1) complain(`the event of ${run.id} has started ${notified.length} runs`)
  }
  return violations
}

export interface Judgement {
  readonly violations: ReadonlyArray<string>
  readonly figures: {
    readonly acknowledged: number
    readonly conflicts: number
    readonly transfers: number
    /** Transactions that were refused before they succeeded. */
    readonly repeated: number
  }
}

export const judgeBank = ({ database, plan, snapshots, answers, transfers }: BankEvidence): Judgement => {
  const tables = read(database)
  const violations = judgeTables(tables, answers)
  snapshots.forEach((snapshot, i) => {
    for (const violation of judgeTables(read(snapshot.database), answers.slice(0, snapshot.answerCount))) {
      violations.push(`after death ${i}: ${violation}`)
    }
  })

  const runs = tables.runs.filter(({ fn }) => fn === "transfer")
  if (transfers.length < plan.transfers || String(transfers) !== String(runs.map(({ id }) => id))) {
    violations.push(`${transfers.length} transfers were requested, and there are ${runs.length} runs`)
  }
  for (const { id, moved, output, status } of tables.runs) {
    if (status !== 5) violations.push(`run ${id} has not completed: status ${status}`)
    else if (moved !== undefined && output.attempt !== moved.value) {
      violations.push(`run ${id} has seen attempt ${output.attempt}, and attempt ${moved.value} is stored`)
    }
  }
  return {
    violations,
    figures: {
      acknowledged: answers.filter(({ status }) => status === 200).length,
      conflicts: answers.filter(({ status }) => status === 409).length,
      transfers: runs.length,
      repeated: runs.filter(({ moved }) => moved?.value > 1).length
    }
  }
}
