/** `ironflow roles`: what keys have, and policies are assigned to. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { Roles } from "../Client/Roles.ts"
import { print, table } from "./Output.ts"
import { askFor } from "./Server.ts"

const id = Argument.String("id")
const name = Argument.String("name")
const policy = Argument.String("policy-id")

export const org = Flag.String("org").pipe(
  Flag.withMetavar("ID"),
  Flag.withDescription("The organization; org_default when something is made"),
  Flag.optional
)

const create = Command.make(
  "create",
  { name, org },
  Effect.fnUntraced(function* ({ name, org }) {
    const orgId = Option.getOrUndefined(org)
    const role = yield* askFor(Roles, (roles) =>
      roles.create({ name, ...(orgId === undefined ? {} : { org_id: orgId }) })
    )
    yield* print(role, () => `Role ${role.name} is ${role.id}. It may do nothing until it has policies.`)
  })
).pipe(Command.withDescription("Make a role."))

const list = Command.make(
  "list",
  { org },
  Effect.fnUntraced(function* ({ org }) {
    const roles = yield* askFor(Roles, (roles) => roles.list(Option.getOrUndefined(org)))
    yield* print({ roles }, () =>
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
    )
  })
).pipe(Command.withDescription("List the roles."))

const rename = Command.make(
  "rename",
  { id, name },
  Effect.fnUntraced(function* ({ id, name }) {
    const role = yield* askFor(Roles, (roles) => roles.update(id, { name }))
    yield* print(role, () => `Role ${id} is called ${role.name}.`)
  })
).pipe(Command.withDescription("Give a role another name."))

const remove = Command.make(
  "delete",
  { id },
  Effect.fnUntraced(function* ({ id }) {
    yield* askFor(Roles, (roles) => roles.delete(id))
    yield* print({ id }, () => `Role ${id} is deleted.`)
  })
).pipe(Command.withDescription("Delete a role that no key has."))

const assign = Command.make(
  "assign",
  { id, policy },
  Effect.fnUntraced(function* ({ id, policy }) {
    yield* askFor(Roles, (roles) => roles.assignPolicy(id, policy))
    yield* print({ id, policy_id: policy }, () => `Role ${id} has policy ${policy}.`)
  })
).pipe(Command.withDescription("Give a role a policy; it takes effect at once."))

const unassign = Command.make(
  "remove",
  { id, policy },
  Effect.fnUntraced(function* ({ id, policy }) {
    yield* askFor(Roles, (roles) => roles.removePolicy(id, policy))
    yield* print({ id, policy_id: policy }, () => `Role ${id} has policy ${policy} no more.`)
  })
).pipe(Command.withDescription("Take a policy from a role; it takes effect at once."))

export const roles = Command.make("roles").pipe(
  Command.withAlias("role"),
  Command.withDescription("Gather policies into roles, which API keys have."),
  Command.withShortDescription("Manage roles"),
  Command.withSubcommands([create, list, rename, remove, assign, unassign])
)
