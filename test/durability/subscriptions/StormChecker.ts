/**
 * Judges a storm by the rows of the database and the logs of its subscribers. G10: no event is skipped, and all come in
 * the order of the log. G12: an acked event does not come again, one member of a group holds a message at a time, and
 * every message is finished in the end. It uses no code of the engine: it matches names and reads rows by itself.
 */
import { DatabaseSync } from "node:sqlite"
import { groupBy } from "../Records.ts"
import type { ClientLine } from "./client.ts"

/** An acknowledged event or message, as its writer knows it. */
export interface Publication {
  readonly key: string
  /** When it was first requested, and when it was acknowledged. */
  readonly requestedAt: number
  readonly acknowledgedAt: number
}

/** The connections of a host, or of all hosts, were cut between two times. */
export interface Strike {
  readonly at: number
  readonly until: number
  readonly host?: number
}

export interface StormEvidence {
  readonly database: string
  readonly lines: ReadonlyArray<ClientLine>
  readonly publications: ReadonlyArray<Publication>
  readonly strikes: ReadonlyArray<Strike>
}

interface Stored {
  readonly position: number
  readonly id: string
  readonly kind: number
  readonly name: string
  readonly data: { readonly key: string; readonly even: boolean }
}

const isOrder = ({ kind, name }: Stored): boolean => kind === 0 && /^order\.[^.]+$/.test(name)
const isNews = ({ kind, name }: Stored): boolean => kind === 1 && /^news\../.test(name)

/** What subscribers without a group have to see, and whether they resume (`lasts`) after their process has died. */
const watchers: Readonly<
  Record<string, { readonly wants: (row: Stored) => boolean; readonly lasts?: true }>
> = {
  news: { wants: isNews },
  even: { wants: (row) => row.kind === 1 && /^news\.[^.]+$/.test(row.name) && row.data.even },
  all: { wants: () => true },
  resumer: { wants: isOrder, lasts: true },
  careful: { wants: isOrder }
}

const groups: Readonly<
  Record<string, { readonly wants: (row: Stored) => boolean; readonly members: ReadonlyArray<string> }>
> = {
  packers: { wants: isOrder, members: ["packer", "second packer"] },
  printers: { wants: isNews, members: ["printer"] }
}

const nameOf = (who: string): string => who.slice(0, who.lastIndexOf("."))
const hostOf = (who: string): number => Number(who.slice(who.lastIndexOf(".") + 1))

export interface StormFigures {
  readonly stored: number
  readonly connections: number
  /** Events that subscribers without a group have seen. */
  readonly seen: number
  /** Messages that a group handed out more than once. */
  readonly handedOutAgain: number
  readonly acknowledged: number
}

export const judgeStorm = (
  evidence: StormEvidence
): { readonly violations: ReadonlyArray<string>; readonly figures: StormFigures } => {
  using db = new DatabaseSync(evidence.database, { readOnly: true })
  const rows = db
    .prepare("SELECT position, id, kind, name, data FROM events WHERE kind IN (0, 1) ORDER BY position")
    .all()
    .map((row): Stored => ({
      position: Number(row.position),
      id: String(row.id),
      kind: Number(row.kind),
      name: String(row.name),
      data: JSON.parse(String(row.data))
    }))
  const unfinished = db
    .prepare("SELECT g.name, d.position FROM deliveries d JOIN consumer_groups g ON g.key = d.consumer_group")
    .all()
  const cursors = new Map(
    db
      .prepare("SELECT name, cursor FROM consumer_groups")
      .all()
      .map(({ cursor, name }) => [String(name), Number(cursor)])
  )

  const violations: Array<string> = []
  const complain = (text: string): void => void violations.push(text)
  const byKey = new Map<string, Stored>()
  for (const row of rows) {
    if (byKey.has(row.data.key)) complain(`${row.data.key} is stored twice`)
    byKey.set(row.data.key, row)
  }
  for (const { key } of evidence.publications) {
    if (!byKey.has(key)) complain(`${key} was acknowledged and is lost`)
  }

  const requestedAt = new Map(evidence.publications.map((one) => [one.key, one.requestedAt]))
  const byWho = groupBy(evidence.lines, ({ who }) => who)
  let seen = 0
  for (const [who, lines] of byWho) {
    const watcher = watchers[nameOf(who)]
    if (watcher === undefined) continue
    seen += judgeWatcher(
      who,
      lines,
      rows.filter(watcher.wants),
      watcher.lasts === true,
      requestedAt,
      complain
    )
  }
  let handedOutAgain = 0
  for (const [name, { members, wants }] of Object.entries(groups)) {
    const linesOfGroup = evidence.lines.filter(({ who }) => members.includes(nameOf(who)))
    handedOutAgain += judgeGroup(name, linesOfGroup, rows.filter(wants), evidence.strikes, complain)
    const end = rows.findLast(wants)?.position ?? 0
    if ((cursors.get(name) ?? 0) < end) complain(`group ${name} has not come to the end of the log`)
  }
  for (const { name, position } of unfinished) complain(`group ${name} has not finished ${position}`)

  return {
    violations,
    figures: {
      stored: rows.length,
      connections: evidence.lines.filter(({ t }) => t === "up").length,
      seen,
      handedOutAgain,
      acknowledged: evidence.lines.filter((line) => line.t === "settled" && line.how !== "nak").length
    }
  }
}

