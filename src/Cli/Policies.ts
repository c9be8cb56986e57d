/** `ironflow policies`: manages policies, which allow or deny actions on resources. */
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { Policies } from "../Client/Policies.ts"
import { table } from "./Output.ts"
import { orgFilterFlag, ownerOrgFlag } from "./Roles.ts"
import { commandsOf, givenFlags } from "./OneCallCommands.ts"
import { textFlag } from "./TextFlag.ts"

const policiesCommand = commandsOf(Policies)

const id = Argument.String("id")

const effects = ["allow", "deny"] as const

const actions = textFlag("actions").pipe(
  Flag.withMetavar("PATTERNS"),
  Flag.withDescription('The actions that the policy is about, such as "emit:*, run:cancel"')
)
const resources = textFlag("resources").pipe(
  Flag.withMetavar("PATTERNS"),
  Flag.withDescription('The resources that the policy is about, such as "event:order.*"; * for all')
)
const condition = textFlag("condition").pipe(
  Flag.withMetavar("CEL"),
  Flag.withDescription("The policy applies only if this condition on `request` is true"),
  Flag.optional
)

const effect = Flag.Literals("effect", effects).pipe(
  Flag.withMetavar("EFFECT"),
  Flag.withDescription("allow (the default) or deny, which overrides every allow"),
  Flag.withDefault("allow" as const)
)

const create = policiesCommand("create", {
  description: "Create a policy.",
  parameters: {
    name: Argument.String("name"),
    effect,
    actions,
    resources: resources.pipe(Flag.withDefault("*")),
    condition,
    org: ownerOrgFlag("policy")
  },
  call: (policies, { name, effect, actions, resources, condition, org }) =>
    policies.create({ name, effect, actions, resources, ...givenFlags({ condition, org_id: org }) }),
  text: (policy) =>
    `Policy ${policy.name} is ${policy.id}. It has no effect until \`ironflow roles assign\` gives it to a role.`
}).pipe(
  Command.withExamples([
    { command: 'ironflow policies create orders --actions "emit:*" --resources "event:order.*"' }
  ])
)

const list = policiesCommand("list", {
  description: "List the policies.",
  parameters: { org: orgFilterFlag("policies") },
  call: (policies, { org }) => policies.list(Option.getOrUndefined(org)),
  json: (policies) => ({ policies }),
  text: (policies) =>
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
})

const update = policiesCommand("update", {
  description: "Change a policy. The change takes effect at once.",
  parameters: {
    id,
    name: textFlag("name").pipe(Flag.withMetavar("NAME"), Flag.optional),
    effect: Flag.Literals("effect", effects).pipe(Flag.optional),
    actions: Flag.optional(actions),
    resources: Flag.optional(resources),
    // no `textFlag`, because an empty value removes the condition
    condition: Flag.String("condition").pipe(
      Flag.withMetavar("CEL"),
      Flag.withDescription(
        "The policy applies only if this condition on `request` is true; an empty text removes the condition"
      ),
      Flag.optional
    )
  },
  call: (policies, { id, name, effect, actions, resources, condition }) =>
    policies.update(id, givenFlags({ name, effect, actions, resources, condition })),
  text: (policy, { id }) => `Policy ${policy.name} (${id}) is changed.`
})

const remove = policiesCommand("delete", {
  description: "Delete a policy that no role has.",
  parameters: { id },
  call: (policies, { id }) => policies.delete(id),
  json: (_, { id }) => ({ id }),
  text: (_, { id }) => `Policy ${id} is deleted.`
})

export const policies = Command.make("policies").pipe(
  Command.withAlias("policy"),
  Command.withDescription("Say which actions on which resources are allowed or denied."),
  Command.withShortDescription("Manage policies"),
  Command.withSubcommands([create, list, update, remove])
)
