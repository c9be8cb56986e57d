/** The timeline of a run, to scale. It has one line for each step, also for unfinished steps. */
import type { AuditEvent, WireRun, WireStep } from "../../Protocol/Runs.ts"
import { Link, Status } from "../Parts/Elements.tsx"
import { place, type Query } from "../Parts/Router.ts"
import { now } from "../Parts/Clock.ts"
import { duration, exactTime } from "../Parts/Time.tsx"

interface Bar {
  readonly from: number
  readonly to: number
  /** When the wait ends, if that is known and in the future. */
  readonly dueAt: number | undefined
}

const epochMsOf = (time: string | undefined): number | undefined => {
  const ms = time === undefined ? Number.NaN : Date.parse(time)
  return Number.isNaN(ms) ? undefined : ms
}

/** The branches in which a step was called, taken from its id: `both 1`. */
const branchOf = ({ id, name }: WireStep, runId: string): string => {
  const key = id.startsWith(`${runId}:`) ? id.slice(runId.length + 1) : id
  const branches = key.slice(0, Math.max(0, key.lastIndexOf(`:${name}:`)))
  return branches.replace(/:(\d+)(?=:|$)/g, (_, n: string) => ` ${Number(n) + 1}`).replaceAll(":", " / ")
}

/** The query in the address of this page with the step open, or with the step closed if it is open now. */
const stepQuery = (id: string): Query => ({
  ...Object.fromEntries([...place.value.query].map(([name, value]) => [name, value])),
  step: place.value.query.get("step") === id ? undefined : id
})

export const RunTimeline = ({
  audit,
  run,
  steps,
  openStepId
}: {
  readonly run: WireRun
  readonly steps: ReadonlyArray<WireStep>
  readonly audit: ReadonlyArray<AuditEvent>
  readonly openStepId: string | undefined
}) => {
  const createdAt = epochMsOf(run.createdAt) ?? now.value
  const startedAt = epochMsOf(run.startedAt)
  const endedAt = epochMsOf(run.endedAt)
  const bars = steps.map((step): Bar => {
    const from = epochMsOf(step.startedAt) ?? epochMsOf(step.endedAt) ?? endedAt ?? now.value
    const to = epochMsOf(step.endedAt) ?? endedAt ?? now.value
    const dueAt = endedAt === undefined && step.status === "waiting" ? epochMsOf(step.dueAt) : undefined
    return {
      from,
      to: Math.max(from, to),
      dueAt: dueAt !== undefined && dueAt > now.value ? dueAt : undefined
    }
  })
  const end = Math.max(createdAt + 1, endedAt ?? now.value, ...bars.map(({ to }) => to))
  // workers have their own clocks: if a step seems to begin before the run was created, it is drawn as if it began with
  // the run
  const leftOf = (ms: number): string =>
    `${(Math.min(1, Math.max(0, (ms - createdAt) / (end - createdAt))) * 100).toFixed(3)}%`
  const widthOf = (from: number, to: number): string =>
    `${((Math.max(0, to - Math.max(from, createdAt)) / (end - createdAt)) * 100).toFixed(3)}%`
  const retries = audit.filter(({ type }) => type === "step.retrying")
  return (
    <div class="timeline" role="table" aria-label="Timeline">
      <div class="line head" role="row">
        <span role="columnheader">Step</span>
        <span role="columnheader" class="track">
          <span class="ticks" aria-hidden="true">
            {[0, 0.25, 0.5, 0.75].map((fraction) => (
              <span key={fraction} style={{ left: `${fraction * 100}%` }}>
                {fraction === 0 ? "0" : duration((end - createdAt) * fraction)}
              </span>
            ))}
          </span>
          <span class="unseen">When</span>
        </span>
        <span role="columnheader" class="number">
          Took
        </span>
      </div>
      <div class="line" role="row">
        <span role="cell" class="quiet">
          waits for a worker
        </span>
        <span role="cell" class="track" title={`Created ${exactTime(createdAt)}`}>
          <span
            class="bar queue"
            style={{ left: leftOf(createdAt), width: widthOf(createdAt, startedAt ?? end) }}
          />
        </span>
        <span role="cell" class="number">
          {duration((startedAt ?? end) - createdAt)}
        </span>
      </div>
      {steps.map((step, i) => {
        const bar = bars[i]!
        const branch = branchOf(step, run.id)
        const description = `${step.name}: ${step.kind}, ${step.status}, from ${exactTime(bar.from)}`
        return (
          <div class={`line ${step.id === openStepId ? "open" : ""}`} role="row" key={step.id}>
            <span role="cell" class="name">
              <Link
                to={`runs/${encodeURIComponent(run.id)}`}
                query={stepQuery(step.id)}
                title={`${step.kind} ${step.id}`}
              >
                <Status state={step.status}>
                  {branch !== "" && <span class="quiet">{branch} /</span>}
                  <span class="step-name">{step.name}</span>
                </Status>
              </Link>
              {step.kind !== "run" &&
                (step.childRunId === undefined ? (
                  <span class="kind">{step.kind}</span>
                ) : (
                  <Link
                    to={`runs/${encodeURIComponent(step.childRunId)}`}
                    class="kind"
                    title="To the run that the step has invoked"
                  >
                    {step.kind} →
                  </Link>
                ))}
              {step.attempt > 1 && <span class="kind">attempt {step.attempt}</span>}
            </span>
            <span role="cell" class="track" title={description}>
              <span
                class={`bar ${barClassOf(step)}`}
                style={{ left: leftOf(bar.from), width: widthOf(bar.from, bar.to) }}
              />
              {retries
                .filter(({ stepName }) => stepName === step.name)
                .map((retry) => (
                  <span
                    key={retry.at}
                    class="mark"
                    style={{ left: leftOf(Date.parse(retry.at)) }}
                    title={`an attempt failed ${exactTime(Date.parse(retry.at))}`}
                  />
                ))}
              <span class="unseen">{description}</span>
            </span>
            <span role="cell" class="number">
              {duration(bar.to - bar.from)}
              {bar.dueAt !== undefined && <span class="quiet"> of {duration(bar.dueAt - bar.from)}</span>}
            </span>
          </div>
        )
      })}
    </div>
  )
}

const barClassOf = ({ kind, status }: WireStep): string =>
  status === "failed"
    ? "bad"
    : kind === "compensate"
      ? "back"
      : kind === "sleep" || kind === "waitForEvent"
        ? "idle"
        : status === "completed"
          ? "done"
          : "busy"
