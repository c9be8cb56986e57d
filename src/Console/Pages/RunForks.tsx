/** Forks a run from its recorded steps, and moves a run to another version of its function. */
import { functionHistory } from "../../Protocol/Functions.ts"
import { forkRun, moveRun } from "../../Protocol/RunForks.ts"
import type { WireRun, WireStep } from "../../Protocol/Runs.ts"
import { ask, CallError } from "../Parts/Calls.ts"
import { Action } from "../Parts/Elements.tsx"
import { Choice, readEntry, Field, readJsonEntry, KeepInitial } from "../Parts/Fields.tsx"
import { refreshAll, useLive } from "../Parts/Live.ts"
import { go, hrefOf } from "../Parts/Router.ts"
import { pathTo } from "../Parts/Rows.tsx"

/** Data with more characters than this cannot be edited: it would freeze a browser. */
const MAX_CHARACTERS = 20_000

const wasRecorded = ({ status }: WireStep): boolean => status === "completed" || status === "failed"

/**
 * Names for the steps. Steps that have the same name also show their position among all steps.
 */
const namesOf = (steps: ReadonlyArray<WireStep>): ReadonlyArray<readonly [id: string, name: string]> =>
  steps.map(({ id, name }, i) => {
    const namesakes = steps.filter((one) => one.name === name)
    return [id, namesakes.length === 1 ? name : `${name} (step ${i + 1})`] as const
  })

export const Fork = ({ run, steps }: { readonly run: WireRun; readonly steps: ReadonlyArray<WireStep> }) => (
  <Action
    label="Fork"
    confirm="A new run takes over the results of the steps before the step that you choose, and continues with the current code. This run stays as it is."
    fields={
      <KeepInitial>
        <Choice
          name="from"
          label="From the step"
          choices={[["", "none: all steps run again"], ...namesOf(steps)]}
        />
        <Field
          name="data"
          label="Data of the event, as JSON"
          lines={5}
          value={textOf(run.input).length > MAX_CHARACTERS ? "" : textOf(run.input)}
          hint="If you leave this unchanged or empty, the new run gets the data of the event."
        />
        <Choice
          name="patched"
          label="Step with another result"
          choices={[["", "none"], ...namesOf(steps.filter(wasRecorded))]}
        />
        <Field
          name="result"
          label="Result of that step, as JSON"
          lines={3}
          placeholder={'{ "receipt": "r-1" }'}
          hint="A copied step gets this result instead of its recorded one. Any other step gets this result without running."
        />
      </KeepInitial>
    }
    act={async (entered) => {
      const fromStepId = readEntry(entered, "from")
      const data = readJsonEntry(entered, "data", "The data")
      const patchedStepId = readEntry(entered, "patched")
      const result = readJsonEntry(entered, "result", "The result")
      if (patchedStepId === undefined && result !== undefined) {
        throw new CallError("Choose the step that gets this result.", 400, "")
      }
      if (patchedStepId !== undefined && result === undefined) {
        throw new CallError("Enter the result of the step. It may be null.", 400, "")
      }
      const isDataChanged = data !== undefined && textOf(data) !== textOf(run.input)
      const fork = await ask(forkRun, {
        variables: { id: run.id },
        body: {
          ...(fromStepId === undefined ? {} : { from: fromStepId }),
          ...(patchedStepId === undefined ? {} : { steps: { [patchedStepId]: result } }),
          ...(isDataChanged ? { data } : {})
        }
      })
      refreshAll()
      go(hrefOf(pathTo("runs", fork.id)))
      return `Run ${fork.id} is a fork of run ${run.id}.`
    }}
  />
)

const textOf = (value: unknown): string => JSON.stringify(value, null, 2) ?? ""

export const Move = ({ run }: { readonly run: WireRun }) => {
  const { id, codeVersion, functionId } = run
  const history = useLive(
    `versions of ${functionId}`,
    async (signal) => {
      const { versions } = await ask(functionHistory, { variables: { id: functionId }, signal })
      return [...new Set(versions.map((one) => one.codeVersion))]
    },
    { once: true }
  )
  // without the history, which a user may not be allowed to read, the run can still be moved to the latest
  // version
  const otherVersions = (history.value ?? []).filter((version) => version !== codeVersion)
  if (history.value === undefined && history.error === undefined) return null
  return (
    <Action
      label="Move"
      confirm={`The run is pinned to version ${codeVersion}. A worker of the version that you choose continues the run. Recorded steps keep their results, and the code of that version must be able to continue from them.`}
      fields={
        <KeepInitial>
          <Choice
            name="version"
            label="To the version"
            choices={[["", "the latest"], ...otherVersions.map((version) => [version, version] as const)]}
          />
        </KeepInitial>
      }
      act={async (entered) => {
        const version = readEntry(entered, "version")
        const moved = await ask(moveRun, {
          variables: { id },
          body: version === undefined ? {} : { version }
        })
        refreshAll()
        const movedTo = moved.codeVersion ?? version
        return `The run continues with ${movedTo === undefined ? "the latest version" : `version ${movedTo}`}.`
      }}
    />
  )
}
