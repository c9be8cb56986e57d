/**
 * The judge of a storm: the laws of the shop's checker as far as they hold where several processes work at once, and those
 * that only a storm can break, liveness as strictly as safety. It shares no code with the engine.
 */
import type { Line } from "../SideLog.ts"
import { judge, type Law } from "../Checker.ts"
import { limits } from "../Expectations.ts"
import { type Execution, groupBy, readExecutions, readTables, type RunRow } from "../Records.ts"
import type { ProcessRecord } from "./Actor.ts"
import { isPush, nameOf } from "./Cells.ts"
import { type StormPlan, type Strike, takeoverMs } from "./Plan.ts"
import type { StormEvidence, Struck } from "./Storm.ts"

export interface StormViolation {
  readonly law: Law | StormLaw
  readonly complaint: string
}

type StormLaw = keyof typeof laws

export interface StormFigures {
  readonly runs: number
  readonly steps: number
  readonly executions: number
  readonly strikes: number
  /** Strikes that found bodies running. */
  readonly hits: number
  readonly workerKills: number
  readonly engineKills: number
  /** From a strike to the first activity of a run elsewhere, milliseconds, sorted. */
  readonly takeovers: ReadonlyArray<number>
  /** The longest time that two bodies of one step ran at once, milliseconds. */
  readonly maxOverlap: number
  readonly settledAfter: number | undefined
}

export interface StormVerdict {
  readonly violations: ReadonlyArray<StormViolation>
  readonly figures: StormFigures
}

/** A kill shows when the connection closes, milliseconds. */
const KILL_BOUND_MS = 6000
/** How long a process may take to notice that it was frozen, milliseconds. */
const THAW_MS = 500
/** A result that was returned so long before a strike has been reported, milliseconds. */
const REPORTED_MS = 1000
/** So long after a strike and a term its consequences may show, milliseconds. */
const AFTERMATH_MS = 10_000

/** What has no meaning where several processes work at once: see the laws below instead. */
const alone: ReadonlyArray<Law> = [
  "a step runs again only when it has failed or its process died",
  "a concurrency limit is never exceeded"
]

/** Laws of the checker that a storm suspends. */
const suspended = ({ plan }: StormEvidence): ReadonlySet<Law> =>
  new Set([
    ...alone,
    // an engine's hour that is left out is not waited for
    ...(plan.strikes.some(({ fault }) => fault === "clock") ? (["nothing is early"] as const) : []),
    // without reports a turn that breaks off is repeated from its beginning; with them the rest goes with the response when one
    // does not get through, and a second strike may take that away
    ...(plan.transport === "push-alone" || (plan.transport === "push" && plan.strikes.length > 1)
      ? ([
          "a step begins when all that its handler has seen is stored",
          "compensations run once, in reverse order, after the failure"
        ] as const)
      : [])
  ])

interface Case {
  readonly evidence: StormEvidence
  readonly runs: ReadonlyMap<string, RunRow>
  readonly executions: ReadonlyArray<Execution>
  readonly takeovers: ReadonlyArray<Takeover>
  readonly overlaps: ReadonlyArray<Overlap>
  readonly cancelled: ReadonlySet<string>
}

