/**
 * Judges a database with projections. It reads the tables with plain SQL and shares no code with the engine.
 *
 * G11: each stored state is the fold of the events of its partition up to its position, and no event of the partition
 * between that and the projection's position is missing. G10: no event of the log was skipped.
 */
import { DatabaseSync } from "node:sqlite"

interface LogRow {
  readonly position: number
  readonly name: string
  readonly data: string
}

const definitions: Readonly<Record<string, { takes: (name: string) => boolean; partitioned: boolean }>> = {
  one: { takes: (name) => /^order\.[^.]+$/.test(name), partitioned: false },
  "per-customer": { takes: (name) => name === "order.placed" || name === "order.paid", partitioned: true },
  mails: { takes: (name) => name === "order.placed", partitioned: false }
}

export interface Verdict {
  readonly violations: ReadonlyArray<string>
  readonly events: number
  readonly states: number
  /** The position of each projection. */
  readonly positions: Readonly<Record<string, number>>
}

/** `seen` has the positions that the external handler has written, in order. */
export const judge = (database: string, seen: ReadonlyArray<number>): Verdict => {
  const db = new DatabaseSync(database)
  try {
    const violations: Array<string> = []
    const log = db
      .prepare("SELECT position, name, data FROM events WHERE kind = 0 ORDER BY position")
      .all() as unknown as ReadonlyArray<LogRow>
    const positions: Record<string, number> = {}
    let states = 0
    for (const row of db.prepare("SELECT key, name, position, epoch FROM projections").all()) {
      const name = String(row.name)
      const position = Number(row.position)
      positions[name] = position
      const definition = definitions[name]
      if (definition === undefined) continue
      const done = log.filter((event) => event.position <= position && definition.takes(event.name))
      if (name === "mails") {
        const handled = new Set(seen)
        for (const event of done) {
          if (!handled.has(event.position))
            violations.push(`mails: event ${event.position} was acknowledged and never handled`)
        }
        continue
      }
      const stored = new Map(
        db
          .prepare(
            "SELECT partition_key, state, position FROM projection_states WHERE projection = ? AND epoch = ?"
          )
          .all(row.key!, row.epoch!)
          .map((state) => [String(state.partition_key), state] as const)
      )
      const parts = new Map<string, Array<LogRow>>()
      for (const event of done) {
        const partition = definition.partitioned ? JSON.parse(event.data).customer : "__global__"
        parts.set(partition, [...(parts.get(partition) ?? []), event])
      }
      for (const partition of new Set([...stored.keys(), ...parts.keys()])) {
        states++
        const events = parts.get(partition) ?? []
        let count = 0
        let digest = 0
        for (const event of events) {
          count++
          digest = (digest * 31 + JSON.parse(event.data).amount) % 1_000_003
        }
        const state = stored.get(partition)
        const expected = JSON.stringify({ count, digest })
        if (state === undefined)
          violations.push(`${name}/${partition}: ${count} events are processed and there is no state`)
        else if (state.state !== expected)
          violations.push(`${name}/${partition}: ${state.state} is not ${expected}`)
        else if (Number(state.position) !== events.at(-1)?.position) {
          violations.push(
            `${name}/${partition}: its position ${state.position} is not ${events.at(-1)?.position}`
          )
        }
      }
    }
    return { violations, events: log.length, states, positions }
  } finally {
    db.close()
  }
}

/** Complaints about new positions that are out of order: G10 as a handler sees it. Repeated positions are allowed. */
export const orderProblems = (seen: ReadonlyArray<number>): ReadonlyArray<string> => {
  const problems: Array<string> = []
  const earlier = new Set<number>()
  let newest = 0
  for (const position of seen) {
    if (!earlier.has(position) && position < newest) problems.push(`event ${position} came after ${newest}`)
    earlier.add(position)
    newest = Math.max(newest, position)
  }
  return problems
}
