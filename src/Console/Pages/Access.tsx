/** The page of access: API keys, their roles, the policies of the roles, and the log of changes. */
import { useState } from "preact/hooks"
import {
  accessLog,
  type APIKey,
  assignPolicy,
  createApiKey,
  createRole,
  deleteApiKey,
  deleteRole,
  listApiKeys,
  listPolicies,
  listRoles,
  type Policy,
  removePolicy,
  type Role,
  rotateApiKey
} from "../../Protocol/Access.ts"
import { ask } from "../Parts/Calls.ts"
import { Action, Copy, Empty } from "../Parts/Elements.tsx"
import { Choice, readEntry, Field, readRequiredEntry, KeepInitial } from "../Parts/Fields.tsx"
import { type Live, refreshAll, useLive } from "../Parts/Live.ts"
import { askAll } from "../Parts/CompleteList.ts"
import { environment } from "../Parts/Router.ts"
import { Truncated, Listing, oneLine } from "../Parts/Rows.tsx"
import { Time } from "../Parts/Time.tsx"
import { Policies } from "./AccessPolicies.tsx"

/** How often roles and policies are requested, since they rarely change. */
const RARE_REFRESH = { everyMs: 5000 }

export const Access = () => {
  const keys = useLive("api keys", (signal) => askAll(listApiKeys, { signal }), { everyMs: 2000 })
  const roles = useLive("roles", (signal) => askAll(listRoles, { signal }), RARE_REFRESH)
  const policies = useLive("policies", (signal) => askAll(listPolicies, { signal }), RARE_REFRESH)
  return (
    <>
      <h1>Access</h1>
      <Keys keys={keys} roles={roles.value ?? []} />
      <Roles roles={roles} policies={policies.value ?? []} />
      <Policies policies={policies} roles={roles.value ?? []} />
      <Log />
    </>
  )
}

/** An API key that was just created or rotated; its secret is shown once. */
interface NewSecret {
  readonly name: string
  readonly secret: string
}

const nameOf = (all: ReadonlyArray<{ readonly id: string; readonly name: string }>, id: string): string =>
  all.find((one) => one.id === id)?.name ?? id