export const judgeStorm = (evidence: StormEvidence): StormVerdict => {
  const { plan } = evidence
  const shop = judge(
    {
      plan: { seed: plan.seed, items: evidence.items, fates: [] },
      database: evidence.database,
      lines: evidence.lines.filter((line) => !isOfALostTurn(line, evidence)),
      acks: evidence.acks,
      snapshots: [],
      kills: 0,
      struck: 0,
      unfinished: undefined
    },
    suspended(evidence)
  )
  const { runs } = readTables(evidence.database)
  const executions = Array.from(readExecutions(evidence.lines).values()).flatMap((byKey) =>
    Array.from(byKey.values()).flat()
  )
  const cancelled = new Set(
    evidence.acks.flatMap((ack) => (ack.op === "cancel" ? Object.keys(ack.statuses) : []))
  )
  const it: Case = {
    evidence,
    runs,
    executions,
    cancelled,
    takeovers: takeoversOf(evidence, executions, runs, cancelled),
    overlaps: overlapsOf(evidence, executions)
  }
  const own = Object.entries(laws).flatMap(([law, complaints]) =>
    // the keys of `laws` are the laws
    Array.from(complaints(it), (complaint): StormViolation => ({ law: law as StormLaw, complaint }))
  )
  const count = (isCounted: (strike: Strike) => boolean) =>
    evidence.strikes.filter(({ strike }) => isCounted(strike)).length
  return {
    violations: [...shop.violations, ...own],
    figures: {
      runs: shop.figures.runs,
      steps: shop.figures.steps,
      executions: executions.length,
      strikes: evidence.strikes.length,
      hits: evidence.strikes.filter(({ hit }) => hit).length,
      workerKills: count(
        (strike) =>
          strike.fault === "worker-sigkill" ||
          (strike.fault === "clock" && strike.isKilled && plan.transport !== "memory")
      ),
      engineKills: count(
        (strike) => strike.fault === "engine-sigkill" || ("isKilled" in strike && strike.isKilled)
      ),
      takeovers: it.takeovers
        .flatMap(({ after }) => (after === undefined ? [] : [after]))
        .toSorted((a, b) => a - b),
      maxOverlap: it.overlaps.reduce((max, { ms }) => Math.max(max, ms), 0),
      settledAfter: evidence.settledAfter
    }
  }
}

/** A run that the victim of a strike was executing, and when it continued elsewhere. */
interface Takeover {
  readonly struck: Struck
  readonly execution: Execution
  /** Milliseconds after the strike; `undefined` when it has not. */
  readonly after: number | undefined
  readonly boundMs: number
}

/** The strikes after which others have to take over, and how soon. */
const takeoverBound = ({ strike }: Struck, plan: StormPlan): number | undefined => {
  if (strike.fault === "worker-sigkill") return KILL_BOUND_MS
  // the answer of an app comes through, and everything with it
  if (isPush(plan.transport) && strike.fault === "half-open" && strike.deaf === "up") return undefined
  return "lasting" in strike && strike.lasting === "until takeover" ? takeoverMs(plan) : undefined
}

const takeoversOf = (
  { plan, strikes }: StormEvidence,
  executions: ReadonlyArray<Execution>,
  runs: ReadonlyMap<string, RunRow>,
  cancelled: ReadonlySet<string>
): ReadonlyArray<Takeover> => {
  const byRun = groupBy(executions, ({ run }) => run)
  return strikes.flatMap((struck) => {
    const termMs = takeoverBound(struck, plan)
    if (termMs === undefined) return []
    const held = executions.filter(
      ({ begunMono, by, end, run }) =>
        by === struck.on &&
        begunMono < struck.at &&
        (end?.mono ?? Number.POSITIVE_INFINITY) > struck.at &&
        !cancelled.has(run) &&
        // room in a group may be somebody else's by then
        limits[runs.get(run)?.fn ?? ""] === undefined
    )
    // a run once, however many of its branches were running
    return Array.from(new Map(held.map((execution) => [execution.run, execution])).values()).flatMap(
      (execution): ReadonlyArray<Takeover> => {
        const all = byRun.get(execution.run) ?? []
        // a process that is struck twice may not have had the time to abort what is not its own any more
        const isTakenOver = all.some(
          ({ begunMono, by }) => by !== struck.on && begunMono > execution.begunMono && begunMono <= struck.at
        )
        if (isTakenOver) return []
        const boundMs =
          termMs + plan.slackMs + lossDelayMs(all.filter((other) => isLost(other, execution)).length)
        const later = all.filter(({ begunMono }) => begunMono > struck.at)
        const first = later.toSorted((a, b) => a.begunMono - b.begunMono)[0]
        const elsewhere = later
          .filter(({ by }) => by !== struck.on)
          .toSorted((a, b) => a.begunMono - b.begunMono)[0]
        if (elsewhere !== undefined) {
          return [{ struck, execution, after: elsewhere.begunMono - struck.at, boundMs }]
        }
        // what got through after all needs nobody else
        const isOver =
          first === undefined &&
          runs.get(execution.run)?.status !== undefined &&
          isEnded(runs.get(execution.run)!)
        const isKilled = struck.strike.fault === "worker-sigkill"
        if (isOver && !isKilled && (execution.end?.mono ?? 0) - struck.at < boundMs) return []
        return [{ struck, execution, after: undefined, boundMs }]
      }
    )
  })
}

