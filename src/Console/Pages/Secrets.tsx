/** Secrets: their names, and when each was set. Values can be set but not read. */
import { deleteSecret, listSecrets, type SecretInfo, setSecret } from "../../Protocol/Secrets.ts"
import { ask, CallError } from "../Parts/Calls.ts"
import { Action, Empty } from "../Parts/Elements.tsx"
import { Field, readRequiredEntry } from "../Parts/Fields.tsx"
import { refreshAll, useLive } from "../Parts/Live.ts"
import { askAll } from "../Parts/CompleteList.ts"
import { Listing } from "../Parts/Rows.tsx"
import { command } from "../Parts/ShellCommand.ts"
import { Time } from "../Parts/Time.tsx"
import type { Column } from "../Parts/VirtualList.tsx"

const SetSecret = ({ name }: { readonly name?: string }) => (
  <Action
    label={name === undefined ? "Set a secret" : "Replace"}
    isSmall={name !== undefined}
    confirm={
      name === undefined
        ? "The value is stored encrypted. Functions that name the secret get its value, and nobody can read the value here."
        : `Functions get the new value of ${name} when a worker executes them the next time. The old value is gone.`
    }
    fields={
      <>
        {name === undefined && <Field name="name" label="Name" placeholder="STRIPE_KEY" isRequired />}
        <Field name="value" label="Value" isSecret isRequired />
      </>
    }
    act={async (entered) => {
      const secretName = name ?? readRequiredEntry(entered, "name", "the name of the secret")
      const value = entered.get("value")
      if (typeof value !== "string" || value === "") throw new CallError("Enter the value.", 400, "")
      await ask(setSecret, { body: { name: secretName, value } })
      refreshAll()
      return `The secret ${secretName} is set.`
    }}
  />
)

const columns: ReadonlyArray<Column<SecretInfo>> = [
  {
    title: "Secret",
    width: "minmax(8rem, 2fr)",
    cell: ({ name }) => (
      <span class="mono" title={name}>
        {name}
      </span>
    )
  },
  { title: "Value set", width: "7rem", isExtra: true, cell: ({ updatedAt }) => <Time at={updatedAt} /> },
  { title: "Created", width: "7rem", isExtra: true, cell: ({ createdAt }) => <Time at={createdAt} /> },
  {
    title: "Change",
    width: "10rem",
    cell: ({ name }) => (
      <>
        <SetSecret name={name} />{" "}
        <Action
          label="Delete"
          isSmall
          isDangerous
          confirm={`The secret ${name} is deleted. Functions that name it fail without it.`}
          act={async () => {
            await ask(deleteSecret, { variables: { name } })
            refreshAll()
            return `The secret ${name} is deleted.`
          }}
        />
      </>
    )
  }
]

export const Secrets = () => (
  <>
    <div class="title">
      <h1>Secrets</h1>
      <div class="actions">
        <SetSecret />
      </div>
    </div>
    <Listing
      label="Secrets"
      live={useLive("secrets", (signal) => askAll(listSecrets, { signal }), { everyMs: 3000 })}
      keyOf={({ name }) => name}
      textOf={({ name }) => name}
      columns={columns}
      empty={
        <Empty command={command("secrets set STRIPE_KEY < key.txt")}>
          There are no secrets in this environment yet. To set one:
        </Empty>
      }
    />
  </>
)
