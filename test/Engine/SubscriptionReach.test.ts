import { assert, describe, it } from "vitest"
import { reachOf } from "../../src/Engine/Access/SubscriptionReach.ts"
import { Permissions } from "../../src/Policy.ts"

const denies = (denied: string, pattern: string): boolean => {
  const permissions = new Permissions([
    { name: "all", effect: "allow", actions: "*", resources: "*" },
    { name: "secret", effect: "deny", actions: "subscription:read", resources: denied }
  ])
  const context = { environment: "default", key: { id: "key_1", name: "ci" }, now: () => 0 }
  const denial = permissions.denial("subscription:read", `subscription:${pattern}`, context, reachOf(pattern))
  return denial !== undefined
}

describe("a policy that denies a subscription", () => {
  it.each([
    ["subscription:events:salary.paid", "events:salary.paid"],
    ["subscription:events:salary.paid", "events:salary.*"],
    ["subscription:events:salary.paid", "events:*.paid"],
    ["subscription:events:salary.*", "events:>"],
    ["subscription:events:salary.*", ">"],
    ["subscription:events:salary.*", "*.paid"],
    ["subscription:events:salary.*", "entity:person.p-1.>"],
    ["subscription:salary.*", "events:salary.paid"],
    ["subscription:salary.*", "topic:salary.paid"],
    ["subscription:salary.*", "entity:person.p-1.>"],
    ["subscription:topic:news", ">"],
    ["subscription:topic:*", "topic:news"],
    ["subscription:entity:person.*", "entity:*.p-1.>"],
    ["subscription:entity:person.*", "events:>"],
    ["subscription:system.secret.*", "system.>"],
    ["subscription:*", "system.run.>"],
    ["*:events:salary.*", ">"]
  ])("%s denies %s", (denied, pattern) => assert.isTrue(denies(denied, pattern)))

  it.each([
    ["subscription:events:salary.*", "events:order.>"],
    ["subscription:events:salary.*", "topic:>"],
    ["subscription:events:salary.*", "system.>"],
    ["subscription:salary.*", "order.*"],
    ["subscription:topic:news", "events:>"],
    ["subscription:topic:news", "entity:order.o-1.>"],
    ["subscription:entity:person.*", "entity:order.o-1.>"],
    ["subscription:entity:person.*", "topic:>"],
    ["subscription:system.*", ">"],
    ["subscription:system.secret.*", "system.run.>"],
    ["stream:*", ">"]
  ])("%s does not deny %s", (denied, pattern) => assert.isFalse(denies(denied, pattern)))
})
