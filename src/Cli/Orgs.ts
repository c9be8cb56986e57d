/** `ironflow orgs`: what roles and policies belong to. */
import * as Effect from "effect/Effect"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import { Orgs } from "../Client/Orgs.ts"
import { print, table } from "./Output.ts"
import { askFor } from "./Server.ts"

const id = Argument.String("id")
const name = Argument.String("name")

const create = Command.make(
  "create",
  { name },
  Effect.fnUntraced(function* ({ name }) {
    const org = yield* askFor(Orgs, (orgs) => orgs.create({ name }))
    yield* print(org, () => `Organization ${org.name} is ${org.id}.`)
  })
).pipe(Command.withDescription("Make an organization."))

const list = Command.make(
  "list",
  {},
  Effect.fnUntraced(function* () {
    const orgs = yield* askFor(Orgs, (orgs) => orgs.list())
    yield* print({ orgs }, () =>
      table(
        ["ID", "NAME", "CREATED"],
        orgs.map((org) => [org.id, org.name, org.created_at])
      )
    )
  })
).pipe(Command.withDescription("List the organizations."))

const rename = Command.make(
  "rename",
  { id, name },
  Effect.fnUntraced(function* ({ id, name }) {
    const org = yield* askFor(Orgs, (orgs) => orgs.update(id, { name }))
    yield* print(org, () => `Organization ${id} is called ${org.name}.`)
  })
).pipe(Command.withDescription("Give an organization another name."))

const remove = Command.make(
  "delete",
  { id },
  Effect.fnUntraced(function* ({ id }) {
    yield* askFor(Orgs, (orgs) => orgs.delete(id))
    yield* print({ id }, () => `Organization ${id} is deleted.`)
  })
).pipe(Command.withDescription("Delete an organization that has no roles and policies."))

export const orgs = Command.make("orgs").pipe(
  Command.withAlias("org"),
  Command.withDescription("Keep roles and policies apart by organization."),
  Command.withShortDescription("Manage organizations"),
  Command.withSubcommands([create, list, rename, remove])
)