const Keys = ({
  keys,
  roles
}: {
  readonly keys: Live<ReadonlyArray<APIKey>>
  readonly roles: ReadonlyArray<Role>
}) => {
  const [newSecret, setNewSecret] = useState<NewSecret | undefined>(undefined)
  return (
    <section>
      <div class="title">
        <h2>API keys</h2>
        <div class="actions">
          <Action
            label="Create a key"
            confirm="The key is shown once, after it is created."
            fields={
              <KeepInitial>
                <Field name="name" label="Name" placeholder="payments-worker" isRequired />
                <Choice
                  name="environment"
                  label="Environment"
                  choices={[
                    [environment.peek(), environment.peek()],
                    ["*", "all environments"]
                  ]}
                />
                <fieldset>
                  <legend>Roles</legend>
                  {roles.map(({ id, name }) => (
                    <label key={id} class="check">
                      <input type="checkbox" name="role" value={id} /> {name}
                    </label>
                  ))}
                </fieldset>
                <Field
                  name="expires"
                  label="Expires after"
                  placeholder="90d"
                  hint="If this is empty, the key does not expire."
                />
              </KeepInitial>
            }
            act={async (entered) => {
              const name = readRequiredEntry(entered, "name", "a name that says who has the key")
              const expires = readEntry(entered, "expires")
              const key = await ask(createApiKey, {
                body: {
                  name,
                  env_id: readEntry(entered, "environment"),
                  role_ids: entered.getAll("role").map(String),
                  ...(expires === undefined ? {} : { expires_in: expires })
                }
              })
              setNewSecret({ name, secret: key.secret ?? key.key ?? "" })
              refreshAll()
              return `The key ${name} is created.`
            }}
          />
        </div>
      </div>
      {newSecret !== undefined && (
        <div class="made" role="status">
          <p>
            The secret of the key <strong>{newSecret.name}</strong>. Copy it now, since it is not shown again:
          </p>
          <p>
            <code>{newSecret.secret}</code>
          </p>
          <div class="actions">
            <Copy text={newSecret.secret} />
            <button type="button" class="small" onClick={() => setNewSecret(undefined)}>
              I have it
            </button>
          </div>
        </div>
      )}
      <Listing
        label="API keys"
        name="key"
        live={keys}
        keyOf={({ id }) => id}
        textOf={({ env_id = "", id, key_prefix, name }) => `${name} ${id} ${key_prefix} ${env_id}`}
        columns={[
          {
            title: "Key",
            width: "minmax(6rem, 1.2fr)",
            cell: ({ id, name }) => <Truncated title={`${name} (${id})`}>{name}</Truncated>
          },
          {
            title: "Begins",
            width: "9rem",
            isExtra: true,
            cell: ({ key_prefix }) => <span class="mono">{key_prefix}…</span>
          },
          {
            title: "Environment",
            width: "minmax(5rem, 0.8fr)",
            isExtra: true,
            cell: ({ env_id = "" }) => (
              <Truncated>{env_id === "*" ? "all" : env_id.replace(/^env_/, "")}</Truncated>
            )
          },
          {
            title: "Roles",
            width: "minmax(6rem, 1fr)",
            isExtra: true,
            cell: ({ role_ids = [] }) => (
              <Truncated>
                {role_ids.map((id) => nameOf(roles, id)).join(", ") || "none: the key may do nothing"}
              </Truncated>
            )
          },
          {
            title: "Last used",
            width: "5.5rem",
            isExtra: true,
            cell: ({ last_used_at }) => <Time at={last_used_at} />
          },
          {
            title: "Expires",
            width: "5.5rem",
            isExtra: true,
            cell: ({ expires_at }) => <Time at={expires_at} />
          },
          {
            title: "Change",
            width: "10.5rem",
            cell: ({ id, name }) => (
              <>
                <Action
                  label="Rotate"
                  isSmall
                  confirm={`${name} gets a new secret, which is shown once.`}
                  fields={
                    <Field
                      name="overlap"
                      label="How long the old secret keeps working"
                      placeholder="24h"
                      hint="If this is empty, the old secret stops working at once. If you have signed in with it, sign in again with the new secret."
                    />
                  }
                  act={async (entered) => {
                    const overlap = readEntry(entered, "overlap")
                    const key = await ask(rotateApiKey, {
                      variables: { id },
                      body: overlap === undefined ? {} : { overlap }
                    })
                    setNewSecret({ name, secret: key.secret ?? key.key ?? "" })
                    refreshAll()
                    return `${name} has a new secret.`
                  }}
                />{" "}
                <Action
                  label="Delete"
                  isSmall
                  isDangerous
                  confirm={`The key ${name} stops working at once.`}
                  act={async () => {
                    await ask(deleteApiKey, { variables: { id } })
                    refreshAll()
                    return `${name} is deleted.`
                  }}
                />
              </>
            )
          }
        ]}
        empty={
          <Empty command="npx ironflow apikeys create admin">
            There are no API keys: the engine answers everybody who reaches it. As soon as there is a key,
            every call needs one. To create the first key:
          </Empty>
        }
      />
    </section>
  )
}