/** Whether it was begun for the same step as the other, or is that one, and came to nothing. */
const isLost = (one: Execution, other: Execution): boolean =>
  one.key === other.key && one.begunMono <= other.begunMono && one.end?.how !== "returned"

/** How long the engine waits when a run is lost for the n-th time in a row: a second, doubling, and half as much by chance. */
const lossDelayMs = (losses: number): number => (losses < 2 ? 0 : 1500 * 2 ** (losses - 2))

const isEnded = ({ status }: RunRow): boolean => ["completed", "failed", "cancelled"].includes(status)

interface Overlap {
  readonly one: Execution
  readonly other: Execution
  readonly ms: number
}

type Span = readonly [from: number, to: number]

/**
 * Whether a handler threw when its process woke up from a sleep that was longer than its lease: the run had gone to others,
 * who may have counted further attempts meanwhile. Its report is refused, but it writes down what it has done.
 */
export const isOfALostTurn = (
  line: Line,
  {
    plan,
    processes
  }: { readonly plan: { readonly leaseMs: number }; readonly processes: ReadonlyArray<ProcessRecord> }
): boolean =>
  line.t === "throw" &&
  processes.some(
    ({ by, frozen }) =>
      by === line.by &&
      frozen.some(
        ({ at, until }) => until - at >= plan.leaseMs && line.mono >= until && line.mono < until + THAW_MS
      )
  )

/** When a body really ran: not while its process was frozen, nor after it was dead. */
const spansOf = (
  execution: Execution,
  processes: ReadonlyMap<string, ProcessRecord>
): ReadonlyArray<Span> => {
  const process = execution.by === undefined ? undefined : processes.get(execution.by)
  const end = Math.min(
    execution.end?.mono ?? Number.POSITIVE_INFINITY,
    process?.to ?? Number.POSITIVE_INFINITY
  )
  let spans: ReadonlyArray<Span> = [[execution.begunMono, end]]
  for (const { at, until } of process?.frozen ?? []) {
    spans = spans.flatMap(([from, to]): ReadonlyArray<Span> => {
      if (to <= at || from >= until + THAW_MS) return [[from, to]]
      return [
        ...(from < at ? [[from, at] as const] : []),
        ...(to > until + THAW_MS ? [[until + THAW_MS, to] as const] : [])
      ]
    })
  }
  return spans
}

export const overlapComplaint = ({ ms, one, other }: Overlap): string =>
  `${one.run}: ${one.key} ran in ${one.by} and in ${other.by} at once for ${round(ms)} ms`

export const overlapsOf = (
  { processes }: Pick<StormEvidence, "processes">,
  executions: ReadonlyArray<Execution>
): ReadonlyArray<Overlap> => {
  const named = new Map(processes.map((process) => [process.by, process]))
  const bySteps = groupBy(executions, ({ key, run }) => `${run} ${key}`)
  const overlaps: Array<Overlap> = []
  for (const ofStep of bySteps.values()) {
    for (const [i, one] of ofStep.entries()) {
      for (const other of ofStep.slice(i + 1)) {
        let ms = 0
        for (const [from, to] of spansOf(one, named)) {
          for (const [start, end] of spansOf(other, named)) {
            ms += Math.max(0, Math.min(to, end) - Math.max(from, start))
          }
        }
        if (ms > 0) overlaps.push({ one, other, ms })
      }
    }
  }
  return overlaps
}

