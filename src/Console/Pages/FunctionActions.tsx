/** Actions of a function: pause it, resume it, and run it now. */
import { type FunctionInfo, pauseFunction, resumeFunction, runFunction } from "../../Protocol/Functions.ts"
import { ask } from "../Parts/Calls.ts"
import { Action, Status } from "../Parts/Elements.tsx"
import { readEntry, Field, readJsonEntry } from "../Parts/Fields.tsx"
import { refreshAll } from "../Parts/Live.ts"
import { go, hrefOf } from "../Parts/Router.ts"
import { pathTo } from "../Parts/Rows.tsx"
import { currentUserName } from "../Parts/Session.ts"
import { Time } from "../Parts/Time.tsx"

export const FunctionActions = ({ fn: { id, paused } }: { readonly fn: FunctionInfo }) => (
  <>
    <Action
      label="Run now"
      confirm="Starts one run of this function, without an event."
      fields={
        <Field
          name="data"
          label="Data, as JSON"
          lines={6}
          placeholder={'{ "orderId": "o-1" }'}
          hint="Without data, a function with a schedule gets the data of its schedule, and any other function gets null."
        />
      }
      act={async (entered) => {
        const data = readJsonEntry(entered, "data", "The data")
        const run = await ask(runFunction, {
          variables: { id },
          body: data === undefined ? {} : { data }
        })
        refreshAll()
        go(hrefOf(pathTo("runs", run.id)))
        return `Run ${run.id} of ${id} is started.`
      }}
    />
    {paused === undefined ? (
      <Action
        label="Pause"
        confirm="New runs of this function are stored and wait, and its schedules start nothing. Runs that have begun continue to their end."
        fields={<Field name="reason" label="Reason, which others see" placeholder="the bank is down" />}
        act={async (entered) => {
          const reason = readEntry(entered, "reason")
          await ask(pauseFunction, {
            variables: { id },
            body: { by: currentUserName(), ...(reason === undefined ? {} : { reason }) }
          })
          refreshAll()
          return `${id} is paused: its new runs wait.`
        }}
      />
    ) : (
      <Action
        label="Resume"
        act={async () => {
          await ask(resumeFunction, { variables: { id } })
          refreshAll()
          return `The waiting runs of ${id} can begin.`
        }}
      />
    )}
  </>
)

/** When and by whom the function was paused, and why. */
export const PausedNotice = ({ fn: { paused } }: { readonly fn: FunctionInfo }) =>
  paused === undefined ? null : (
    <p class="why">
      <Status state="paused" /> since <Time at={paused.at} exactly /> by {paused.by}
      {paused.reason === undefined ? "." : `: ${paused.reason}`}{" "}
      <span class="quiet">New runs of this function wait, and its schedules start nothing.</span>
    </p>
  )
