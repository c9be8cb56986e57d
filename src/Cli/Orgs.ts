/** `ironflow orgs`: manages organizations, which own roles and policies. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import { Orgs } from "../Client/Orgs.ts"
import { table } from "./Output.ts"
import { commandsOf } from "./OneCallCommands.ts"

const orgsCommand = commandsOf(Orgs)

const id = Argument.String("id")
const name = Argument.String("name")

const create = orgsCommand("create", {
  description: "Create an organization.",
  parameters: { name },
  call: (orgs, { name }) => orgs.create({ name }),
  text: (org) => `Organization ${org.name} is ${org.id}.`
})

const list = orgsCommand("list", {
  description: "List the organizations.",
  call: (orgs) => orgs.list(),
  json: (orgs) => ({ orgs }),
  text: (orgs) =>
    table(
      ["ID", "NAME", "CREATED"],
      orgs.map((org) => [org.id, org.name, org.created_at])
    )
})

const rename = orgsCommand("rename", {
  description: "Rename an organization.",
  parameters: { id, name },
  call: (orgs, { id, name }) => orgs.update(id, { name }),
  text: (org, { id }) => `Organization ${id} is called ${org.name}.`
})

const remove = orgsCommand("delete", {
  description: "Delete an organization, which must have no roles and no policies.",
  parameters: { id },
  call: (orgs, { id }) => orgs.delete(id),
  json: (_, { id }) => ({ id }),
  text: (_, { id }) => `Organization ${id} is deleted.`
})

export const orgs = Command.make("orgs").pipe(
  Command.withAlias("org"),
  Command.withDescription("Keep roles and policies apart by organization."),
  Command.withShortDescription("Manage organizations"),
  Command.withSubcommands([create, list, rename, remove])
)
