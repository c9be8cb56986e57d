/** Configurations: values that functions read, and that can be changed while the functions run. */
import {
  type ConfigEntry,
  deleteConfig,
  getConfig,
  listConfigs,
  patchConfig,
  setConfig
} from "../../Protocol/Config.ts"
import { ask, CallError, isRecord } from "../Parts/Calls.ts"
import { Action, count, Empty, Failure, Link, Loading, Value } from "../Parts/Elements.tsx"
import { Field, readJsonEntry, readRequiredEntry, KeepInitial } from "../Parts/Fields.tsx"
import { refreshAll, useLive } from "../Parts/Live.ts"
import { go, hrefOf, type Variables } from "../Parts/Router.ts"
import { Facts, Listing, oneLine, pathTo } from "../Parts/Rows.tsx"
import { command } from "../Parts/ShellCommand.ts"
import { Time } from "../Parts/Time.tsx"
import type { Column } from "../Parts/VirtualList.tsx"

const columns: ReadonlyArray<Column<ConfigEntry>> = [
  {
    title: "Configuration",
    width: "minmax(7rem, 1fr)",
    cell: ({ name }) => <Link to={pathTo("configurations", name)}>{name}</Link>
  },
  {
    title: "Data",
    width: "minmax(6rem, 2.5fr)",
    cell: ({ data }) => (
      <span class="mono quiet" title={oneLine(data)}>
        {oneLine(data)}
      </span>
    )
  },
  {
    title: "Revision",
    width: "5rem",
    isExtra: true,
    cell: ({ revision }) => <span class="number">{count(revision)}</span>
  },
  { title: "Changed", width: "6rem", isExtra: true, cell: ({ updatedAt }) => <Time at={updatedAt} /> }
]

const readData = (entered: FormData): { readonly [name: string]: unknown } => {
  const data = readJsonEntry(entered, "data", "The data")
  if (isRecord(data)) return data
  throw new CallError('A configuration is a JSON object, such as { "limit": 3 }.', 400, "")
}

export const Configurations = () => (
  <>
    <div class="title">
      <h1>Configurations</h1>
      <div class="actions">
        <Action
          label="Set a configuration"
          confirm="The configuration is created, or replaced if it exists."
          fields={
            <>
              <Field name="name" label="Name" placeholder="shipping" isRequired />
              <Field name="data" label="Data, as a JSON object" lines={8} placeholder={'{ "limit": 3 }'} />
            </>
          }
          act={async (entered) => {
            const name = readRequiredEntry(entered, "name", "the name of the configuration")
            await ask(setConfig, { variables: { name }, body: readData(entered) })
            refreshAll()
            go(hrefOf(pathTo("configurations", name)))
            return `The configuration ${name} is set.`
          }}
        />
      </div>
    </div>
    <Listing
      label="Configurations"
      live={useLive("configurations", async (signal) => (await ask(listConfigs, { signal })).configs)}
      keyOf={({ name }) => name}
      textOf={({ data, name }) => `${name} ${oneLine(data)}`}
      columns={columns}
      empty={
        <Empty command={command(`config set shipping '{"limit":3}'`)}>
          There are no configurations in this environment yet. To set one:
        </Empty>
      }
    />
  </>
)

export const Configuration = ({ variables: { name = "" } }: { readonly variables: Variables }) => {
  const { error, refresh, value } = useLive(`configuration ${name}`, (signal) =>
    ask(getConfig, { variables: { name }, signal })
  )
  const config = error?.status === 404 ? undefined : value
  return (
    <>
      <div class="title">
        <h1>{name}</h1>
        {config !== undefined && (
          <div class="actions">
            <Action
              label="Change members"
              confirm="Only the members that you write here are replaced. The other members stay, and changes that others make to them meanwhile are not lost."
              fields={
                <Field
                  name="data"
                  label="Members, as a JSON object"
                  lines={6}
                  placeholder={'{ "limit": 3 }'}
                />
              }
              act={async (entered) => {
                await ask(patchConfig, { variables: { name }, body: readData(entered) })
                refreshAll()
                return `The configuration ${name} is changed.`
              }}
            />
            <Action
              label="Replace"
              confirm="The whole configuration is replaced by what you write."
              fields={
                <KeepInitial>
                  <input type="hidden" name="revision" defaultValue={String(config.revision)} />
                  <Field
                    name="data"
                    label="Data, as a JSON object"
                    lines={12}
                    value={JSON.stringify(config.data, null, 2)}
                  />
                </KeepInitial>
              }
              act={async (entered) => {
                const data = readData(entered)
                const now = await ask(getConfig, { variables: { name } })
                if (String(now.revision) !== entered.get("revision")) {
                  throw new CallError(
                    "Somebody has changed the configuration since you opened this dialog. Copy what you have written, close the dialog, and look at the newest data.",
                    412,
                    ""
                  )
                }
                await ask(setConfig, { variables: { name }, body: data })
                refreshAll()
                return `The configuration ${name} is replaced.`
              }}
            />
            <Action
              label="Delete"
              isDangerous
              confirm="The configuration is deleted. Programs that read it no longer find it."
              act={async () => {
                await ask(deleteConfig, { variables: { name } })
                refreshAll()
                go(hrefOf("configurations"))
                return `The configuration ${name} is deleted.`
              }}
            />
          </div>
        )}
      </div>
      {error !== undefined && <Failure error={error} retry={refresh} />}
      {config === undefined ? (
        error === undefined && <Loading />
      ) : (
        <>
          <Facts
            facts={[
              ["Revision", count(config.revision)],
              ["Changed", <Time at={config.updatedAt} />]
            ]}
          />
          <Value value={config.data} name="Data" />
        </>
      )}
    </>
  )
}
