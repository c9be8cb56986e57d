/** Push endpoints: remote handlers that the engine calls to run functions. */
import {
  listPushEndpoints,
  type PushEndpoint,
  registerPushEndpoint,
  removePushEndpoint
} from "../../Protocol/Push.ts"
import { ask } from "../Parts/Calls.ts"
import { Action, Empty, Failure, Link, Loading, Status } from "../Parts/Elements.tsx"
import { Field, readRequiredEntry } from "../Parts/Fields.tsx"
import { refreshAll, useLive } from "../Parts/Live.ts"
import { pathTo, Table } from "../Parts/Rows.tsx"
import { command } from "../Parts/ShellCommand.ts"
import type { Column } from "../Parts/VirtualList.tsx"

const columns: ReadonlyArray<Column<PushEndpoint>> = [
  {
    title: "State",
    width: "",
    cell: ({ available, problem }) => (
      <>
        <Status state={available ? "up" : "down"}>{available ? "available" : "not available"}</Status>
        {problem !== undefined && <div class="quiet">{problem}</div>}
      </>
    )
  },
  { title: "Endpoint", width: "", cell: ({ url }) => <span class="mono">{url}</span> },
  {
    title: "Functions",
    width: "",
    isExtra: true,
    cell: ({ functionIds }) =>
      functionIds.map((id, i) => (
        <span key={id}>
          {i > 0 && ", "}
          <Link to={pathTo("functions", id)}>{id}</Link>
        </span>
      ))
  },
  {
    title: "Remove",
    width: "",
    cell: ({ url }) => (
      <Action
        label="Remove"
        isSmall
        isDangerous
        confirm={`The engine stops calling ${url}. The functions of this endpoint stay registered, and their runs wait until a worker or another endpoint registers these functions.`}
        act={async () => {
          await ask(removePushEndpoint, { query: { url } })
          refreshAll()
          return `The engine no longer calls ${url}.`
        }}
      />
    )
  }
]

export const PushEndpoints = () => {
  const { error, refresh, value } = useLive(
    "push endpoints",
    async (signal) => (await ask(listPushEndpoints, { signal })).endpoints
  )
  return (
    <>
      <div class="title">
        <h1>Push endpoints</h1>
        <div class="actions">
          <Action
            label="Register an endpoint"
            confirm="The engine asks the handler at this address which functions it has. From then on the engine calls the handler to run these functions, and signs each call with its signing key."
            fields={
              <Field
                name="url"
                label="Address"
                placeholder="https://shop.example.com/api/ironflow"
                isRequired
              />
            }
            act={async (entered) => {
              const url = readRequiredEntry(entered, "url", "the address of the handler")
              const { functions } = await ask(registerPushEndpoint, { body: { url } })
              refreshAll()
              return functions.length === 0
                ? `The handler at ${url} has no functions.`
                : `Registered: ${functions.map(({ id }) => id).join(", ")}.`
            }}
          />
        </div>
      </div>
      {error !== undefined && <Failure error={error} retry={refresh} />}
      {value === undefined ? (
        error === undefined && <Loading />
      ) : value.length === 0 ? (
        <Empty command={command("functions register https://shop.example.com/api/ironflow")}>
          The engine calls no handler: only workers run functions. To register the handler of an app:
        </Empty>
      ) : (
        <Table label="Push endpoints" items={value} keyOf={({ url }) => url} columns={columns} />
      )}
    </>
  )
}
