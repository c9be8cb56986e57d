import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as core from "@ironflow/core"

describe("@ironflow/core", () => {
  it("has the documented names", () => {
    const documented = [
      "createUpcasterRegistry",
      "defineEvent",
      "createEventDefinitionRegistry",
      "patterns",
      "EventSource",
      "createLogger",
      "createNoopLogger",
      "parseDuration",
      "calculateBackoff",
      "sleep",
      "createDeferred",
      "generateId",
      "safeJsonParse",
      "isObject",
      "deepMerge",
      "toError",
      "parseAndValidate",
      "validate",
      "createRunId",
      "createFunctionId",
      "createStepId",
      "createEventId",
      "createJobId",
      "createWorkerId",
      "createSubscriptionId",
      "ERROR_CODES",
      "isRetryable",
      "isIronflowError",
      "IronflowError",
      "ConnectionError",
      "SubscriptionError",
      "TimeoutError",
      "ValidationError",
      "SchemaValidationError",
      "SignatureError",
      "FunctionNotFoundError",
      "RunNotFoundError",
      "StepError",
      "NonRetryableError",
      "NotConfiguredError",
      "InvokeError",
      "InvokeTimeoutError",
      "StepTimeoutError",
      "RunFailedError",
      "RunCancelledError",
      "UnauthenticatedError",
      "EnterpriseRequiredError",
      "UnauthorizedError",
      "DEFAULT_PORT",
      "DEFAULT_HOST",
      "DEFAULT_SERVER_URL",
      "DEFAULT_WS_URL",
      "DEFAULT_ENVIRONMENT",
      "DEFAULT_TIMEOUTS",
      "DEFAULT_RETRY",
      "DEFAULT_CLIENT_RETRY",
      "DEFAULT_WORKER",
      "DEFAULT_RECONNECT",
      "TIMING",
      "ENV_VARS",
      "HEADERS",
      "HTTP_HEADERS",
      "JSON_HEADERS",
      "STEP_TYPES",
      "STEP_STATUS",
      "RUN_STATUS",
      "WS_MESSAGE_TYPES",
      "ACK_TYPES",
      "API_ENDPOINTS",
      "getWebSocketUrl",
      "getServerUrl"
    ]

    assert.deepStrictEqual(
      documented.filter((name) => !(name in core)),
      []
    )
  })

  it("shares its error classes with the rest", async () => {
    const { NonRetryableError } = await import("../src/Errors.ts")

    assert.strictEqual(core.NonRetryableError, NonRetryableError)
  })
})

describe("the package @ironflow/core", () => {
  const read = (file: string): string => readFileSync(new URL(`../${file}`, import.meta.url), "utf8")
  const own = JSON.parse(read("package.json"))
  const corePackage = JSON.parse(read("packages/core/package.json"))

  it("has the version of @ironflow/node", () => {
    assert.strictEqual(corePackage.name, "@ironflow/core")
    assert.strictEqual(corePackage.version, own.version)
    assert.deepStrictEqual(corePackage.peerDependencies, { [own.name]: own.version })
    assert.deepStrictEqual(corePackage.engines, own.engines)
  })

  it("exports only what @ironflow/node exports", () => {
    const entries = Object.entries<Record<string, string>>(corePackage.exports).filter(
      ([, to]) => typeof to === "object"
    )
    for (const [entry, { default: code, types }] of entries) {
      const source = `export * from "${own.name}/core${entry.slice(1)}"\n`
      assert.deepStrictEqual(
        [read(`packages/core/${code}`), read(`packages/core/${types}`)],
        [source, source]
      )
      assert.property(own.exports, `./core${entry.slice(1)}`)
    }
    assert.lengthOf(entries, 2)
  })
})
