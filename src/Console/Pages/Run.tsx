/** One run: why it is in its state, what it did when, and with which values. */
import type { ComponentChildren } from "preact"
import { useRef, useState } from "preact/hooks"
import { getEvent } from "../../Protocol/Events.ts"
import {
  explainRun,
  getRun,
  getRunSteps,
  runAudit,
  runLogs,
  type WireRun,
  type WireStep
} from "../../Protocol/Runs.ts"
import { ask, CallError } from "../Parts/Calls.ts"
import {
  bytes,
  Copy,
  Dialog,
  Empty,
  Failure,
  Link,
  Loading,
  Collapsible,
  Status,
  Value
} from "../Parts/Elements.tsx"
import { ErrorView } from "../Parts/ErrorView.tsx"
import { useLive } from "../Parts/Live.ts"
import { place, setQuery, type Variables } from "../Parts/Router.ts"
import { command } from "../Parts/ShellCommand.ts"
import { duration, Time, localizeTimes } from "../Parts/Time.tsx"
import { PatchStep, RunActions } from "./RunActions.tsx"
import { testOf } from "./RunTest.ts"
import { RunTimeline } from "./RunTimeline.tsx"

/** How often a run that has ended is requested: it only changes when a user acts on it. */
const ENDED_MS = 10_000
/** How often the explanation, audit and logs of an unfinished run are requested. */
const DETAILS_MS = 2000
/** Why a run is in its current state. */
interface Explanation {
  readonly code: string
  readonly message: string
  readonly details: { readonly [name: string]: unknown }
}

/** Maximum number of steps that are shown: many thousands would freeze a browser. */
const MAX_STEPS = 500

