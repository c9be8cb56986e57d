/** Tests of the judge of storms: it accepts a sound storm, and finds each fault that is put into its evidence. */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import type { Line } from "../SideLog.ts"
import { judgeStorm, stormLaws } from "./Judge.ts"
import { withStrikes } from "./Plan.ts"
import { runStorm, type StormEvidence } from "./Storm.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-judge-"))
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

type Begin = Extract<Line, { t: "begin" }>

let sound: StormEvidence
beforeAll(async () => {
  const storm = path.join(folder, "storm")
  fs.mkdirSync(storm)
  const plan = withStrikes(
    "channel",
    "random",
    [{ fault: "worker-sigkill" }, { fault: "engine-freeze", ms: 200 }],
    { seed: 1, leaseMs: 5000, size: 10 }
  )
  const pages = [1, 2, 3].map((n) => ({
    op: "emit" as const,
    key: `pages.requested/same/${n}`,
    name: "pages.requested",
    data: { printer: "p-same", pages: 1, pause: 5, work: 5 }
  }))
  sound = await runStorm(
    { ...plan, shares: plan.shares.map((share, nth) => (nth === 2 ? [...share, ...pages] : share)) },
    { folder: storm, cache: process.env.NODE_COMPILE_CACHE ?? path.join(folder, "cache"), settleMs: 60_000 }
  )
}, 120_000)

const begins = (evidence: StormEvidence): ReadonlyArray<Begin> =>
  evidence.lines.filter((line): line is Begin => line.t === "begin")
const endOf = (evidence: StormEvidence, { token }: Begin): Line | undefined =>
  evidence.lines.find((line) => line.t !== "begin" && "token" in line && line.token === token)

/** A body that a kill of its process cut off. */
const killed = (evidence: StormEvidence): Begin => {
  const { at, target } = evidence.strikes[0]!
  const found = begins(evidence).find(
    (begin) =>
      !["print-pages", "collect-payment"].includes(begin.fn) &&
      begin.by === target &&
      begin.mono < at &&
      endOf(evidence, begin) === undefined
  )
  if (found === undefined) return assert.fail("nothing ran in the process that was killed")
  return found
}

/** The beginning and end of a body that ran for a while after the last strike, in a run that nobody cancelled. */
const undisturbed = (evidence: StormEvidence): { readonly begin: Begin; readonly end: Line } => {
  const { until } = evidence.strikes.at(-1)!
  for (const begin of begins(evidence)) {
    if (evidence.acks.some((ack) => ack.op === "cancel" && begin.run in ack.statuses)) continue
    const end = endOf(evidence, begin)
    if (begin.mono > until && end?.t === "end" && end.mono - begin.mono > 30) return { begin, end }
  }
  return assert.fail("nothing ran after the storm")
}

/** Adds an execution of the same body in another process, which begins at `from` and takes `ms`. */
const addExecution = (evidence: StormEvidence, begin: Begin, from: number, ms: number): StormEvidence => {
  const by = begin.by === "survivor.0" ? "victim.1" : "survivor.0"
  const copy = { ...begin, by, mono: from, token: "once-more" }
  const i = evidence.lines.indexOf(begin)
  const lines = evidence.lines.toSpliced(i, 0, copy, { ...copy, t: "end", mono: from + ms })
  return { ...evidence, lines }
}

const removeLines = (evidence: StormEvidence, gone: (line: Line) => boolean): StormEvidence => ({
  ...evidence,
  lines: evidence.lines.filter((line) => !gone(line))
})

const cases: ReadonlyArray<
  readonly [what: string, law: string, forge: (evidence: StormEvidence) => StormEvidence]
