/**
 * The judge of a storm. It applies the laws of the shop's checker that hold where several processes work at once, and
 * laws for storms, about liveness as well as safety. It shares no code with the engine.
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
  /** Strikes at a time when bodies were running. */
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

/** How soon after a kill others have to take over, since the connection closes at once. In milliseconds. */
const KILL_BOUND_MS = 6000
/** How long a process may take to notice that it was frozen, milliseconds. */
const THAW_MS = 500
/** A result is reported within this time, milliseconds. */
const REPORTED_MS = 1000
/** How long after a strike and the term of a lease its consequences may appear, milliseconds. */
const AFTERMATH_MS = 10_000

/** Laws that do not hold where several processes work at once; laws below take their place. */
const singleProcessLaws: ReadonlyArray<Law> = [
  "a step runs again only when it has failed or its process died",
  "a concurrency limit is never exceeded"
]

/** Laws of the checker that a storm suspends. */
const suspended = ({ plan }: StormEvidence): ReadonlySet<Law> =>
  new Set([
    ...singleProcessLaws,
    // a wait is shorter when the engine's clock jumps forward
    ...(plan.strikes.some(({ fault }) => fault === "clock") ? (["nothing is early"] as const) : []),
    // without reports (`push-alone`) a turn that breaks off is repeated from its beginning; with them, a report that
    // fails is sent with the response, and a second strike may lose that too
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
      lines: evidence.lines.filter((line) => !isThrownAfterLostLease(line, evidence)),
      acks: evidence.acks,
      snapshots: [],
      kills: 0,
      killsAsPlanned: 0,
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
  const ownViolations = Object.entries(laws).flatMap(([law, complaints]) =>
    // `Object.entries` forgets that the keys are laws
    Array.from(complaints(it), (complaint): StormViolation => ({ law: law as StormLaw, complaint }))
  )
  const count = (isCounted: (strike: Strike) => boolean) =>
    evidence.strikes.filter(({ strike }) => isCounted(strike)).length
  return {
    violations: [...shop.violations, ...ownViolations],
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
  /** Milliseconds after the strike; `undefined` when it did not continue. */
  readonly after: number | undefined
  readonly boundMs: number
}

/** How soon after a strike others have to take over, milliseconds; `undefined` if they need not. */
const takeoverBound = ({ strike }: Struck, plan: StormPlan): number | undefined => {
  if (strike.fault === "worker-sigkill") return KILL_BOUND_MS
  // the response of the app arrives, with all results
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
        by === struck.target &&
        begunMono < struck.at &&
        (end?.mono ?? Number.POSITIVE_INFINITY) > struck.at &&
        !cancelled.has(run) &&
        // another run of its concurrency group may have taken its place
        limits[runs.get(run)?.fn ?? ""] === undefined
    )
    // each run once, even if several of its branches were running
    return Array.from(new Map(held.map((execution) => [execution.run, execution])).values()).flatMap(
      (execution): ReadonlyArray<Takeover> => {
        const all = byRun.get(execution.run) ?? []
        // at a second strike, a process may not yet have aborted a run that others have taken over since the first one
        const isTakenOver = all.some(
          ({ begunMono, by }) =>
            by !== struck.target && begunMono > execution.begunMono && begunMono <= struck.at
        )
        if (isTakenOver) return []
        const boundMs =
          termMs + plan.slackMs + lossDelayMs(all.filter((other) => isLost(other, execution)).length)
        const later = all.filter(({ begunMono }) => begunMono > struck.at)
        const first = later.toSorted((a, b) => a.begunMono - b.begunMono)[0]
        const elsewhere = later
          .filter(({ by }) => by !== struck.target)
          .toSorted((a, b) => a.begunMono - b.begunMono)[0]
        if (elsewhere !== undefined) {
          return [{ struck, execution, after: elsewhere.begunMono - struck.at, boundMs }]
        }
        // a run whose results arrived after all need not continue elsewhere
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

/** Whether `one` executed the same step as `other`, not later, and did not return. */
const isLost = (one: Execution, other: Execution): boolean =>
  one.key === other.key && one.begunMono <= other.begunMono && one.end?.how !== "returned"

/**
 * The longest delay of the engine after it has lost a run for the n-th time in a row: a second, doubled with each
 * further loss, and at most half as much again at random.
 */
const lossDelayMs = (losses: number): number => (losses < 2 ? 0 : 1500 * 2 ** (losses - 2))

const isEnded = ({ status }: RunRow): boolean => ["completed", "failed", "cancelled"].includes(status)

interface Overlap {
  readonly one: Execution
  readonly other: Execution
  readonly ms: number
}

type Span = readonly [from: number, to: number]

/**
 * Whether a handler threw right after its process had been frozen for longer than its lease. Others had the run by
 * then, and may have counted further attempts. The engine refuses the report of this handler, but the side log has its
 * line.
 */
export const isThrownAfterLostLease = (
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

/** When a body really ran: not while its process was frozen, and not after its process ended. */
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
  const byName = new Map(processes.map((process) => [process.by, process]))
  const bySteps = groupBy(executions, ({ key, run }) => `${run} ${key}`)
  const overlaps: Array<Overlap> = []
  for (const ofStep of bySteps.values()) {
    for (const [i, one] of ofStep.entries()) {
      for (const other of ofStep.slice(i + 1)) {
        let ms = 0
        for (const [from, to] of spansOf(one, byName)) {
          for (const [start, end] of spansOf(other, byName)) {
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
const faultOf = ({ strike }: Struck): string => strike.fault

type Complaints = Generator<string, void, undefined>

/** What those laws read that hold for any number of engines. */
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

  /** A request that is repeated often enough succeeds. */
  *"the engine accepts every request"({ evidence }: CommonCase): Complaints {
    yield* evidence.refusals
  },

  /** No worker needs a restart after a storm. */
  *"every worker answers its bell"({ evidence }: CommonCase): Complaints {
    for (const who of evidence.deaf) yield `${who} has not answered its bell after the storm`
  },

  /** G2. */
  *"the gauge of stuck runs is right"({ evidence }: CommonCase): Complaints {
    const { stuckGauge, waiting } = evidence
    if (stuckGauge === undefined) yield "the engine does not say how many runs are stuck"
    else if (waiting.length === 0 && stuckGauge > 0)
      yield `ironflow_runs_stuck is ${stuckGauge}, and every run has ended`
    else if (waiting.length > 0 && stuckGauge === 0)
      yield `ironflow_runs_stuck is 0, and ${waiting.length} runs wait for ever`
  },

  /** A run that has ended or that waits has no lease. */
  *"no lease is left"({ evidence }: CommonCase): Complaints {
    for (const lease of evidence.leases) yield `a lease is left on ${lease}`
  },

  /** A process ends only when it is asked to, and without errors. */
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
  /** A body runs again only if something happened to its execution or to the report of it. */
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
    // the engine cannot know that an app without reports still runs the body
    if (evidence.plan.transport === "push-alone") return
    for (const overlap of overlaps) yield overlapComplaint(overlap)
  },

  /** Runs continue elsewhere within the lease. */
  *"others take over in time"({ takeovers }: Case): Complaints {
    for (const { after, boundMs, execution, struck } of takeovers) {
      if (after === undefined) {
        yield `${execution.run}: ${execution.key} was running in ${struck.target} at its ${faultOf(struck)}, and did not continue elsewhere`
      } else if (after > boundMs) {
        yield `${execution.run}: ${execution.key} was running in ${struck.target} at its ${faultOf(struck)}, and continued ${round(after)} ms later, which should take ${boundMs} ms at most`
      }
    }
  },

  /** An absence is short when the engine or a worker is away for less than half of a lease's term. */
  *"a short absence aborts nothing"({ evidence, executions }: Case): Complaints {
    const { plan, strikes } = evidence
    for (const [nth, struck] of strikes.entries()) {
      const { at, strike, target, until } = struck
      const isAtWorker = strike.fault === "worker-freeze"
      if (!isAtWorker && !["engine-sigterm", "engine-sigkill", "engine-freeze"].includes(strike.fault))
        continue
      // with these transports a turn ends together with its request or its process
      if (isPush(plan.transport) || (plan.transport === "memory" && strike.fault !== "engine-freeze"))
        continue
      if (until - at >= plan.leaseMs / 2) continue
      const next = strikes[nth + 1]?.at ?? Number.POSITIVE_INFINITY
      // an earlier execution may have ended because of the previous strike
      const before = strikes[nth - 1]?.until ?? 0
      for (const execution of executions) {
        const end = execution.end?.mono ?? Number.POSITIVE_INFINITY
        if (execution.begunMono < before || execution.begunMono > at || end < at || end > next) continue
        if (isAtWorker && execution.by !== target) continue
        if (
          execution.end?.how === "aborted" &&
          !evidence.acks.some((ack) => ack.op === "cancel" && execution.run in ack.statuses)
        ) {
          yield `${execution.run}: ${execution.key} was aborted in ${execution.by} after a ${faultOf(struck)} of ${round(until - at)} ms`
        }
      }
    }
  },

  /** A storm whose strikes hit no running body proves nothing. */
  *"strikes hit runs inside steps"({ evidence }: Case): Complaints {
    if (evidence.strikes.every(({ hit }) => !hit)) {
      yield `no strike of ${nameOf({ transport: evidence.plan.transport, fault: evidence.strikes[0]?.strike.fault ?? "cut" })} found a body running`
    }
  }
} satisfies Record<string, (it: Case) => Complaints>

const laws = { ...commonLaws, ...ownLaws }

/** The violations of those laws that hold for any number of engines. */
export const judgeCommonLaws = (it: CommonCase): ReadonlyArray<StormViolation> =>
  Object.entries(commonLaws).flatMap(([law, complaints]) =>
    // `Object.entries` forgets that the keys are laws
    Array.from(complaints(it), (complaint): StormViolation => ({ law: law as StormLaw, complaint }))
  )

/** The laws that only a storm can break. */
export const stormLaws: ReadonlyArray<string> = Object.keys(laws)