const round = (ms: number): number => Math.round(ms)
const what = ({ strike }: Struck): string => strike.fault

type Complaints = Generator<string, void, undefined>

/** What the laws look at that hold for a storm over any number of engines. */
interface CommonCase {
  readonly evidence: Pick<
    StormEvidence,
    "deaf" | "leases" | "processes" | "refusals" | "settledAfter" | "stuckGauge" | "waiting"
  >
  readonly runs: ReadonlyMap<string, RunRow>
  readonly executions: ReadonlyArray<Execution>
}

const commonLaws = {
  /** G2. */
  *"every run ends in time"({ evidence }: CommonCase): Complaints {
    const { settledAfter, waiting } = evidence
    if (settledAfter === undefined) {
      yield `${waiting.length} runs have not ended: ${waiting.join(", ")}`
    }
  },

  /** Whoever asks often enough gets what they ask for. */
  *"the engine takes what it is asked for"({ evidence }: CommonCase): Complaints {
    yield* evidence.refusals
  },

  /** Nothing has to be started again by hand. */
  *"every worker hears"({ evidence }: CommonCase): Complaints {
    for (const who of evidence.deaf) yield `${who} has not answered its bell after the storm`
  },

  /** G2. */
  *"the gauge says what is"({ evidence }: CommonCase): Complaints {
    const { stuckGauge, waiting } = evidence
    if (stuckGauge === undefined) yield "the engine does not say how many runs are stuck"
    else if (waiting.length === 0 && stuckGauge > 0)
      yield `ironflow_runs_stuck is ${stuckGauge}, and every run has ended`
    else if (waiting.length > 0 && stuckGauge === 0)
      yield `ironflow_runs_stuck is 0, and ${waiting.length} runs wait for ever`
  },

  /** A run that has ended, or waits, holds none. */
  *"no lease is left"({ evidence }: CommonCase): Complaints {
    for (const lease of evidence.leases) yield `a lease is left on ${lease}`
  },

  /** A process ends silently on request, and not otherwise. */
  *"no process ends by itself"({ evidence }: CommonCase): Complaints {
    for (const { faults } of evidence.processes) yield* faults
  },

  /** G15. */
  *"a concurrency limit holds over all workers"({ evidence, executions, runs }: CommonCase): Complaints {
    const processes = new Map(evidence.processes.map((process) => [process.by, process]))
    const groups = groupBy(
      executions.flatMap((execution) => {
        const run = runs.get(execution.run)
        const rule = run === undefined ? undefined : limits[run.fn]
        return run === undefined || rule === undefined
          ? []
          : [{ execution, group: `${run.fn} of ${String(run.data[rule.key])}`, limit: rule.limit }]
      }),
      ({ group }) => group
    )
    for (const [group, members] of groups) {
      const spans = members.flatMap(({ execution }) =>
        spansOf(execution, processes).map(([from, to]) => ({ from, to, run: execution.run }))
      )
      const limit = members[0]?.limit ?? 0
      for (const { from } of spans) {
        const busy = new Set(
          spans.filter((span) => span.from <= from && span.to > from).map(({ run }) => run)
        )
        if (busy.size > limit) yield `${busy.size} runs of ${group} were busy at once, the limit is ${limit}`
      }
    }
  }
} satisfies Record<string, (it: CommonCase) => Complaints>