> = [
  [
    "a body that ran again without a strike",
    "a body runs again only for a reason",
    (evidence) => {
      const { begin } = undisturbed(evidence)
      return { ...addExecution(evidence, begin, begin.mono - 5, 2), strikes: [] }
    }
  ],
  [
    "two bodies of a step at once",
    "one body of a step runs at a time",
    (evidence) => {
      const { begin } = undisturbed(evidence)
      return addExecution(evidence, begin, begin.mono + 1, 1)
    }
  ],
  [
    "a body that began elsewhere before its process was killed",
    "one body of a step runs at a time",
    (evidence) => {
      const begin = killed(evidence)
      return addExecution(evidence, begin, evidence.strikes[0]!.at - 1, 5)
    }
  ],
  [
    "a run that nobody took over",
    "others take over in time",
    (evidence) => {
      const { run } = killed(evidence)
      return removeLines(evidence, (line) => {
        return "run" in line && line.run === run && line.mono > evidence.strikes[0]!.at
      })
    }
  ],
  [
    "a run that was taken over late",
    "others take over in time",
    (evidence) => {
      const { run } = killed(evidence)
      const { at } = evidence.strikes[0]!
      const lines = evidence.lines.map((line) =>
        "run" in line && line.run === run && line.mono > at ? { ...line, mono: line.mono + 6001 } : line
      )
      return { ...evidence, lines }
    }
  ],
  [
    "a body that was aborted by a short absence",
    "a short absence aborts nothing",
    (evidence) => {
      const { begin, end } = undisturbed(evidence)
      const at = (begin.mono + end.mono) / 2
      const [kill, freeze] = evidence.strikes
      const lines = evidence.lines.map((line) => (line === end ? ({ ...end, t: "abort" } as Line) : line))
      return { ...evidence, lines, strikes: [kill!, { ...freeze!, at, until: at + 200 }] }
    }
  ],
  [
    "runs that have not ended",
    "every run ends in time",
    (evidence) => ({ ...evidence, settledAfter: undefined, waiting: ["run_1 (RUNNING)"] })
  ],
  [
    "an engine that refuses",
    "the engine accepts every request",
    (evidence) => ({ ...evidence, refusals: ["ValidationError: no"] })
  ],
  [
    "a worker that does not answer its bell",
    "every worker answers its bell",
    (evidence) => ({ ...evidence, deaf: ["victim"] })
  ],
  [
    "a gauge that misses stuck runs",
    "the gauge of stuck runs is right",
    (evidence) => ({ ...evidence, settledAfter: undefined, waiting: ["run_1 (RUNNING)"], stuckGauge: 0 })
  ],
  [
    "a gauge that counts runs that are not stuck",
    "the gauge of stuck runs is right",
    (evidence) => ({ ...evidence, stuckGauge: 1 })
  ],
  [
    "an engine that does not answer",
    "the gauge of stuck runs is right",
    (evidence) => ({ ...evidence, stuckGauge: undefined })
  ],
  ["a lease that remains", "no lease is left", (evidence) => ({ ...evidence, leases: ["run_1"] })],
  [
    "a process that died by itself",
    "no process ends by itself",
    (evidence) => ({
      ...evidence,
      processes: evidence.processes.map((process) => ({ ...process, faults: ["it ended by itself with 1"] }))
    })
  ],
  [
    "three executions where the limit is two",
    "a concurrency limit holds over all workers",
    (evidence) => {
      const runs = new Set(
        evidence.acks.flatMap((ack) =>
          ack.op === "emit" && ack.key.startsWith("pages.requested/same") ? ack.runIds : []
        )
      )
      const pages = begins(evidence).filter(({ run }) => runs.has(run))
      const from = evidence.lines.at(-1)!.mono + 10
      const crowd = pages.flatMap((begin): ReadonlyArray<Line> => {
        const copy = { ...begin, token: `crowd ${begin.run}`, mono: from }
        return [copy, { ...copy, t: "end", mono: from + 5 }]
      })
      return { ...evidence, lines: [...evidence.lines, ...crowd] }
    }
  ],
  [
    "strikes that hit no running body",
    "strikes hit runs inside steps",
    (evidence) => ({ ...evidence, strikes: evidence.strikes.map((struck) => ({ ...struck, hit: false })) })
  ]
]

describe("the judge of storms", () => {
  it("accepts a sound history", () => {
    const { figures, violations } = judgeStorm(sound)
    assert.deepStrictEqual(violations, [])
    assert.isAbove(figures.takeovers.length, 0)
    assert.strictEqual(figures.hits, 2)
    assert.strictEqual(figures.workerKills, 1)
    assert.strictEqual(figures.maxOverlap, 0)
  })

  for (const [what, law, forge] of cases) {
    it(`finds ${what}`, () => {
      const { violations } = judgeStorm(forge(sound))
      assert.include(
        violations.map((violation) => violation.law),
        law
      )
    })
  }

  it("is tested with a violation of every law", () => {
    assert.deepStrictEqual(new Set(cases.map(([, law]) => law)), new Set(stormLaws))
  })

  it("excuses a body whose process was frozen while another one ran", () => {
    const { begin, end } = undisturbed(sound)
    const frozen = sound.processes.map((process) =>
      process.by === begin.by ? { ...process, frozen: [{ at: begin.mono + 0.5, until: end.mono }] } : process
    )
    const { figures } = judgeStorm({ ...addExecution(sound, begin, begin.mono + 1, 1), processes: frozen })
    assert.strictEqual(figures.maxOverlap, 0)
  })

  it("excuses a handler that throws when its process wakes up and others have the run", () => {
    const thrown = sound.lines.findLast((line) => line.t === "throw")
    if (thrown?.t !== "throw") return assert.fail("no handler threw")
    const laterThrow = { ...thrown, attempt: 0, mono: thrown.mono + 1 }
    const lines = sound.lines.flatMap((line) => (line === thrown ? [line, laterThrow] : [line]))
    assert.include(
      judgeStorm({ ...sound, lines }).violations.map(({ law }) => law),
      "attempts count failures and nothing else"
    )
    const processes = sound.processes.map((process) =>
      process.by === laterThrow.by
        ? {
            ...process,
            frozen: [{ at: laterThrow.mono - sound.plan.leaseMs - 1, until: laterThrow.mono - 0.1 }]
          }
        : process
    )
    assert.notInclude(
      judgeStorm({ ...sound, lines, processes }).violations.map(({ law }) => law),
      "attempts count failures and nothing else"
    )
  })
})
