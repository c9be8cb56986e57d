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