const Roles = ({
  policies,
  roles
}: {
  readonly roles: Live<ReadonlyArray<Role>>
  readonly policies: ReadonlyArray<Policy>
}) => (
  <section>
    <div class="title">
      <h2>Roles</h2>
      <div class="actions">
        <Action
          label="Create a role"
          confirm="A role allows nothing until it has policies."
          fields={<Field name="name" label="Name" placeholder="support" isRequired />}
          act={async (entered) => {
            const name = readRequiredEntry(entered, "name", "the name of the role")
            await ask(createRole, { body: { name } })
            refreshAll()
            return `The role ${name} is created.`
          }}
        />
      </div>
    </div>
    <Listing
      label="Roles"
      name="role"
      live={roles}
      keyOf={({ id }) => id}
      textOf={({ id, name }) => `${name} ${id}`}
      columns={[
        {
          title: "Role",
          width: "minmax(6rem, 1fr)",
          cell: ({ id, name }) => <Truncated title={`${name} (${id})`}>{name}</Truncated>
        },
        {
          title: "Policies",
          width: "minmax(6rem, 2fr)",
          isExtra: true,
          cell: ({ policy_ids = [] }) => (
            <Truncated>
              {policy_ids.map((id) => nameOf(policies, id)).join(", ") || "none: the role allows nothing"}
            </Truncated>
          )
        },
        {
          title: "Change",
          width: "10.5rem",
          cell: ({ id, is_default, name, policy_ids = [] }) =>
            is_default ? (
              <span class="quiet">built in</span>
            ) : (
              <>
                <Action
                  label="Policies"
                  isSmall
                  confirm={`The policies that you choose apply at once, to all keys with the role ${name}.`}
                  fields={<PolicyChoice policies={policies} current={policy_ids} />}
                  act={async (entered) => {
                    const chosenPolicyIds = entered.getAll("policy").map(String)
                    for (const policyId of chosenPolicyIds.filter((one) => !policy_ids.includes(one)))
                      await ask(assignPolicy, { variables: { id }, body: { policy_id: policyId } })
                    for (const policyId of policy_ids.filter((one) => !chosenPolicyIds.includes(one)))
                      await ask(removePolicy, { variables: { id, policyId } })
                    refreshAll()
                    return chosenPolicyIds.length === 0
                      ? `The role ${name} has no policies: it allows nothing.`
                      : `The role ${name} has ${chosenPolicyIds.map((one) => nameOf(policies, one)).join(", ")}.`
                  }}
                />{" "}
                <Action
                  label="Delete"
                  isSmall
                  isDangerous
                  confirm={`The role ${name} is deleted. This is only possible if no key has it.`}
                  act={async () => {
                    await ask(deleteRole, { variables: { id } })
                    refreshAll()
                    return `The role ${name} is deleted.`
                  }}
                />
              </>
            )
        }
      ]}
      empty={<p class="quiet">There are no roles.</p>}
    />
  </section>
)

const PolicyChoice = ({
  current,
  policies
}: {
  readonly policies: ReadonlyArray<Policy>
  readonly current: ReadonlyArray<string>
}) => (
  <KeepInitial>
    <fieldset>
      <legend>Policies</legend>
      {policies.length === 0 && <p class="quiet">There are no policies: create one first.</p>}
      {policies.map(({ id, name }) => (
        <label key={id} class="check">
          <input type="checkbox" name="policy" value={id} defaultChecked={current.includes(id)} /> {name}
        </label>
      ))}
    </fieldset>
  </KeepInitial>
)

const Log = () => {
  const log = useLive("access log", (signal) => ask(accessLog, { signal }), { everyMs: 5000 })
  return (
    <section>
      <h2>Who changed what</h2>
      <Listing
        label="Access log"
        name="log"
        live={log}
        keyOf={({ action, at, subject }) => `${at} ${action} ${subject}`}
        textOf={({ action, by, details, subject }) => `${by} ${action} ${subject} ${oneLine(details)}`}
        columns={[
          { title: "When", width: "6rem", cell: ({ at }) => <Time at={at} /> },
          { title: "Who", width: "minmax(6rem, 1fr)", cell: ({ by }) => <Truncated>{by}</Truncated> },
          { title: "What", width: "minmax(7rem, 1fr)", cell: ({ action }) => action },
          {
            title: "Subject",
            width: "minmax(6rem, 1.2fr)",
            isExtra: true,
            cell: ({ subject }) => <Truncated>{subject}</Truncated>
          },
          {
            title: "Details",
            width: "minmax(6rem, 2fr)",
            isExtra: true,
            cell: ({ details }) => (
              <span class="mono quiet" title={oneLine(details)}>
                {oneLine(details)}
              </span>
            )
          }
        ]}
        empty={<p class="quiet">The log has no changes yet.</p>}
      />
    </section>
  )
}
