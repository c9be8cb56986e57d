import { assert, describe, it } from "@effect/vitest"
import { createSecretsClient } from "../src/Secrets.ts"

describe("createSecretsClient", () => {
  const secrets = createSecretsClient({ STRIPE_KEY: "sk_1", EMPTY: "" })

  it("returns the given secrets", () => {
    assert.strictEqual(secrets.get("STRIPE_KEY"), "sk_1")
    assert.strictEqual(secrets.get("EMPTY"), "")
    assert.isTrue(secrets.has("STRIPE_KEY"))
  })

  it.each(["OTHER", "constructor", "__proto__"])("refuses %s with its name, and shows no value", (name) => {
    assert.isFalse(secrets.has(name))
    assert.throws(() => secrets.get(name), new RegExp(`^Secret "${name}" is not available`))
    assert.throws(() => createSecretsClient().get(name), `"${name}"`)
  })
})
