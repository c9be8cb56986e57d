/** Access: the API keys, and what each may do. */
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
import { Choice, entry, Field, needed, KeepInitial } from "../Parts/Fields.tsx"
import { type Live, refreshAll, useLive } from "../Parts/Live.ts"
import { askAll } from "../Parts/CompleteList.ts"
import { environment } from "../Parts/Router.ts"
import { Truncated, Listing, oneLine } from "../Parts/Rows.tsx"
import { Time } from "../Parts/Time.tsx"
import { Policies } from "./AccessPolicies.tsx"

/** How often roles and policies are requested, since they rarely change. */
const SELDOM = { everyMs: 5000 }

export const Access = () => {
  const keys = useLive("api keys", (signal) => askAll(listApiKeys, { signal }), { everyMs: 2000 })
  const roles = useLive("roles", (signal) => askAll(listRoles, { signal }), SELDOM)
  const policies = useLive("policies", (signal) => askAll(listPolicies, { signal }), SELDOM)
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

/** A key that was just created; its text is shown once. */
interface Made {
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
  const [made, setMade] = useState<Made | undefined>(undefined)
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
                  of={[
                    [environment.peek(), environment.peek()],
                    ["*", "all of them"]
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
              const name = needed(entered, "name", "a name that says who has the key")
              const expires = entry(entered, "expires")
              const key = await ask(createApiKey, {
                body: {
                  name,
                  env_id: entry(entered, "environment"),
                  role_ids: entered.getAll("role").map(String),
                  ...(expires === undefined ? {} : { expires_in: expires })
                }
              })
              setMade({ name, secret: key.secret ?? key.key ?? "" })
              refreshAll()
              return `The key ${name} is created.`
            }}
          />
        </div>
      </div>
      {made !== undefined && (
        <div class="made" role="status">
          <p>
            The key <strong>{made.name}</strong>. Copy it now, since it is not shown again:
          </p>
          <p>
            <code>{made.secret}</code>
          </p>
          <div class="actions">
            <Copy text={made.secret} />
            <button type="button" class="small" onClick={() => setMade(undefined)}>
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
                {role_ids.map((id) => nameOf(roles, id)).join(", ") || "none: it may do nothing"}
              </Truncated>
            )
          },
          {
            title: "Used",
            width: "5.5rem",
            isExtra: true,
            cell: ({ last_used_at }) => <Time at={last_used_at} />
          },
          {
            title: "Ends",
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
                      label="How long the old key keeps working"
                      placeholder="24h"
                      hint="If this is empty, the old key stops at once. If you have signed in with it, sign in again with the new one."
                    />
                  }
                  act={async (entered) => {
                    const overlap = entry(entered, "overlap")
                    const key = await ask(rotateApiKey, {
                      variables: { id },
                      body: overlap === undefined ? {} : { overlap }
                    })
                    setMade({ name, secret: key.secret ?? key.key ?? "" })
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
            There are no keys: the engine answers everybody who reaches it. As soon as there is a key, every
            call needs one:
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
            const name = needed(entered, "name", "the name of the role")
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
              {policy_ids.map((id) => nameOf(policies, id)).join(", ") || "none: it may do nothing"}
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
                  confirm={`These apply at once, to all keys with the role ${name}.`}
                  fields={<PolicyChoice policies={policies} given={policy_ids} />}
                  act={async (entered) => {
                    const chosen = entered.getAll("policy").map(String)
                    for (const policy of chosen.filter((one) => !policy_ids.includes(one)))
                      await ask(assignPolicy, { variables: { id }, body: { policy_id: policy } })
                    for (const policyId of policy_ids.filter((one) => !chosen.includes(one)))
                      await ask(removePolicy, { variables: { id, policyId } })
                    refreshAll()
                    return chosen.length === 0
                      ? `${name} has no policies: it may do nothing.`
                      : `${name} has ${chosen.map((one) => nameOf(policies, one)).join(", ")}.`
                  }}
                />{" "}
                <Action
                  label="Delete"
                  isSmall
                  isDangerous
                  confirm={`The role ${name} is deleted, if no key has it.`}
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
  given,
  policies
}: {
  readonly policies: ReadonlyArray<Policy>
  readonly given: ReadonlyArray<string>
}) => (
  <KeepInitial>
    <fieldset>
      <legend>Policies</legend>
      {policies.length === 0 && <p class="quiet">There are no policies: create one first.</p>}
      {policies.map(({ id, name }) => (
        <label key={id} class="check">
          <input type="checkbox" name="policy" value={id} defaultChecked={given.includes(id)} /> {name}
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
        empty={<p class="quiet">Nobody has changed keys, roles or policies yet.</p>}
      />
    </section>
  )
}