const ownLaws = {
  /** A body runs a second time when something has happened to the first, or to the report of it. */
  *"a body runs again only for a reason"({ evidence, executions }: Case): Complaints {
    const { plan, strikes } = evidence
    for (const ofStep of groupBy(executions, ({ key, run }) => `${run} ${key}`).values()) {
      for (const [i, next] of ofStep.entries()) {
        const before = ofStep[i - 1]
        if (before === undefined || before.attempt !== next.attempt) continue
        const isWithin = (from: number, to: number) =>
          strikes.some(
            ({ at, until }) => at <= to && until + plan.leaseMs + AFTERMATH_MS >= from && at <= next.begunMono
          )
        const end = before.end
        if (end === undefined || end.how === "aborted") {
          if (!isWithin(before.begunMono, next.begunMono)) {
            yield `${next.run}: ${next.key} began again in ${next.by}, and nothing had happened to ${before.by}`
          }
        } else if (!isWithin(end.mono, end.mono + REPORTED_MS)) {
          yield `${next.run}: ${next.key} began again in ${next.by}, though ${before.by} had ${end.how} long before anything happened`
        }
      }
    }
  },

  /** G15. */
  *"one body of a step runs at a time"({ evidence, overlaps }: Case): Complaints {
    // the engine cannot know that an app without reports is still at it
    if (evidence.plan.transport === "push-alone") return
    for (const overlap of overlaps) yield overlapComplaint(overlap)
  },

  /** Runs continue elsewhere within the lease. */
  *"others take over in time"({ takeovers }: Case): Complaints {
    for (const { after, boundMs, execution, struck } of takeovers) {
      if (after === undefined) {
        yield `${execution.run}: ${execution.key} was running in ${struck.on} at its ${what(struck)}, and nobody else has gone on with it`
      } else if (after > boundMs) {
        yield `${execution.run}: ${execution.key} was running in ${struck.on} at its ${what(struck)}, and went on ${round(after)} ms later, which should take ${boundMs} ms at most`
      }
    }
  },

  /** An engine that is away, or a worker that does not get to it, for less than half of the term. */
  *"a short absence aborts nothing"({ evidence, executions }: Case): Complaints {
    const { plan, strikes } = evidence
    for (const [nth, struck] of strikes.entries()) {
      const { at, on, strike, until } = struck
      const isAtWorker = strike.fault === "worker-freeze"
      if (!isAtWorker && !["engine-sigterm", "engine-sigkill", "engine-freeze"].includes(strike.fault))
        continue
      // turns end with a request or with the process
      if (isPush(plan.transport) || (plan.transport === "memory" && strike.fault !== "engine-freeze"))
        continue
      if (until - at >= plan.leaseMs / 2) continue
      const next = strikes[nth + 1]?.at ?? Number.POSITIVE_INFINITY
      // what began before may end for something else
      const before = strikes[nth - 1]?.until ?? 0
      for (const execution of executions) {
        const end = execution.end?.mono ?? Number.POSITIVE_INFINITY
        if (execution.begunMono < before || execution.begunMono > at || end < at || end > next) continue
        if (isAtWorker && execution.by !== on) continue
        if (
          execution.end?.how === "aborted" &&
          !evidence.acks.some((ack) => ack.op === "cancel" && execution.run in ack.statuses)
        ) {
          yield `${execution.run}: ${execution.key} was aborted in ${execution.by} after a ${what(struck)} of ${round(until - at)} ms`
        }
      }
    }
  },

  /** A storm without strikes proves nothing. */
  *"strikes hit runs inside steps"({ evidence }: Case): Complaints {
    if (evidence.strikes.every(({ hit }) => !hit)) {
      yield `no strike of ${nameOf({ transport: evidence.plan.transport, fault: evidence.strikes[0]?.strike.fault ?? "cut" })} found a body running`
    }
  }
} satisfies Record<string, (it: Case) => Complaints>

const laws = { ...commonLaws, ...ownLaws }

/** What the laws say that hold for a storm over any number of engines. */
export const judgeCommonly = (it: CommonCase): ReadonlyArray<StormViolation> =>
  Object.entries(commonLaws).flatMap(([law, complaints]) =>
    // the keys of `commonLaws` are laws
    Array.from(complaints(it), (complaint): StormViolation => ({ law: law as StormLaw, complaint }))
  )

/** The laws that only a storm can break. */
export const stormLaws: ReadonlyArray<string> = Object.keys(laws)
