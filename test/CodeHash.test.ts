/** The hash of a handler's source stands for its version, where the source shows the code. */
import * as Effect from "effect/Effect"
import { assert, it } from "vitest"
import { functionCodeHash } from "../src/CodeHash.ts"
import { ValidationError } from "../src/Errors.ts"
import { type AnyFunction, createFunction, make } from "../src/Function.ts"
import { hidesCode } from "../src/HandlerSource.ts"
import { functionsById } from "../src/Worker/Options.ts"

const config = { id: "order", triggers: [{ event: "order.placed" }], versioning: "pin" } as const
type Config = typeof config & { readonly version?: string }

it.each<readonly [string, (config: Config) => AnyFunction]>([
  [
    "Effect.fnUntraced",
    (config) =>
      make(
        config,
        Effect.fnUntraced(function* () {})
      )
  ],
  [
    "Effect.fn",
    (config) =>
      make(
        config,
        Effect.fn(function* () {})
      )
  ],
  [
    "Effect.fn with a name",
    (config) =>
      make(
        config,
        Effect.fn("order")(function* () {})
      )
  ],
  ["bind", (config) => createFunction(config, (() => 1).bind(undefined))]
])("a handler made by %s needs a version to pin its runs", (_, define) => {
  const fn = define(config)
  assert.isTrue(hidesCode(fn))
  assert.throws(() => functionsById([fn], "createWorker()"), ValidationError, "Give the function a `version`")
  const named = define({ ...config, version: "1" })
  assert.strictEqual(functionsById([named], "createWorker()").get("order"), named)
})

it("other handlers have a hash of their own", () => {
  const one = make(config, () => Effect.succeed(1))
  const two = make(config, () => Effect.succeed(2))
  assert.notStrictEqual(functionCodeHash(one), functionCodeHash(two))
  assert.isFalse(hidesCode(one))
  assert.isFalse(hidesCode(createFunction(config, async () => 1)))
  assert.strictEqual(functionsById([one], "createWorker()").get("order"), one)
})
