/**
 * The checker compares what the engine has stored with what really happened, and with what had to happen.
 *
 * It reads the SQLite file and the side log, and shares no code with the engine. Each law is a function from the case
 * to complaints. A verdict names the laws that were violated.
 */
import type { Evidence } from "./Chaos.ts"
import type { Ack } from "./Customer.ts"
import { delayBefore, expectationOf, functionsFor, limits, MAX_ATTEMPTS, pauses } from "./Expectations.ts"
import {
  type EventRow,
  type Execution,
  groupBy,
  livesOf,
  readExecutions,
  readTables,
  type RunRow,
  type StepRow,
  type Tables
} from "./Records.ts"
import type { Line } from "./SideLog.ts"

interface Violation {
  readonly law: Law
  readonly complaint: string
}

export type Law = keyof typeof laws

/** What a law can read. */
interface Case extends Tables {
  readonly plan: Evidence["plan"]
  readonly acks: ReadonlyArray<Ack>
  readonly lines: ReadonlyArray<Line>
  readonly executions: ReturnType<typeof readExecutions>
  readonly snapshots: ReadonlyArray<Tables & { readonly lineCount: number; readonly ackCount: number }>
  readonly cancelled: ReadonlySet<string>
  readonly unfinished: string | undefined
}

export interface Verdict {
  readonly violations: ReadonlyArray<Violation>
  /** How much there was to judge. */
  readonly figures: {
    readonly kills: number
    readonly killsAsPlanned: number
    readonly events: number
    readonly runs: number
    readonly steps: number
    readonly executions: number
    /** Executions whose result was lost with their process. */
    readonly repeated: number
  }
}

/** Judges the evidence by every law but those of `except`, which do not hold for this sort of evidence. */
export const judge = (evidence: Evidence, except: ReadonlySet<Law> = new Set()): Verdict => {
  const tables = readTables(evidence.database)
  const it: Case = {
    ...tables,
    plan: evidence.plan,
    acks: evidence.acks,
    unfinished: evidence.unfinished,
    lines: evidence.lines,
    executions: readExecutions(evidence.lines),
    snapshots: evidence.snapshots.map(({ acks, database, lines }) => ({
      ...readTables(database),
      lineCount: lines,
      ackCount: acks
    })),
    cancelled: new Set(
      evidence.acks.flatMap((ack) =>
        ack.op === "cancel"
          ? Object.entries(ack.statuses).flatMap(([id, status]) => (status === "cancelled" ? [id] : []))
          : []
      )
    )
  }
  const violations = Object.entries(laws).flatMap(([name, complaints]) => {
    // `Object.entries` forgets that the keys are laws
    const law = name as Law
    return except.has(law) ? [] : Array.from(complaints(it), (complaint): Violation => ({ law, complaint }))
  })
  const executions = allExecutions(it)
  return {
    violations,
    figures: {
      kills: evidence.kills,
      killsAsPlanned: evidence.killsAsPlanned,
      events: it.events.length,
      runs: it.runs.size,
      steps: Array.from(it.runs.values()).reduce((sum, { steps }) => sum + steps.size, 0),
      executions: executions.length,
      repeated: executions.filter((execution, i) => {
        const next = executions[i + 1]
        return next?.run === execution.run && next.key === execution.key && next.attempt === execution.attempt
      }).length
    }
  }
}

/** Grouped by run and step. */
const allExecutions = (it: Case): ReadonlyArray<Execution> =>
  Array.from(it.executions.values()).flatMap((byKey) => Array.from(byKey.values()).flat())

const areEqual = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)
const sorted = (values: Iterable<string>): ReadonlyArray<string> => Array.from(values).toSorted()
const tokenOf = (step: StepRow | undefined): string | undefined =>
  step === undefined || step.failed
    ? undefined
    : (step.value as { readonly token?: string } | undefined)?.token
const stepOf = (tables: Tables, run: string, key: string): StepRow | undefined =>
  tables.runs.get(run)?.steps.get(key)
