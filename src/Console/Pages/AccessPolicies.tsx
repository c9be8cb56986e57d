/** The policies on the access page: each allows or denies actions. */
import { createPolicy, deletePolicy, type Policy, type Role, updatePolicy } from "../../Protocol/Access.ts"
import { ask } from "../Parts/Calls.ts"
import { Action, Status } from "../Parts/Elements.tsx"
import { Choice, readEntry, Field, readRequiredEntry, KeepInitial } from "../Parts/Fields.tsx"
import { type Live, refreshAll } from "../Parts/Live.ts"
import { Truncated, Listing } from "../Parts/Rows.tsx"

const policyFields = (policy?: Policy) => (
  <KeepInitial>
    <Field name="name" label="Name" placeholder="retry-orders" value={policy?.name} isRequired />
    <Choice
      name="effect"
      label="Effect"
      {...(policy === undefined ? {} : { value: policy.effect })}
      choices={[
        ["allow", "allow"],
        ["deny", "deny: overrides every allow"]
      ]}
    />
    <Field
      name="actions"
      label="Actions"
      placeholder="run:read, run:retry"
      value={policy?.actions}
      isRequired
    />
    <Field name="resources" label="Resources" placeholder="*" value={policy?.resources} isRequired />
    <Field
      name="condition"
      label="Condition (CEL)"
      placeholder={'request.environment == "staging"'}
      value={policy?.condition}
      hint="The policy applies only if this expression is true. Without a condition it always applies."
    />
  </KeepInitial>
)

const readPolicy = (entered: FormData) => ({
  name: readRequiredEntry(entered, "name", "the name of the policy"),
  effect: readEntry(entered, "effect") ?? "allow",
  actions: readRequiredEntry(entered, "actions", "the actions"),
  resources: readRequiredEntry(entered, "resources", "the resources"),
  condition: readEntry(entered, "condition") ?? ""
})

export const Policies = ({
  policies,
  roles
}: {
  readonly policies: Live<ReadonlyArray<Policy>>
  readonly roles: ReadonlyArray<Role>
}) => (
  <section>
    <div class="title">
      <h2>Policies</h2>
      <div class="actions">
        <Action
          label="Create a policy"
          confirm="A policy has no effect until a role has it."
          fields={policyFields()}
          act={async (entered) => {
            const { condition, ...policy } = readPolicy(entered)
            await ask(createPolicy, { body: { ...policy, ...(condition === "" ? {} : { condition }) } })
            refreshAll()
            return `The policy ${policy.name} is created.`
          }}
        />
      </div>
    </div>
    <Listing
      label="Policies"
      name="policy"
      live={policies}
      keyOf={({ id }) => id}
      textOf={({ actions, condition = "", id, name, resources }) =>
        `${name} ${id} ${actions} ${resources} ${condition}`
      }
      columns={[
        {
          title: "Policy",
          width: "minmax(6rem, 1fr)",
          cell: ({ id, name }) => <Truncated title={`${name} (${id})`}>{name}</Truncated>
        },
        {
          title: "Effect",
          width: "5rem",
          cell: ({ effect }) => <Status state={effect === "allow" ? "ok" : "failed"}>{effect}</Status>
        },
        {
          title: "Actions",
          width: "minmax(6rem, 1.4fr)",
          isExtra: true,
          cell: ({ actions }) => <Truncated>{actions}</Truncated>
        },
        {
          title: "Resources",
          width: "minmax(5rem, 1fr)",
          isExtra: true,
          cell: ({ resources }) => <Truncated>{resources}</Truncated>
        },
        {
          title: "If",
          width: "minmax(4rem, 1fr)",
          isExtra: true,
          cell: ({ condition = "" }) => <Truncated>{condition}</Truncated>
        },
        {
          title: "Change",
          width: "8rem",
          cell: (policy) =>
            isBuiltIn(policy, roles) ? (
              <span class="quiet">built in</span>
            ) : (
              <>
                <Action
                  label="Edit"
                  isSmall
                  confirm="The change applies at once, to all keys whose roles have the policy."
                  fields={policyFields(policy)}
                  act={async (entered) => {
                    await ask(updatePolicy, { variables: { id: policy.id }, body: readPolicy(entered) })
                    refreshAll()
                    return `The policy ${policy.name} is changed.`
                  }}
                />{" "}
                <Action
                  label="Delete"
                  isSmall
                  isDangerous
                  confirm={`The policy ${policy.name} is deleted. This is only possible if no role has it.`}
                  act={async () => {
                    await ask(deletePolicy, { variables: { id: policy.id } })
                    refreshAll()
                    return `The policy ${policy.name} is deleted.`
                  }}
                />
              </>
            )
        }
      ]}
      empty={<p class="quiet">There are no policies.</p>}
    />
  </section>
)

/** Whether the policy is built in, as all policies of built-in roles are. */
const isBuiltIn = ({ id }: Policy, roles: ReadonlyArray<Role>): boolean =>
  roles.some((role) => role.is_default && role.policy_ids?.includes(id) === true)
