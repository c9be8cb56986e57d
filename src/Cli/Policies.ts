/** `ironflow policies`: which actions on which resources are allowed or denied. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { Policies } from "../Client/Policies.ts"
import { print, table } from "./Output.ts"
import { org } from "./Roles.ts"
import { askFor } from "./Server.ts"

const id = Argument.String("id")

const effects = ["allow", "deny"] as const

const actions = Flag.String("actions").pipe(
  Flag.withMetavar("PATTERNS"),
  Flag.withDescription('Such as "emit:*, run:cancel"')
)
const resources = Flag.String("resources").pipe(
  Flag.withMetavar("PATTERNS"),
  Flag.withDescription('Such as "event:order.*"; * for all')
)
const condition = Flag.String("condition").pipe(
  Flag.withMetavar("CEL"),
  Flag.withDescription("The policy applies where this is true of `request`"),
  Flag.optional
)

/** Flags that were given, by the names that the client has for them. */
const given = <A extends object>(flags: { readonly [K in keyof A]: Option.Option<A[K]> }): Partial<A> =>
  // every entry comes from the flag of that name
  Object.fromEntries(
    Object.entries<Option.Option<unknown>>(flags).flatMap(([name, flag]) =>
      Option.isSome(flag) ? [[name, flag.value]] : []
    )
  ) as Partial<A>

const create = Command.make(
  "create",
  {
    name: Argument.String("name"),
    effect: Flag.Literals("effect", effects).pipe(
      Flag.withMetavar("EFFECT"),
      Flag.withDescription("allow (by default) or deny; what is denied is denied whatever else allows it"),
      Flag.withDefault("allow" as const)
    ),
    actions,
    resources: Flag.withDefault(resources, "*"),
    condition,
    org
  },
  Effect.fnUntraced(function* ({ name, effect, actions, resources, condition, org }) {
    const policy = yield* askFor(Policies, (policies) =>
      policies.create({ name, effect, actions, resources, ...given({ condition, org_id: org }) })
    )
    yield* print(policy, () => `Policy ${policy.name} is ${policy.id}. Roles have it when it is assigned.`)
  })
).pipe(
  Command.withDescription("Make a policy."),
  Command.withExamples([
    { command: 'ironflow policies create orders --actions "emit:*" --resources "event:order.*"' }
  ])
)

const list = Command.make(
  "list",
  { org },
  Effect.fnUntraced(function* ({ org }) {
    const policies = yield* askFor(Policies, (policies) => policies.list(Option.getOrUndefined(org)))
    yield* print({ policies }, () =>
      table(
        ["ID", "NAME", "EFFECT", "ACTIONS", "RESOURCES", "CONDITION"],
        policies.map((policy) => [
          policy.id,
          policy.name,
          policy.effect,
          policy.actions,
          policy.resources,
          policy.condition ?? ""
        ])
      )
    )
  })
).pipe(Command.withDescription("List the policies."))

const update = Command.make(
  "update",
  {
    id,
    name: Flag.String("name").pipe(Flag.withMetavar("NAME"), Flag.optional),
    effect: Flag.Literals("effect", effects).pipe(Flag.optional),
    actions: Flag.optional(actions),
    resources: Flag.optional(resources),
    condition
  },
  Effect.fnUntraced(function* ({ id, name, effect, actions, resources, condition }) {
    const policy = yield* askFor(Policies, (policies) =>
      policies.update(id, given({ name, effect, actions, resources, condition }))
    )
    yield* print(policy, () => `Policy ${policy.name} (${id}) is changed.`)
  })
).pipe(Command.withDescription("Change a policy; it takes effect at once."))

const remove = Command.make(
  "delete",
  { id },
  Effect.fnUntraced(function* ({ id }) {
    yield* askFor(Policies, (policies) => policies.delete(id))
    yield* print({ id }, () => `Policy ${id} is deleted.`)
  })
).pipe(Command.withDescription("Delete a policy that no role has."))

export const policies = Command.make("policies").pipe(
  Command.withAlias("policy"),
  Command.withDescription("Say which actions on which resources are allowed or denied."),
  Command.withShortDescription("Manage policies"),
  Command.withSubcommands([create, list, update, remove])
)