const nameOf = ({ fn, id }: RunRow): string => `${fn} ${id}`
const isBody = ({ kind }: StepRow): boolean => kind === "run" || kind === "compensate"

type Complaints = Generator<string, void, undefined>

const laws = {
  /** The file is sound after every death. */
  *"the file is sound"(it: Case): Complaints {
    for (const tables of [...it.snapshots, it]) {
      if (tables.integrity !== "ok") yield `SQLite finds: ${tables.integrity}`
    }
  },

  /** G1, G14: an acknowledged event is stored once, and all acknowledgements of it are equal. */
  *"an acknowledged event is in the log once"(it: Case): Complaints {
    const first = new Map<string, Ack>()
    for (const ack of it.acks) {
      const earlier = first.get(ack.key)
      if (earlier === undefined) first.set(ack.key, ack)
      else if (ack.op !== "cancel" && !areEqual(earlier, ack)) {
        yield `${ack.key} was acknowledged as ${JSON.stringify(earlier)} and later as ${JSON.stringify(ack)}`
      }
    }
    const byKey = groupBy(it.events, ({ idempotencyKey }) => idempotencyKey)
    for (const item of it.plan.items) {
      const ack = first.get(item.key)
      if (ack === undefined) yield `${item.key} was never acknowledged`
      if (item.op === "cancel") continue
      const rows = byKey.get(item.key) ?? []
      if (rows.length !== 1) yield `${item.key} is in the log ${rows.length} times`
      const [row] = rows
      if (row !== undefined && !areEqual(row.data, item.data)) yield `${item.key} has other data in the log`
      if (row !== undefined && ack !== undefined && "eventId" in ack && ack.eventId !== row.id) {
        yield `${item.key} was acknowledged as ${ack.eventId} and is in the log as ${row.id}`
      }
    }
    for (const tables of it.snapshots) {
      const ids = new Set(tables.events.map(({ id }) => id))
      for (const ack of it.acks.slice(0, tables.ackCount)) {
        if ("eventId" in ack && !ids.has(ack.eventId)) {
          yield `${ack.key} was acknowledged, and not there after the process died`
        }
        for (const runId of "runIds" in ack ? ack.runIds : []) {
          if (!tables.runs.has(runId)) yield `run ${runId} of ${ack.key} was not there after the process died`
        }
      }
    }
  },

  /** G1: exactly one run for each function that matches. */
  *"an event has one run for each function that it starts"(it: Case): Complaints {
    const runsAt = groupBy(
      Array.from(it.runs.values()).filter(({ invoked }) => !invoked),
      ({ event }) => event
    )
    const runIds = new Map(it.acks.flatMap((ack) => (ack.op === "emit" ? [[ack.eventId, ack.runIds]] : [])))
    for (const tables of [...it.snapshots, it]) {
      const at =
        tables === it ? runsAt : groupBy(tables.runs.values(), ({ event, invoked }) => (invoked ? -1 : event))
      for (const event of tables.events) {
        const wanted = event.kind === "event" ? functionsFor(event.name, event.data) : []
        const runs = at.get(event.position) ?? []
        if (!areEqual(sorted(runs.map(({ fn }) => fn)), sorted(wanted))) {
          yield `${event.name} ${event.id} should have started ${wanted.join(", ")} and has runs of ${runs.map(({ fn }) => fn).join(", ")}`
        }
        const acked = runIds.get(event.id)
        if (acked !== undefined && !areEqual(sorted(acked), sorted(runs.map(({ id }) => id)))) {
          yield `${event.name} ${event.id} was acknowledged with other runs than it has`
        }
      }
    }
    const positions = new Set(it.events.map(({ position }) => position))
    for (const run of it.runs.values()) {
      if (!run.invoked && !positions.has(run.event)) yield `${nameOf(run)} has no event`
    }
  },

  /** G5: every run ends as its code says, and a kill is no failure. */
  *"a run ends as its function says"(it: Case): Complaints {
    for (const run of it.runs.values()) {
      if (it.cancelled.has(run.id)) continue
      const wanted = expectationOf(run.fn, run.data)
      if (run.status !== wanted.status) {
        yield `${nameOf(run)} should be ${wanted.status} and is ${run.status}: ${run.error?.message}`
        continue
      }
      if (run.attempt !== wanted.runAttempt) {
        yield `${nameOf(run)} should have come to run attempt ${wanted.runAttempt} and is at ${run.attempt}`
      }
      if (wanted.error !== undefined && run.error?.message.includes(wanted.error) !== true) {
        yield `${nameOf(run)} should have failed with "${wanted.error}" and has "${run.error?.message}"`
      }
      if (!areEqual(sorted(run.steps.keys()), sorted(Object.keys(wanted.steps)))) {
        yield `${nameOf(run)} should have the steps ${sorted(Object.keys(wanted.steps)).join(", ")} and has ${sorted(run.steps.keys()).join(", ")}`
      }
      for (const [key, { attempt, failed = false }] of Object.entries(wanted.steps)) {
        const step = run.steps.get(key)
        if (step === undefined) continue
        if (step.failed !== failed)
          yield `${nameOf(run)}: ${key} should have ${failed ? "failed" : "succeeded"}`
        if (attempt !== undefined && step.attempt !== attempt) {
          yield `${nameOf(run)}: ${key} should have taken ${attempt} attempts and took ${step.attempt}`
        }
      }
    }
    for (const [id, byKey] of it.executions) {
      if (!it.runs.has(id))
        yield `steps ${Array.from(byKey.keys()).join(", ")} ran for ${id}, which is not stored`
    }
  },

  /** G3: the recorded result is that of the last execution. */
  *"a recorded step never runs again"(it: Case): Complaints {
    for (const run of it.runs.values()) {
      for (const step of run.steps.values()) {
        if (!isBody(step)) continue
        const last = it.executions.get(run.id)?.get(step.key)?.at(-1)
        const how = step.failed ? "threw" : "returned"
        // the result of a compensation is not stored
        const recorded = step.kind === "run" && !step.failed ? (tokenOf(step) ?? "nothing") : undefined
        if (last === undefined) yield `${nameOf(run)}: ${step.key} is recorded and never ran`
        else if (last.end?.how !== how || (recorded !== undefined && last.token !== recorded)) {
          yield `${nameOf(run)}: ${step.key} ran again after it was recorded, with ${recorded ?? "nothing"}`
        } else if (last.attempt !== step.attempt) {
          yield `${nameOf(run)}: ${step.key} is recorded as attempt ${step.attempt} and was attempt ${last.attempt}`
        }
      }
    }
    for (const tables of it.snapshots) {
      for (const run of tables.runs.values()) {
        for (const [key, executions] of it.executions.get(run.id) ?? []) {
          const again = executions.find(({ begin }) => begin >= tables.lineCount)
          if (again !== undefined && run.steps.has(key)) {
            yield `${nameOf(run)}: ${key} ran in life ${again.life}, and was recorded before`
          }
        }
      }
    }
  },

  /** G3: an entry of the journal never changes. */
  *"a recorded result never changes"(it: Case): Complaints {
    for (const tables of it.snapshots) {
      for (const run of tables.runs.values()) {
        for (const step of run.steps.values()) {
          const now = stepOf(it, run.id, step.key)
          if (!areEqual(now, step)) {
            yield `${nameOf(run)}: ${step.key} was ${JSON.stringify(step)} and became ${JSON.stringify(now)}`
          }
        }
      }
    }
  },

  /**
   * G3: a step begins only after the results that it may depend on are stored, and a handler always sees the same
   * results.
   */
  *"a step begins when all that its handler has seen is stored"(it: Case): Complaints {
    for (const [runId, byKey] of it.executions) {
      const seen = new Map<string, string>()
      for (const { begin, key, seen: now } of Array.from(byKey.values())
        .flat()
        .toSorted((a, b) => a.begin - b.begin)) {
        for (const [what, value] of Object.entries(now)) {
          const before = seen.get(what)
          if (before !== undefined && before !== value) {
            yield `${runId}: before ${key} the handler saw ${what} as ${value}, and earlier as ${before}`
          }
          seen.set(what, value)
          const step = stepOf(it, runId, what)
          if (step !== undefined && tokenOf(step) !== value) {
            yield `${runId}: ${key} began when ${what} was ${value}; it is recorded as ${tokenOf(step)}`
          }
          if (step === undefined && /:\d+$/.test(what))
            yield `${runId}: ${key} began after ${what}, which is not recorded`
          for (const tables of it.snapshots) {
            if (begin >= tables.lineCount || !/:\d+$/.test(what)) continue
            if (tokenOf(stepOf(tables, runId, what)) !== value) {
              yield `${runId}: ${key} had begun after ${what} before the process died, and ${what} was not on disk`
            }
          }
        }
      }
      const run = it.runs.get(runId)
      for (const [what, value] of Object.entries((run?.output ?? {}) as Record<string, string>)) {
        const recorded = tokenOf(run?.steps.get(what))
        if ((recorded ?? seen.get(what) ?? value) !== value)
          yield `${runId}: its output has ${what} as ${value}`
      }
    }
  },

  /** A step has one execution at a time, and another only after that one has failed or its process has died. */
  *"a step runs again only when it has failed or its process died"(it: Case): Complaints {
    for (const [before, next] of pairs(it)) {
      if (before.life !== next.life) continue
      if (before.end === undefined || before.end.line > next.begin) {
        yield `${before.run}: ${before.key} began again in life ${next.life} while it was running`
      } else if (before.end.how === "returned") {
        yield `${before.run}: ${before.key} began again in life ${next.life} after it had returned`
      } else if (next.attempt === before.attempt) {
        yield `${before.run}: attempt ${next.attempt} of ${before.key} failed and was not counted`
      }
    }
    for (const [run, throws] of groupBy(thrown(it), (line) => line.run)) {
      for (const [i, line] of throws.entries()) {
        const before = throws[i - 1]
        if (before?.attempt === line.attempt && before.life === line.life) {
          yield `${run}: run attempt ${line.attempt} failed and was not counted`
        }
      }
    }
  },

  /** G5: the policy bounds the attempts, and only failures count. */
  *"attempts count failures and nothing else"(it: Case): Complaints {
    for (const execution of allExecutions(it)) {
      const { attempt, key, run } = execution
      if (attempt > MAX_ATTEMPTS) yield `${run}: ${key} came to attempt ${attempt}`
      const failures = it.executions
        .get(run)!
        .get(key)!
        .filter(({ begin, end }) => begin < execution.begin && end?.how === "threw")
      for (let i = 1; i < attempt; i++) {
        if (!failures.some((failure) => failure.attempt === i)) {
          yield `${run}: ${key} began attempt ${attempt}, and attempt ${i} had not failed`
        }
      }
    }
    for (const [before, next] of pairs(it)) {
      if (next.attempt < before.attempt)
        yield `${before.run}: ${before.key} went back to attempt ${next.attempt}`
      if (next.attempt > before.attempt + 1) yield `${before.run}: ${before.key} left out an attempt`
    }
    for (const [run, throws] of groupBy(thrown(it), (line) => line.run)) {
      for (const [i, line] of throws.entries()) {
        const before = throws[i - 1]?.attempt ?? 0
        // an attempt is repeated when its failure was not stored
        const isNext = line.attempt === before + 1 || (i > 0 && line.attempt === before)
        if (!isNext) yield `${run}: run attempt ${line.attempt} failed after run attempt ${before}`
      }
    }
  },

  /** G6. */
  *"compensations run once, in reverse order, after the failure"(it: Case): Complaints {
    for (const run of it.runs.values()) {
      const byKey = it.executions.get(run.id) ?? new Map<string, ReadonlyArray<Execution>>()
      const ran = Array.from(byKey.values())
        .flat()
        .toSorted((a, b) => a.begin - b.begin)
      const firstOf = ran.find(({ key }) => key.startsWith("compensate:"))
      const wanted = it.cancelled.has(run.id) ? [] : expectationOf(run.fn, run.data).compensations
      const inOrder = ran.map(({ key }) => key).filter((key) => key.startsWith("compensate:"))
      // a repeated compensation runs again before the next one begins
      const once = inOrder.filter((key, i) => key !== inOrder[i - 1])
      if (!areEqual(once, wanted)) {
        yield `${nameOf(run)} should compensate ${wanted.join(", ")} and did ${inOrder.join(", ")}`
      }
      const recorded = Array.from(run.steps.values())
        .toSorted((a, b) => a.seq - b.seq)
        .filter(({ kind }) => kind === "compensate")
        .map(({ key }) => key)
      if (!areEqual(recorded, wanted)) {
        yield `${nameOf(run)} should have recorded ${wanted.join(", ")} and has ${recorded.join(", ")}`
      }
      for (const { begin, key } of ran) {
        if (firstOf !== undefined && begin > firstOf.begin && !key.startsWith("compensate:")) {
          yield `${nameOf(run)}: ${key} began while the run was compensating`
        }
      }
    }
  },

  /** G7. */
  *"nothing is early"(it: Case): Complaints {
    for (const run of it.runs.values()) {
      if (it.cancelled.has(run.id)) continue
      for (const [key, { ms }] of Object.entries(expectationOf(run.fn, run.data).steps)) {
        const step = run.steps.get(key)
        if (step !== undefined && ms !== undefined && step.endedAt - step.startedAt < ms) {
          yield `${nameOf(run)}: ${key} should take ${ms} ms and took ${step.endedAt - step.startedAt}`
        }
      }
      for (const { from, ms, to } of pauses[run.fn] ?? []) {
        const end = it.executions.get(run.id)?.get(from)?.at(-1)?.end
        const begin = it.executions.get(run.id)?.get(to)?.[0]
        const took = (begin?.begunAt ?? Infinity) - (end?.at ?? 0)
        if (took < Number(run.data[ms])) yield `${nameOf(run)}: ${to} came ${took} ms after ${from}`
      }
    }
    for (const [before, next] of pairs(it)) {
      if (next.attempt === before.attempt) continue
      const waited = next.begunAt - (before.end?.at ?? 0)
      if (waited < delayBefore(next.attempt)) {
        yield `${next.run}: attempt ${next.attempt} of ${next.key} came after ${waited} ms`
      }
    }
    for (const throws of groupBy(thrown(it), (line) => line.run).values()) {
      for (const [i, line] of throws.entries()) {
        const before = throws[i - 1]
        if (before === undefined || before.attempt === line.attempt) continue
        if (line.at - before.at < delayBefore(line.attempt)) {
          yield `${line.run}: run attempt ${line.attempt} came after ${line.at - before.at} ms`
        }
      }
    }
  },

  /** G8: the first event that matches and comes after the run's event, or after the event of the previous wait. */
  *"a wait gets the first event that it accepts"(it: Case): Complaints {
    for (const run of it.runs.values()) {
      let after = run.event
      for (const [i, timeout] of ["firstTimeout", "secondTimeout"].entries()) {
        const step = run.steps.get(`payment:${i}`)
        if (step === undefined) continue
        const ms = Number(run.data[timeout])
        const candidates = it.events.filter(
          ({ data, kind, name, position }) =>
            kind === "event" &&
            name === "payment.received" &&
            position > after &&
            data.orderId === run.data.orderId
        )
        if (step.failed) {
          const missed = candidates.find(({ timestamp }) => timestamp < step.startedAt + ms)
          if (missed !== undefined) yield `${nameOf(run)}: ${step.key} timed out and missed ${missed.id}`
          continue
        }
        const received = (step.value as { readonly id?: string } | undefined)?.id
        if (candidates[0] === undefined || candidates[0].id !== received) {
          yield `${nameOf(run)}: ${step.key} should have received ${candidates[0]?.id} and has ${received}`
        }
        if (step.event !== candidates[0]?.position) yield `${nameOf(run)}: ${step.key} has the wrong position`
        after = step.event ?? after
      }
    }
  },

  /** A step has one child, whose input is what the parent gave, and the parent has the child's result. */
  *"a step that invokes has one child"(it: Case): Complaints {
    const children = Array.from(it.runs.values()).filter(({ invoked }) => invoked)
    const claimed = new Set<string>()
    for (const run of it.runs.values()) {
      if (run.fn !== "bill-order") continue
      const token = tokenOf(run.steps.get("prepare:0"))
      for (const fn of ["make-invoice", "notify"]) {
        const step = run.steps.get(`${fn}:0`)
        const ownChildren = children.filter((child) => child.fn === fn && child.data.by === run.id)
        for (const { id } of ownChildren) claimed.add(id)
        const [child] = ownChildren
        if (step === undefined) continue
        if (ownChildren.length !== 1 || child === undefined) {
          yield `${nameOf(run)}: ${step.key} has ${ownChildren.length} children`
          continue
        }
        if (child.data.token !== token)
          yield `${nameOf(child)} was given a result that ${nameOf(run)} does not have`
        if (fn === "notify" && (step.value as { readonly runId: string }).runId !== child.id) {
          yield `${nameOf(run)}: ${step.key} names another run than its child`
        }
        if (fn === "make-invoice" && (child.parent !== run.key || child.parentStep !== step.key)) {
          yield `${nameOf(child)} does not know its parent`
        }
        if (fn === "make-invoice" && !step.failed && !areEqual(step.value, child.output)) {
          yield `${nameOf(run)}: ${step.key} has another result than its child`
        }
      }
    }
    for (const child of children) if (!claimed.has(child.id)) yield `${nameOf(child)} is nobody's child`
  },

  /** A publish step publishes one message, with the result that the handler had seen. */
  *"a message is published once"(it: Case): Complaints {
    const messages = it.events.filter(({ kind, name }) => kind === "message" && name === "news")
    const stepOf = (message: EventRow): string => `${message.data.run}/${message.data.edition}`
    const byStep = groupBy(messages, stepOf)
    for (const run of it.runs.values()) {
      if (run.fn !== "announce-news") continue
      for (let edition = 0; edition < 2; edition++) {
        const published = byStep.get(`${run.id}/${edition}`) ?? []
        byStep.delete(`${run.id}/${edition}`)
        const step = run.steps.get(`publish:news:${edition}`)
        if (published.length !== (step === undefined ? 0 : 1)) {
          yield `${nameOf(run)} has published edition ${edition} ${published.length} times`
        }
        const [message] = published
        if (message === undefined) continue
        if ((step?.value as { readonly eventId?: string } | undefined)?.eventId !== message.id) {
          yield `${nameOf(run)}: publish:news:${edition} names another message than it has published`
        }
        if (message.data.token !== tokenOf(run.steps.get(`edit:${edition}`))) {
          yield `${nameOf(run)} has published a result that it does not have`
        }
      }
    }
    for (const what of byStep.keys()) yield `nobody has published ${what}`
  },

  /**
   * A transaction's writes are stored once if its step is recorded, and otherwise not at all. They have the result that
   * the handler had seen.
   */
  *"a transaction is carried out once"(it: Case): Complaints {
    const bookings = groupBy(
      it.events.filter(({ name }) => name === "parcel.booked"),
      ({ data }) => String(data.run)
    )
    for (const run of it.runs.values()) {
      if (run.fn !== "pack-parcel") continue
      const booked = bookings.get(run.id) ?? []
      bookings.delete(run.id)
      if (booked.length !== (run.steps.has("book:0") ? 1 : 0)) {
        yield `${nameOf(run)} is booked ${booked.length} times`
      }
      if (booked.some(({ data }) => data.token !== tokenOf(run.steps.get("weigh:0")))) {
        yield `${nameOf(run)} has booked a result that it does not have`
      }
    }
    for (const id of bookings.keys()) yield `${id} is booked, and is no run`
  },

  /** G15. */
  *"a concurrency limit is never exceeded"(it: Case): Complaints {
    const open = new Map<string, string>()
    const groupOf = (run: string): string | undefined => {
      const row = it.runs.get(run)
      const rule = row === undefined ? undefined : limits[row.fn]
      return row === undefined || rule === undefined ? undefined : `${row.fn} of ${row.data[rule.key]}`
    }
    for (const line of it.lines) {
      // steps end with their process
      if (line.t === "life") open.clear()
      if (line.t === "end" || line.t === "fail" || line.t === "abort") open.delete(line.token)
      if (line.t !== "begin") continue
      const group = groupOf(line.run)
      if (group === undefined) continue
      open.set(line.token, group)
      const busy = Array.from(open.values()).filter((other) => other === group).length
      const limit = limits[line.fn]?.limit ?? 0
      if (busy > limit) yield `${busy} runs of ${group} were busy at once, the limit is ${limit}`
    }
  },

  /** A run whose cancellation was acknowledged stays cancelled, and none of its steps begins. */
  *"a cancelled run is over"(it: Case): Complaints {
    for (const id of it.cancelled) {
      const run = it.runs.get(id)
      if (run?.status !== "cancelled") yield `${id} was cancelled and is ${run?.status}`
      const cancelled = it.lines.findIndex((line) => line.t === "cancelled" && line.run === id)
      const after = it.lines.findIndex((line, i) => i > cancelled && line.t === "begin" && line.run === id)
      if (cancelled !== -1 && after !== -1) yield `${id}: a step began after the run had been cancelled`
    }
  },

  /** What has ended stays ended. */
  *"a run that has ended does nothing any more"(it: Case): Complaints {
    for (const tables of it.snapshots) {
      for (const run of tables.runs.values()) {
        if (!["completed", "failed", "cancelled"].includes(run.status)) continue
        const now = it.runs.get(run.id)
        if (now?.status !== run.status || !areEqual(now.output, run.output)) {
          yield `${nameOf(run)} had ended as ${run.status} and is ${now?.status}`
        }
        const again = allExecutionsOf(it, run.id).find(({ begin }) => begin >= tables.lineCount)
        if (again !== undefined) yield `${nameOf(run)}: ${again.key} ran after the run had ended`
      }
    }
  },

  /** G2. */
  *"no run is stuck"(it: Case): Complaints {
    if (it.unfinished !== undefined) yield it.unfinished
    for (const tables of [...it.snapshots, it]) yield* tables.stuck
    for (const run of it.runs.values()) {
      if (!["completed", "failed", "cancelled"].includes(run.status))
        yield `${nameOf(run)} is ${run.status} at the end`
    }
  }
} satisfies Record<string, (it: Case) => Complaints>

/** The names of all laws. */
export const lawNames: ReadonlyArray<string> = Object.keys(laws)

const allExecutionsOf = (it: Case, run: string): ReadonlyArray<Execution> =>
  Array.from(it.executions.get(run)?.values() ?? []).flat()

/** Each execution with the next one of the same step. */
const pairs = (it: Case): ReadonlyArray<readonly [Execution, Execution]> =>
  Array.from(it.executions.values()).flatMap((byKey) =>
    Array.from(byKey.values()).flatMap((executions) =>
      executions.slice(1).map((next, i) => [executions[i]!, next] as const)
    )
  )

interface Thrown {
  readonly run: string
  readonly attempt: number
  readonly at: number
  readonly life: number
}

/** The errors outside of steps. */
const thrown = (it: Case): ReadonlyArray<Thrown> => {
  const lives = livesOf(it.lines)
  return it.lines.flatMap((line, i): Array<Thrown> =>
    line.t === "throw" ? [{ run: line.run, attempt: line.attempt, at: line.at, life: lives[i]! }] : []
  )
}