/**
 * Checks that a subscriber saw every event in order, from its beginning to the end of the log. Returns how many it has
 * seen.
 */
const judgeWatcher = (
  who: string,
  lines: ReadonlyArray<ClientLine>,
  wanted: ReadonlyArray<Stored>,
  lasts: boolean,
  requestedAt: ReadonlyMap<string, number>,
  complain: (text: string) => void
): number => {
  const indexOf = new Map(wanted.map(({ id }, index) => [id, index]))
  let latest: number | undefined
  let before: number | undefined
  let confirmedAt: number | undefined
  let acked = new Set<string>()
  let count = 0
  for (const line of lines) {
    switch (line.t) {
      case "life":
        if (!lasts) latest = confirmedAt = undefined
        acked = new Set()
        before = undefined
        break
      case "up":
        before = undefined
        break
      case "subscribed":
        if (line.position !== undefined && latest === undefined) {
          const { position } = line
          latest = wanted.findLastIndex((row) => row.position <= position)
        }
        confirmedAt ??= line.at
        break
      case "settled":
        acked.add(line.id)
        break
      case "got": {
        count++
        const index = indexOf.get(line.id)
        if (index === undefined || wanted[index]?.position !== line.position) {
          complain(`${who} got ${line.id}, which it has not subscribed to`)
          break
        }
        if (acked.has(line.id)) complain(`${who} got ${line.position} again, which it had acked`)
        if (latest === undefined) {
          const due = wanted.findIndex(
            ({ data }) => (requestedAt.get(data.key) ?? Number.NEGATIVE_INFINITY) > (confirmedAt ?? line.at)
          )
          if (due !== -1 && index > due) {
            complain(`${who} began with ${line.position} and missed ${wanted[due]?.position}`)
          }
        } else if (index > latest + 1) {
          complain(`${who} got ${line.position} after ${wanted[latest]?.position}: a gap`)
        }
        if (before !== undefined && index <= before) {
          complain(`${who} got ${line.position} after ${wanted[before]?.position}: out of order`)
        }
        before = index
        latest = Math.max(latest ?? -1, index)
      }
    }
  }
  if ((latest ?? -1) !== wanted.length - 1) {
    complain(
      `${who} has come to ${wanted[latest ?? -1]?.position}, and the log to ${wanted.at(-1)?.position}`
    )
  }
  return count
}

interface Hold {
  readonly who: string
  readonly id: string
  readonly from: number
  to: number
}

/** Judges one group. Returns how many messages were handed out more than once. */
const judgeGroup = (
  group: string,
  lines: ReadonlyArray<ClientLine>,
  wanted: ReadonlyArray<Stored>,
  strikes: ReadonlyArray<Strike>,
  complain: (text: string) => void
): number => {
  const holds: Array<Hold> = []
  const settledAt = new Map<string, number>()
  /** Messages whose settling was requested or acknowledged, or whose handler returned. */
  const settled = new Set<string>()
  for (const [who, own] of groupBy(lines, (line) => line.who)) {
    const host = hostOf(who)
    let endOfConnection = Number.POSITIVE_INFINITY
    const open = new Map<string, Hold>()
    const releaseAll = (at: number): void => {
      for (const hold of open.values()) hold.to = Math.min(hold.to, at)
      open.clear()
    }
    for (const line of own) {
      switch (line.t) {
        case "life":
          releaseAll(line.at)
          break
        case "up":
          // only the beginning of a strike is certain: after that, the connection may no longer hold its messages
          endOfConnection = Math.min(
            ...strikes
              .filter((strike) => (strike.host ?? host) === host && strike.until > line.at)
              .map(({ at }) => at)
          )
          break
        case "down":
          releaseAll(line.at)
          break
        case "got": {
          if (line.at >= endOfConnection) break
          const hold: Hold = { who, id: line.id, from: line.at, to: endOfConnection }
          holds.push(hold)
          open.set(line.id, hold)
          break
        }
        case "done":
        case "settling": {
          const hold = open.get(line.id)
          if (hold !== undefined) hold.to = Math.min(hold.to, line.at)
          open.delete(line.id)
          if (line.t === "done" || line.how !== "nak") settled.add(line.id)
          break
        }
        case "settled":
          if (line.how !== "nak") {
            settled.add(line.id)
            settledAt.set(line.id, Math.min(line.at, settledAt.get(line.id) ?? line.at))
          }
      }
    }
  }

  const byMessage = groupBy(holds, ({ id }) => id)
  for (const [id, own] of byMessage) {
    const ordered = own.toSorted((a, b) => a.from - b.from)
    for (const [i, hold] of ordered.entries()) {
      const next = ordered[i + 1]
      if (next !== undefined && next.from < hold.to) {
        complain(`group ${group}: ${next.who} got ${id} while ${hold.who} held it`)
      }
      if (hold.from > (settledAt.get(id) ?? Number.POSITIVE_INFINITY)) {
        complain(`group ${group}: ${hold.who} got ${id} again, which had been acked`)
      }
    }
  }
  for (const { id, position } of wanted) {
    if (!settled.has(id)) complain(`group ${group}: nobody has settled ${position}`)
  }
  const known = new Set(wanted.map(({ id }) => id))
  for (const id of byMessage.keys()) {
    if (!known.has(id)) complain(`group ${group} handed out ${id}, which is not for it`)
  }
  return [...byMessage.values()].filter(({ length }) => length > 1).length
}
