/** The judge of a storm over several engines: the laws of the shop's checker, those of any storm, and those of engines on Postgres. */
import { judge, type Law } from "../Checker.ts"
import { isThrownAfterLostLease, judgeCommonLaws, overlapComplaint, overlapsOf } from "../matrix/Judge.ts"
import { isPush } from "../matrix/Cells.ts"
import { readExecutions, readTables } from "../Records.ts"
import { complaintsAboutLog } from "./Logs.ts"
import type { NodeStormEvidence, Struck } from "./NodeStorm.ts"

export interface NodeViolation {
  readonly law: string
  readonly complaint: string
}

export interface NodeFigures {
  readonly runs: number
  readonly steps: number
  readonly executions: number
  /** Executions whose result was lost. */
  readonly repeated: number
  readonly strikes: number
  /** Strikes at a time when bodies were running. */
  readonly hits: number
  readonly settledAfter: number | undefined
  /** Errors after which clients have repeated a request. */
  readonly errors: number
  /** Lines of the logs of all engines. */
  readonly logged: number
}

/** Laws that do not hold where several processes work at once. */
const singleProcessLaws: ReadonlySet<Law> = new Set([
  "a step runs again only when it has failed or its process died",
  "a concurrency limit is never exceeded"
])

/**
 * Laws that do not hold for an app whose requests break off: a report that fails is sent with the response, which may
 * be lost as well.
 */
const lawsWithoutApps: ReadonlySet<string> = new Set([
  "a step begins when all that its handler has seen is stored",
  "compensations run once, in reverse order, after the failure"
] satisfies ReadonlyArray<Law>)

/** How long a node may take to notice that it cannot write, or that it can again, milliseconds. */
const NOTICE_MS = 6000

export const judgeNodes = (evidence: NodeStormEvidence) => {
  const { plan, processes, shop, strikes } = evidence
  const verdict = judge(
    { ...shop, lines: shop.lines.filter((line) => !isThrownAfterLostLease(line, { plan, processes })) },
    singleProcessLaws
  )
  const executions = Array.from(readExecutions(shop.lines).values()).flatMap((byKey) =>
    Array.from(byKey.values()).flat()
  )
  const { runs } = readTables(shop.database)
  const apps = plan.transports.flatMap((transport, index) => (isPush(transport) ? [`worker-${index}.`] : []))
  const atApps = new Set(
    executions.flatMap(({ by = "", run }) => (apps.some((app) => by.startsWith(app)) ? [run] : []))
  )
  const isOfApps = ({ complaint, law }: NodeViolation): boolean =>
    lawsWithoutApps.has(law) && Array.from(atApps).some((run) => complaint.includes(run))
  const violations: ReadonlyArray<NodeViolation> = [
    ...verdict.violations.filter((violation) => !isOfApps(violation)),
    ...judgeCommonLaws({ evidence, executions, runs }),
    ...overlapsOf(evidence, executions).map((overlap) => ({
      law: "one body of a step runs at a time",
      complaint: overlapComplaint(overlap)
    })),
    ...Array.from(evidence.errors).flatMap(([what, { count, isFine }]) =>
      isFine ? [] : [{ law: "errors tell clients what they may retry", complaint: `${count} times: ${what}` }]
    ),
    ...Array.from(health(evidence), (complaint) => ({
      law: "a node says whether it can write",
      complaint
    })),
    ...processes.flatMap(({ by, log = "" }) =>
      complaintsAboutLog(by, log).map((complaint) => ({
        law: "a log has neither secrets nor noise",
        complaint
      }))
    )
  ]
  const figures: NodeFigures = {
    runs: verdict.figures.runs,
    steps: verdict.figures.steps,
    executions: verdict.figures.executions,
    repeated: verdict.figures.repeated,
    strikes: strikes.length,
    hits: strikes.filter(({ hit }) => hit).length,
    settledAfter: evidence.settledAfter === undefined ? undefined : Math.round(evidence.settledAfter),
    errors: Array.from(evidence.errors.values()).reduce((sum, { count }) => sum + count, 0),
    logged: processes.reduce((sum, { log = "" }) => sum + log.split("\n").length - 1, 0)
  }
  return { figures, violations }
}

/** The nodes that cannot reach Postgres while a strike lasts. */
const cutOff = ({ strike }: Struck, count: number): ReadonlyArray<number> => {
  const all = Array.from({ length: count }, (_, index) => index)
  if (strike.fault === "restart") return all
  if (strike.fault !== "cut") return []
  return strike.which === "all" ? all : [strike.which]
}

function* health({ probes, strikes }: NodeStormEvidence): Generator<string, void, undefined> {
  for (const struck of strikes) {
    for (const index of cutOff(struck, probes.length)) {
      const during = probes[index]!.filter(({ at }) => at > struck.at + NOTICE_MS && at < struck.until - 500)
      const ready = during.find((one) => one.ready === "ready")
      if (ready !== undefined) {
        yield `node-${index} reported that it is ready ${Math.round(ready.at - struck.at)} ms after a ${struck.strike.fault}, which lasted for ${Math.round(struck.until - struck.at)} ms`
      }
      const healthy = during.find((one) => one.health === "ok")
      if (healthy !== undefined) {
        yield `node-${index} reported that it is healthy ${Math.round(healthy.at - struck.at)} ms after a ${struck.strike.fault}, which lasted for ${Math.round(struck.until - struck.at)} ms`
      }
    }
  }
  for (const [index, all] of probes.entries()) {
    const last = all.at(-1)
    if (last?.ready !== "ready" || last.health !== "ok") {
      yield `node-${index} reports at the end that it is ${last?.ready} and ${last?.health}`
    }
  }
}
