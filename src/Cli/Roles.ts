/** `ironflow roles`: manages roles. API keys have roles, and roles have policies. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { Roles } from "../Client/Roles.ts"
import { print, table } from "./Output.ts"
import { callService } from "./ServerCalls.ts"
import { commandsOf } from "./OneCallCommands.ts"
import { textFlag } from "./TextFlag.ts"

const rolesCommand = commandsOf(Roles)

const id = Argument.String("id")
const name = Argument.String("name")
const policy = Argument.String("policy-id")

const orgFlag = (description: string) =>
  textFlag("org").pipe(Flag.withMetavar("ID"), Flag.withDescription(description), Flag.optional)

/** The flag of a command that makes a role or policy. */
export const ownerOrgFlag = (noun: "role" | "policy") =>
  orgFlag(`The organization of the ${noun}; org_default by default`)

/** The flag of a command that lists roles or policies. */
export const orgFilterFlag = (nouns: "roles" | "policies") =>
  orgFlag(`Only ${nouns} of this organization; the ${nouns} of all organizations by default`)

const create = Command.make(
  "create",
  { name, org: ownerOrgFlag("role") },
  Effect.fnUntraced(function* ({ name, org }) {
    const orgId = Option.getOrUndefined(org)
    const role = yield* callService(Roles, (roles) =>
      roles.create({ name, ...(orgId === undefined ? {} : { org_id: orgId }) })
    )
    yield* print(role, () => `Role ${role.name} is ${role.id}. It allows nothing until it has policies.`)
  })
).pipe(Command.withDescription("Create a role."))

const list = rolesCommand("list", {
  description: "List the roles.",
  parameters: { org: orgFilterFlag("roles") },
  call: (roles, { org }) => roles.list(Option.getOrUndefined(org)),
  json: (roles) => ({ roles }),
  text: (roles) =>
    table(
      ["ID", "NAME", "ORGANIZATION", "POLICIES", ""],
      roles.map((role) => [
        role.id,
        role.name,
        role.org_id,
        (role.policy_ids ?? []).join(", "),
        role.is_default ? "built in" : ""
      ])
    )
})

const rename = rolesCommand("rename", {
  description: "Rename a role.",
  parameters: { id, name },
  call: (roles, { id, name }) => roles.update(id, { name }),
  text: (role, { id }) => `Role ${id} is called ${role.name}.`
})

const deleteRole = rolesCommand("delete", {
  description: "Delete a role that no key has.",
  parameters: { id },
  call: (roles, { id }) => roles.delete(id),
  json: (_, { id }) => ({ id }),
  text: (_, { id }) => `Role ${id} is deleted.`
})

const assign = rolesCommand("assign", {
  description: "Give a role a policy. The change takes effect at once.",
  parameters: { id, policy },
  call: (roles, { id, policy }) => roles.assignPolicy(id, policy),
  json: (_, { id, policy }) => ({ id, policy_id: policy }),
  text: (_, { id, policy }) => `Role ${id} has policy ${policy}.`
})

const unassign = rolesCommand("unassign", {
  description: "Take a policy from a role. The change takes effect at once.",
  parameters: { id, policy },
  call: (roles, { id, policy }) => roles.removePolicy(id, policy),
  json: (_, { id, policy }) => ({ id, policy_id: policy }),
  text: (_, { id, policy }) => `Role ${id} no longer has policy ${policy}.`
}).pipe(Command.withAlias("remove"))

export const roles = Command.make("roles").pipe(
  Command.withAlias("role"),
  Command.withDescription("Group policies into roles, and give roles to API keys."),
  Command.withShortDescription("Manage roles"),
  Command.withSubcommands([create, list, rename, deleteRole, assign, unassign])
)