export const Run = ({ variables }: { readonly variables: Variables }) => {
  const id = variables["id"] ?? ""
  const [hasEnded, setEnded] = useState(false)
  const detailsInterval = { everyMs: hasEnded ? ENDED_MS : DETAILS_MS }
  const lastExplanation = useRef<
    { readonly state: string; readonly at: number; readonly why: Explanation } | undefined
  >(undefined)
  const live = useLive(
    `run ${id}`,
    async (signal) => {
      // the run is read after its steps, so that the steps are complete if the run has ended
      const { steps } = await ask(getRunSteps, { body: { id }, signal })
      const run = await ask(getRun, { body: { id }, signal })
      // While the state stays the same, the explanation is requested less often. It may still change, for example
      // while the run waits for a worker.
      const state = `${run.id} ${run.state ?? run.status}`
      const last = lastExplanation.current
      if (last?.state !== state || performance.now() - last.at > DETAILS_MS - 500) {
        const why = await ask(explainRun, { variables: { id }, signal })
        lastExplanation.current = { state, at: performance.now(), why }
      }
      setEnded(run.endedAt !== undefined)
      return { run, steps, why: lastExplanation.current!.why }
    },
    hasEnded ? { everyMs: ENDED_MS } : {}
  )
  const audit = useLive(
    `audit ${id}`,
    (signal) =>
      ask(runAudit, { variables: { id }, query: { limit: 1000 }, signal }).then(({ events }) => events),
    detailsInterval
  )
  if (live.value === undefined) {
    return live.error === undefined ? <Loading /> : <Failure error={live.error} retry={live.refresh} />
  }
  const { run, steps, why } = live.value
  const openStepId = place.value.query.get("step") ?? undefined
  const step = steps.find((one) => one.id === openStepId)
  const events = audit.value ?? []
  return (
    <>
      <div class="title">
        <h1>
          <Link to={`functions/${encodeURIComponent(run.functionId)}`}>{run.functionId}</Link>{" "}
          <Status state={run.state ?? run.status} />
        </h1>
        <span class="mono quiet">
          {id} <Copy text={id} />
        </span>
      </div>
      {live.error !== undefined && <Failure error={live.error} retry={live.refresh} />}
      <p class="why">
        <Collapsible text={localizeTimes(reasonText(why))} />
      </p>
      <WhyDetails details={why.details} />
      {run.error !== undefined && <ErrorView error={run.error} />}
      <RunActions run={run} steps={steps} />
      <Facts run={run} />

      <h2>Timeline</h2>
      {steps.length === 0 && run.startedAt === undefined ? (
        <Empty>No worker has begun the run yet.</Empty>
      ) : (
        <RunTimeline run={run} steps={steps.slice(0, MAX_STEPS)} audit={events} openStepId={openStepId} />
      )}
      {steps.length > MAX_STEPS && (
        <p class="quiet">
          The first {MAX_STEPS} of {steps.length} steps. All of them:{" "}
          <code>{command("runs", "steps", id)}</code>
        </p>
      )}
      {step !== undefined && <StepDetails step={step} />}

      <Values run={run} />
      <Logs id={id} everyMs={detailsInterval.everyMs} step={step?.name} />

      <h2>Audit</h2>
      {audit.error !== undefined && <Failure error={audit.error} retry={audit.refresh} />}
      {audit.value !== undefined && events.length === 0 && (
        <Empty>
          Nothing was recorded. A function with <code>recording: true</code> keeps what happened to its runs.
        </Empty>
      )}
      {events.length > 0 && (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th>When</th>
                <th>What</th>
                <th>Step</th>
                <th>Details</th>
              </tr>
            </thead>
            <tbody>
              {events.map(({ at, details, stepName, type }, i) => (
                <tr key={i}>
                  <td>
                    <Time at={at} exactly />
                  </td>
                  <td>{type}</td>
                  <td>{stepName}</td>
                  <td>
                    {Object.keys(details).length > 0 && (
                      <details>
                        <summary>{bytes(JSON.stringify(details).length)}</summary>
                        <Value value={details} name={`Details of ${type}`} />
                      </details>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}

      <h2>Take it elsewhere</h2>
      <div class="actions">
        <Copy text={command("runs", "why", id)} label="Copy as CLI" />
        <RunAsTest run={run} steps={steps} />
        <Copy text={() => JSON.stringify({ run, steps }, null, 2)} label="Copy as JSON" />
      </div>
      <details>
        <summary>As JSON</summary>
        <Value value={run} name="The run" />
        <Value value={steps} name="The steps of the run" />
      </details>
    </>
  )
}

/**
 * The message of the explanation, without what only helps outside of the console: the code of a pause, and the names of
 * the calls `resumeRun`, `moveRun` and `resumeFunction`.
 */
const reasonText = ({ code, message }: Explanation): string =>
  code === "PAUSED"
    ? message.replace(/^It is paused \(\w+\): /, "It is paused: ").replace(" Resume it with resumeRun.", "")
    : message.replace(/ with (moveRun|resumeFunction)\b/, "")

/** The details of the explanation, with links to what they name. */
const WhyDetails = ({ details }: { readonly details: { readonly [name: string]: unknown } }) => {
  const childRunId = details["childRunId"]
  const facts = Object.entries(details).filter(([, value]) => value !== undefined && value !== null)
  if (facts.length === 0) return null
  return (
    <>
      {typeof childRunId === "string" && (
        <p>
          <Link to={`runs/${encodeURIComponent(childRunId)}`}>To the run that this run waits for</Link>
        </p>
      )}
      <details>
        <summary>The facts behind this explanation</summary>
        <Value value={details} name="The facts behind this explanation" />
      </details>
    </>
  )
}

const Facts = ({ run }: { readonly run: WireRun }) => {
  const parentRunId = run.parentRunId ?? run.invokedBy
  const facts: ReadonlyArray<readonly [string, ComponentChildren]> = [
    ["Created", <Time at={run.createdAt} />],
    ["Started", <Time at={run.startedAt} />],
    ...(run.endedAt === undefined ? [] : ([["Ended", <Time at={run.endedAt} />]] as const)),
    ...(run.startedAt !== undefined && run.endedAt !== undefined
      ? ([["Took", duration(Date.parse(run.endedAt) - Date.parse(run.startedAt))]] as const)
      : []),
    ["Attempt", `${run.attempt} of ${run.maxAttempts}`],
    // a run that was invoked has the id of an event that does not exist
    ...(parentRunId === undefined
      ? ([["Event", <Link to={`events/${encodeURIComponent(run.eventId)}`}>{run.eventId}</Link>]] as const)
      : []),
    ...(parentRunId === undefined
      ? []
      : ([
          ["Invoked by", <Link to={`runs/${encodeURIComponent(parentRunId)}`}>{parentRunId}</Link>]
        ] as const)),
    ...(run.traceId === undefined
      ? []
      : ([
          [
            "Trace",
            <>
              <span class="mono">{run.traceId}</span> <Copy text={run.traceId} />
            </>
          ]
        ] as const)),
    ...(run.forkedFrom === undefined
      ? []
      : ([
          ["Forked from", <Link to={`runs/${encodeURIComponent(run.forkedFrom)}`}>{run.forkedFrom}</Link>]
        ] as const)),
    ...(run.codeVersion === undefined
      ? []
      : ([["Pinned to version", <span class="mono">{run.codeVersion}</span>]] as const)),
    ...(run.workerId === undefined ? [] : ([["Worker", run.workerId]] as const)),
    ...(run.actorId === undefined ? [] : ([["Actor", run.actorId]] as const))
  ]
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  )
}

const StepDetails = ({ step }: { readonly step: WireStep }) => (
  <section class="details" aria-label={`Step ${step.name}`}>
    <h3>
      {step.name} <Status state={step.status} />
    </h3>
    <dl class="facts">
      {(
        [
          ["Kind", step.kind],
          ["Attempt", String(step.attempt)],
          ["Started", <Time at={step.startedAt} exactly />],
          ["Ended", <Time at={step.endedAt} exactly />],
          ...(step.dueAt === undefined ? [] : [["Due", <Time at={step.dueAt} exactly />] as const]),
          ...(step.workerId === undefined ? [] : [["Worker", step.workerId] as const]),
          ...(step.childRunId === undefined
            ? []
            : [
                [
                  "Has invoked",
                  <Link to={`runs/${encodeURIComponent(step.childRunId)}`}>{step.childRunId}</Link>
                ] as const
              ]),
          ...(step.progress === undefined
            ? []
            : [
                [
                  "Progress",
                  `${step.progress.fraction === undefined ? "" : `${Math.round(step.progress.fraction * 100)} % `}${step.progress.text ?? ""}`
                ] as const
              ])
        ] as ReadonlyArray<readonly [string, ComponentChildren]>
      ).map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
    {step.error !== undefined && <ErrorView error={step.error} />}
    {step.status === "completed" && <Value value={step.output} name={`Value of ${step.name}`} />}
    <div class="actions">
      {(step.status === "completed" || step.status === "failed") && <PatchStep step={step} />}
      <button type="button" onClick={() => setQuery({ step: undefined })}>
        Close
      </button>
    </div>
  </section>
)

const Values = ({ run }: { readonly run: WireRun }) => (
  <div class="two">
    <section aria-label="Input">
      <h2>Input</h2>
      <Value value={run.input} name="Input" />
    </section>
    <section aria-label="Output">
      <h2>Output</h2>
      <Value value={run.output} name="Output" />
    </section>
  </div>
)

const Logs = ({
  everyMs,
  id,
  step
}: {
  readonly id: string
  readonly everyMs: number
  readonly step: string | undefined
}) => {
  const live = useLive(
    `logs ${id}`,
    (signal) => ask(runLogs, { variables: { id }, query: { limit: 500 }, signal }).then(({ lines }) => lines),
    { everyMs }
  )
  const lines = (live.value ?? []).filter((line) => step === undefined || line.step === step)
  return (
    <>
      <h2>Logs{step === undefined ? "" : ` of step ${step}`}</h2>
      {live.error !== undefined && <Failure error={live.error} retry={live.refresh} />}
      {live.value !== undefined && lines.length === 0 && (
        <Empty>
          The code of the run has logged nothing{step === undefined ? "" : " in this step"}.{" "}
          <code>logger.info("…")</code> in a handler shows here.
        </Empty>
      )}
      {lines.length > 0 && (
        <ol class="logs" tabIndex={0} aria-label="Lines">
          {lines.map(({ at, data, level, message, number, step: stepName }) => (
            <li key={number} class={level}>
              <Time at={at} exactly /> <span class="level">{level}</span>{" "}
              {stepName !== undefined && <span class="quiet">{stepName}</span>} {message}
              {data !== undefined && (
                <span class="quiet mono">
                  {" "}
                  {typeof data === "object" ? JSON.stringify(data).slice(0, 2000) : String(data)}
                </span>
              )}
            </li>
          ))}
        </ol>
      )}
    </>
  )
}

/**
 * A test that repeats the run. The event of the run is only requested when the user wants the test. For a user who may
 * not see the event, the test has the input of the run instead.
 */
const RunAsTest = ({ run, steps }: { readonly run: WireRun; readonly steps: ReadonlyArray<WireStep> }) => {
  const [test, setTest] = useState<string | undefined>(undefined)
  const makeTest = async (): Promise<void> => {
    const event = await ask(getEvent, { body: { id: run.eventId } }).catch((cause: unknown) => {
      if (cause instanceof CallError) return undefined
      throw cause
    })
    setTest(testOf(run, steps, event))
  }
  return (
    <>
      <button type="button" class="small" onClick={() => void makeTest()}>
        Copy as test
      </button>
      {test !== undefined && (
        <Dialog title="A test that repeats this run" onClose={() => setTest(undefined)}>
          <p class="quiet">
            The recorded results replace the code of the steps. Change the import so that it names the file of
            your function.
          </p>
          <Value value={test} name="The test" />
          <div class="actions">
            <button type="button" onClick={() => setTest(undefined)}>
              Close
            </button>
          </div>
        </Dialog>
      )}
    </>
  )
}
