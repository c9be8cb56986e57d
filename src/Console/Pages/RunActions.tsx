/**
 * The actions that the status of a run allows. Users without the permission see them too: the engine then refuses.
 */
import { useState } from "preact/hooks"
import {
  cancelRun,
  pauseRun,
  restPatchStep,
  restResumeRun,
  retryRun,
  type WireRun,
  type WireStep
} from "../../Protocol/Runs.ts"
import { ask, CallError } from "../Parts/Calls.ts"
import { Diff } from "../Parts/Diff.tsx"
import { Action } from "../Parts/Elements.tsx"
import { refreshAll } from "../Parts/Live.ts"
import { Fork, Move } from "./RunForks.tsx"

const reasonField = (
  <label>
    Reason, which is kept with the run
    <input name="reason" autoComplete="off" />
  </label>
)

const readReason = (entered: FormData): { readonly reason?: string } => {
  const text = String(entered.get("reason") ?? "").trim()
  return text === "" ? {} : { reason: text }
}

/** Waits for the call, requests everything on the page again, and returns the message. */
const callAndRefresh = async (call: Promise<unknown>, text: string): Promise<string> => {
  await call
  refreshAll()
  return text
}

export const RunActions = ({
  run,
  steps
}: {
  readonly run: WireRun
  readonly steps: ReadonlyArray<WireStep>
}) => {
  const status = run.state ?? run.status
  const hasEnded = run.endedAt !== undefined
  const { id } = run
  return (
    <div class="actions" role="group" aria-label="Actions">
      {!hasEnded && status !== "paused" && status !== "compensating" && (
        <Action
          label="Pause"
          confirm="The run pauses before its next step, until somebody resumes it. A step that runs now is not interrupted."
          fields={reasonField}
          act={(entered) =>
            callAndRefresh(
              ask(pauseRun, { body: { id, ...readReason(entered) } }),
              "The run pauses before its next step."
            )
          }
        />
      )}
      {status === "paused" && (
        <Action
          label="Resume"
          act={() => callAndRefresh(ask(restResumeRun, { body: { runId: id } }), "The run continues.")}
        />
      )}
      {(status === "failed" || status === "cancelled") && (
        <Action
          label="Retry"
          confirm="The run is tried again. Finished steps keep their results; if you choose a step, that step and all later ones run again."
          fields={<FromStepChoice steps={steps} />}
          act={(entered) => {
            const fromStep = String(entered.get("fromStep") ?? "")
            return callAndRefresh(
              ask(retryRun, { body: { id, ...(fromStep === "" ? {} : { fromStep }) } }),
              "The run is tried again."
            )
          }}
        />
      )}
      <Fork run={run} steps={steps} />
      {!hasEnded && run.codeVersion !== undefined && <Move run={run} />}
      {!hasEnded && (
        <Action
          label="Cancel"
          isDangerous
          confirm="The run is cancelled, with the runs that it waits for. Compensations do not run. A cancelled run can be retried."
          fields={reasonField}
          act={(entered) =>
            callAndRefresh(ask(cancelRun, { body: { id, ...readReason(entered) } }), "The run is cancelled.")
          }
        />
      )}
    </div>
  )
}

const FromStepChoice = ({ steps }: { readonly steps: ReadonlyArray<WireStep> }) => (
  <label>
    From
    <select name="fromStep">
      <option value="">where it stopped</option>
      {steps
        .filter(({ status }) => status === "completed" || status === "failed")
        .map(({ id, name }) => (
          <option key={id} value={id}>
            {name}
          </option>
        ))}
    </select>
  </label>
)

/** A form that replaces the result of a step. What is entered must be JSON. */
export const PatchStep = ({ step }: { readonly step: WireStep }) => (
  <Action
    label="Patch its value"
    confirm="This value replaces the result of the step, as if its code had returned it. Resume or retry the run afterwards."
    fields={
      <>
        <NewValueField before={JSON.stringify(step.output ?? null, null, 2)} />
        {reasonField}
      </>
    }
    act={(entered) => {
      const output = readJson(String(entered.get("output") ?? ""))
      return callAndRefresh(
        ask(restPatchStep, { body: { stepId: step.id, output, ...readReason(entered) } }),
        "The step has this value now."
      )
    }}
  />
)

/** A field for a new value. Below it are the differences from the old value. */
const NewValueField = ({ before }: { readonly before: string }) => {
  const [after, setAfter] = useState(before)
  return (
    <>
      <label>
        Value, as JSON
        <textarea
          name="output"
          spellcheck={false}
          value={after}
          onInput={(event) => setAfter(event.currentTarget.value)}
        />
      </label>
      <Diff before={before} after={after} />
    </>
  )
}

const readJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new CallError(
      `This is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`,
      400,
      "NOT_JSON"
    )
  }
}
