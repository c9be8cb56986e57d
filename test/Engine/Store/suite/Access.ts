/** Keys, organizations, roles and policies. Each change is made whole or not at all, reaches listeners, and is recorded. */
import type { IronflowError } from "../../../../src/Errors.ts"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { NewKey } from "../../../../src/Engine/Records/AccessRecords.ts"
import { environment, type ShopTest } from "./Shop.ts"
import * as AccessRows from "../../../../src/Engine/Access/AccessRows.ts"
import * as AccessLog from "../../../../src/Engine/Access/AccessLog.ts"
import * as KeyRows from "../../../../src/Engine/Access/KeyRows.ts"
import * as OrgRows from "../../../../src/Engine/Access/OrgRows.ts"
import * as PolicyRows from "../../../../src/Engine/Access/PolicyRows.ts"
import * as RoleRows from "../../../../src/Engine/Access/RoleRows.ts"

const newKey = (hash: string, more: Partial<NewKey> = {}): NewKey => ({
  name: "ci",
  prefix: "ifk_abc",
  hash,
  callEnvironment: environment,
  ...more
})

const everything = { effect: "allow", actions: "*", resources: "*", name: "all" } as const

export const accessSuite = (test: ShopTest): void => {
  describe("access", () => {
    test("the first key is an admin's key for all environments, later keys are developers' keys for one environment", function* ({
      store
    }) {
      const [first, second] = yield* Effect.all(
        [
          store.write(KeyRows.createApiKey(newKey("h1"), "local")),
          store.write(KeyRows.createApiKey(newKey("h2"), "local"))
        ],
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual([first.environment, first.roleIds], [undefined, ["role_admin"]])
      assert.deepStrictEqual([second.environment, second.roleIds], [environment, ["role_developer"]])
      assert.deepStrictEqual((yield* store.read(AccessRows.readAccess())).keys, [first, second])
    })

    test("a change reaches listeners before its caller, and is recorded with its author", function* ({
      store
    }) {
      const told: Array<string> = []
      store.onCommit(({ access }) => told.push(...access.map(({ _tag }) => _tag)))

      const key = yield* store.write(KeyRows.createApiKey(newKey("h1"), "local"))
      assert.deepStrictEqual(told, ["Key"])
      yield* store.write(KeyRows.rotateApiKey(key.id, { hash: "h2", prefix: "ifk_xyz" }, "key_1"))
      yield* store.write(KeyRows.touchApiKeys([{ id: key.id, at: 5 }]))
      assert.deepInclude((yield* store.read(AccessRows.readAccess())).keys[0], {
        hash: "h2",
        prefix: "ifk_xyz",
        lastUsedAt: 5
      })
      yield* store.write(KeyRows.deleteApiKey(key.id, "key_1"))

      assert.deepStrictEqual(told, ["Key", "Key", "KeyDeleted"])
      assert.deepStrictEqual(
        (yield* store.read(AccessLog.readAccessLog(10))).map(({ by, action, subject }) => [
          by,
          action,
          subject
        ]),
        [
          ["key_1", "apikey:delete", key.id],
          ["key_1", "apikey:rotate", key.id],
          ["local", "apikey:create", key.id]
        ]
      )
    })

    test("the bootstrap key is replaced by another one, and kept by the same one", function* ({ store }) {
      yield* store.write(KeyRows.putBootstrapKey("h1"))
      yield* store.write(KeyRows.putBootstrapKey("h1"))
      assert.lengthOf(yield* store.read(AccessLog.readAccessLog(10)), 1)
      yield* store.write(KeyRows.putBootstrapKey("h2"))
      assert.deepStrictEqual(
        (yield* store.read(AccessRows.readAccess())).keys.map(({ hash, id }) => [id, hash]),
        [["key_bootstrap", "h2"]]
      )
    })

    test("changes of anything in use, built in or unknown are refused", function* ({ store }) {
      const org = yield* store.write(OrgRows.createOrg("Acme", "local"))
      const role = yield* store.write(RoleRows.createRole({ name: "deployer", orgId: org.id }, "local"))
      const policy = yield* store.write(PolicyRows.createPolicy({ ...everything, orgId: org.id }, "local"))
      const foreign = yield* store.write(
        PolicyRows.createPolicy({ ...everything, orgId: "org_default" }, "local")
      )
      yield* store.write(RoleRows.assignPolicy(role.id, policy.id, "local"))
      yield* store.write(RoleRows.assignPolicy(role.id, policy.id, "local"))
      yield* store.write(KeyRows.createApiKey(newKey("h1", { roleIds: [role.id] }), "local"))
      const before = yield* store.read(AccessRows.readAccess())
      const logged = yield* store.read(AccessLog.readAccessLog(100))

      const codes = []
      const all: ReadonlyArray<Effect.Effect<unknown, IronflowError>> = [
        store.write(OrgRows.deleteOrg(org.id, "local")),
        store.write(RoleRows.deleteRole(role.id, "local")),
        store.write(PolicyRows.deletePolicy(policy.id, "local")),
        store.write(RoleRows.deleteRole("role_admin", "local")),
        store.write(PolicyRows.updatePolicy("policy_admin", { actions: "emit:*" }, "local")),
        store.write(RoleRows.assignPolicy(role.id, foreign.id, "local")),
        store.write(RoleRows.assignPolicy(role.id, "policy_none", "local")),
        store.write(RoleRows.createRole({ name: "x", orgId: "org_none" }, "local")),
        store.write(KeyRows.createApiKey(newKey("h2", { roleIds: ["role_none"] }), "local")),
        store.write(KeyRows.rotateApiKey("key_none", { hash: "h3", prefix: "" }, "local"))
      ]
      for (const refused of all) {
        codes.push((yield* Effect.flip(refused)).code)
      }

      assert.deepStrictEqual(codes, [
        "INVALID_STATE",
        "INVALID_STATE",
        "INVALID_STATE",
        "INVALID_STATE",
        "INVALID_STATE",
        "VALIDATION_ERROR",
        "POLICY_NOT_FOUND",
        "ORG_NOT_FOUND",
        "ROLE_NOT_FOUND",
        "API_KEY_NOT_FOUND"
      ])
      assert.deepStrictEqual(yield* store.read(AccessRows.readAccess()), before)
      assert.deepStrictEqual(yield* store.read(AccessLog.readAccessLog(100)), logged)
    })

    test("a condition is created and deleted with its policy", function* ({ store }) {
      const { id } = yield* store.write(
        PolicyRows.createPolicy({ ...everything, orgId: "org_default", condition: "true" }, "local")
      )
      assert.strictEqual(
        (yield* store.write(PolicyRows.updatePolicy(id, { name: "few" }, "local"))).condition,
        "true"
      )
      assert.isUndefined(
        (yield* store.write(PolicyRows.updatePolicy(id, { condition: "" }, "local"))).condition
      )
      assert.deepInclude((yield* store.read(AccessRows.readAccess())).policies[0], {
        id,
        name: "few",
        actions: "*"
      })
    })
  })
}
