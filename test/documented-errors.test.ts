/** docs/errors.md agrees with the errors themselves: class, code, status and whether they are retried. */
import fs from "node:fs"
import path from "node:path"
import { describe, expect, it } from "vitest"
import { failureOf, invalidResponseError } from "../src/Client/HttpFailures.ts"
import * as Errors from "../src/Errors.ts"
import { codes } from "../src/Errors/Classes.ts"
import { failureResponse } from "../src/Protocol/Http/Failures.ts"

const { IronflowError } = Errors

interface Row {
  readonly codes: Array<string>
  readonly classes: Array<string>
  readonly statuses: Array<string>
  readonly retried: string | undefined
}

const words = (cell = ""): Array<string> => [...cell.matchAll(/`(\w+)`/g)].map(([, word]) => word!)

const text = fs.readFileSync(path.join(import.meta.dirname, "../docs/errors.md"), "utf8")

/** The rows of the tables whose first heading is Code, by their headings. */
const tables = text
  .split("\n\n")
  .filter((block) => block.startsWith("| Code "))
  .map((block): Array<Row> => {
    const [headings = [], , ...rows] = block
      .trim()
      .split("\n")
      .map((line) =>
        line
          .split("|")
          .slice(1, -1)
          .map((cell) => cell.trim())
      )
    const at = (row: Array<string>, heading: string) => row[headings.indexOf(heading)]
    return rows.map((row) => ({
      codes: words(at(row, "Code")),
      classes: words(at(row, "Class")),
      statuses: at(row, "Status")?.match(/\d\w\w/g) ?? [],
      retried: at(row, "Retried")
    }))
  })
const [main = [], network = [], handler = []] = tables
const rows = [...main, ...network, ...handler]

/** One error of each class. */
const samples: ReadonlyArray<Errors.IronflowError> = [
  new Errors.ConnectionError("gone"),
  new Errors.SubscriptionError("broken"),
  new Errors.TimeoutError("late", 5),
  new Errors.WaitTimeoutError("approval", "order.approved", 5),
  new Errors.FunctionTimeoutError("f", 5),
  new Errors.ValidationError("bad"),
  new Errors.SchemaValidationError("bad"),
  new Errors.LimitExceededError("It", 2, 1, "bytes"),
  new Errors.SignatureError("forged"),
  new Errors.FunctionNotFoundError("f"),
  new Errors.RunNotFoundError("run_1"),
  new Errors.ProjectionNotFoundError("p"),
  new Errors.ProjectionBehindError("p", 1, 2, 5, "It is slow"),
  new Errors.StepNotFoundError("run_1", "run_1:a:0"),
  new Errors.StepError("failed", { stepId: "run_1:a:0", stepName: "a", retryable: false }),
  new Errors.NonRetryableError("no"),
  new Errors.RetryAfterError("later", "5s"),
  new Errors.NotConfiguredError(),
  new Errors.InvokeError("f", "run_2", "it failed"),
  new Errors.InvokeTimeoutError("f", "run_2", 5),
  new Errors.StepTimeoutError("a", "5s"),
  new Errors.StepAbortedError("a", "a sibling failed"),
  new Errors.NestedStepError("b", "a"),
  new Errors.NondeterminismError("it was a sleep"),
  new Errors.InvalidStateError("not now"),
  new Errors.VersionConflictError("order-1", 3, 4),
  new Errors.StreamNotFoundError("order-1"),
  new Errors.StoreError("refused"),
  new Errors.SchemaValidationError("too new", { code: "EVENT_TOO_NEW", retryable: true }),
  new Errors.StoreError("held", { code: "STORE_LOCKED" }),
  new Errors.StoreError("damaged", { code: "STORE_CORRUPT" }),
  new Errors.StoreError("full", { code: "STORE_UNAVAILABLE", retryable: true }),
  new Errors.RunFailedError("run_1", undefined),
  new Errors.RunCancelledError("run_1"),
  new Errors.UnauthenticatedError(),
  new Errors.EnterpriseRequiredError(),
  new Errors.UnauthorizedError(),
  new Errors.RevisionConflictError("b", "k", 3, 4),
  new Errors.KeyNotFoundError("b", "k"),
  new Errors.KeySchemaError("b", "k", 3, ["role: unknown"]),
  new Errors.StreamSchemaError("order-1", "item.added", 3, ["qty: not a number"]),
  new Errors.BucketNotFoundError("b"),
  new Errors.BucketExistsError("b"),
  new Errors.RevisionGoneError("b", 3),
  new Errors.ConsumerGroupNotFoundError("g", "default"),
  new Errors.ConsumerGroupExistsError("g", "default", "order.*"),
  new Errors.ConfigNotFoundError("c"),
  new Errors.ServerError("unheard of", { retryable: true }),
  new Errors.ServerError("a bug", { code: "INTERNAL_ERROR" }),
  ...(["RATE_LIMITED", "TOO_MANY_CALLS", "CLOSING", "SERVER_BUSY"] as const).map(
    (code) => new Errors.UnavailableError("not now", { code })
  ),
  new Errors.UnsupportedError("not here"),
  new Errors.UnsupportedError("nothing there", { code: "ROUTE_NOT_FOUND" }),
  new Errors.InvalidResponseError("not of a server"),
  new Errors.ClosedError("client"),
  new Errors.NoResultsError("order.placed", "evt_1"),
  new Errors.CompensationLostError("not registered"),
  new Errors.InterruptedError("The handler"),
  new Errors.SnapshotNotFoundError("order-1"),
  new Errors.EventNotFoundError("evt_1"),
  new Errors.BulkNotFoundError("bulk_1"),
  new Errors.ProjectionSaveRefusedError("p", "it was reset"),
  new Errors.ApiKeyNotFoundError("key_1"),
  new Errors.OrgNotFoundError("org_1"),
  new Errors.RoleNotFoundError("role_1"),
  new Errors.PolicyNotFoundError("policy_1"),
  new Errors.SecretNotFoundError("API_KEY"),
  ...(["SIGNATURE_MISSING", "SIGNATURE_EXPIRED", "SIGNATURE_REPLAYED"] as const).map(
    (code) => new Errors.SignatureError("not signed", { code })
  ),
  ...(["MASTER_KEY_MISSING", "MASTER_KEY_WRONG"] as const).map(
    (code) => new Errors.MasterKeyError("sealed", { code })
  ),
  ...(["PORT_IN_USE", "LISTEN_FAILED"] as const).map((code) => new Errors.ListenError("in use", { code })),
  ...(["NODE_TOO_OLD", "NODE_NEEDED"] as const).map(
    (code) => new Errors.NodeVersionError("too old", { code })
  ),
  new Errors.BodyError("too large", { code: "BODY_TOO_LARGE" }),
  new Errors.BodyError("too slow", { code: "BODY_TIMEOUT", retryable: true }),
  new Errors.BodyError("compressed", { code: "BODY_UNSUPPORTED" }),
  ...(["BODY_CONSUMED", "BODY_TRUNCATED", "INVALID_JSON"] as const).map(
    (code) => new Errors.BodyError("not whole", { code })
  ),
  new Errors.MessageDamagedError("damaged"),
  ...(["STALE_BATCH", "STALE_REGISTRATION", "STALE_EXECUTION", "RUN_NOT_RUNNING"] as const).map(
    (code) => new Errors.StaleRequestError("too late", { code })
  ),
  new Errors.EndpointNotFoundError("http://127.0.0.1/"),
  new Errors.EndpointUnavailableError("no answer"),
  ...(["REGISTRATION_FAILED", "FUNCTION_REGISTRATION_FAILED"] as const).map(
    (code) => new Errors.RegistrationError("not accepted", { code })
  ),
  new Errors.WorkerAlreadyRunningError("twice"),
  new Errors.WorkerStoppedError("stopped", { retryable: true }),
  new Errors.LeaseLostError("gone"),
  new Errors.WorkerUnknownError("unknown"),
  ...(["REPORT_FAILED", "STEP_NOT_ANSWERED"] as const).map(
    (code) => new Errors.ReportError("not understood", { code })
  ),
  new Errors.TurnBrokenError("a bug"),
  new Errors.TurnEndedError("completed"),
  ...(["TURN_ABORTED", "REQUEST_ABORTED"] as const).map(
    (code) => new Errors.TurnAbortedError("no end", { code })
  ),
  new Errors.WebhookNotFoundError("stripe"),
  ...(
    ["METHOD_NOT_ALLOWED", "VERIFY_FAILED", "TRANSFORM_FAILED", "EMIT_FAILED", "WEBHOOK_TIMEOUT"] as const
  ).map((code) => new Errors.WebhookError("refused", { code })),
  new Errors.TimersFakedError("faked"),
  new Errors.TapeError("not there"),
  new Errors.ServiceMissingError("not provided"),
  new Errors.TestSuspendedError("on a wait")
]

const isOfClass = (name: string) => (error: Errors.IronflowError) => error.constructor.name === name

describe("docs/errors.md", () => {
  it("has every class, and this test has an error of each", () => {
    const classes = Object.entries(Errors)
      .filter(([, value]) => typeof value === "function" && value.prototype instanceof IronflowError)
      .map(([name]) => name)
      // the base class of the family has no row of its own
      .filter((name) => name !== "NotFoundError")

    expect(classes.filter((name) => !rows.some((row) => row.classes.includes(name)))).toEqual([])
    expect(classes.filter((name) => !samples.some(isOfClass(name)))).toEqual([])
  })

  const own = main.filter(({ classes }) => classes.length > 0 && !classes.includes("IronflowError"))
  it.each(own.flatMap((row) => row.codes.map((code) => [code, row] as const)))(
    "has the class, the status and the facts of %s",
    (code, { classes, retried, statuses }) => {
      const errors = samples.filter(
        (error) => error.code === code && classes.some((name) => isOfClass(name)(error))
      )
      // these classes have several codes, which are given where an error is made
      if (
        classes.every((name) => ["ValidationError", "SubscriptionError", "NonRetryableError"].includes(name))
      )
        return

      expect(errors.length).toBeGreaterThan(0)
      for (const error of errors) {
        expect(error.status).toBe(statuses[0] === undefined ? undefined : Number(statuses[0]))
        expect(error.retryable).toBe(retried === "yes")
        if (code.endsWith("NOT_FOUND") || statuses[0]?.match(/409|41\d/))
          expect(error.details).toBeTypeOf("object")
      }
    }
  )

  it.each(samples.map((error) => [`${error.name} ${error.code}`, error] as const))(
    "documents the form of %s over HTTP",
    (_, error) => {
      for (const dialect of ["connect", "rest"] as const) {
        const { body, status } = failureResponse(error, dialect)
        const received = failureOf({ status, text: JSON.stringify(body) }, "the call")

        expect(received.constructor).toBe(error.constructor)
        expect([received.code, received.status]).toEqual([error.code, status])
        // the status that a class has is sent over HTTP
        if (error.status !== undefined) expect(status).toBe(error.status)
        expect(received.details).toEqual(JSON.parse(JSON.stringify(error.details ?? null)) ?? undefined)
      }
    }
  )

  it.each(
    [...network, ...main.filter(({ statuses }) => statuses.length > 0)]
      .filter(({ classes }) => classes.length > 0)
      .flatMap((row) => row.codes.map((code) => [code, row] as const))
      // no server sends these: the client makes some of a status, and others are about a server that cannot listen
      .filter(([code]) => !/^(NOT_FOUND|CONFLICT|PRECONDITION_FAILED|PORT_IN_USE|LISTEN_FAILED)$/.test(code))
  )("has the class that the client makes of the code %s alone", (code, { classes }) => {
    expect(classes).toContain(codes.get(code)?.[0].prototype.name)
  })

  it.each([...codes].map(([code, [Class]]) => [code, Class.prototype.name]))(
    "has a row of %s and its class %s, or of the limits",
    (code, name) => {
      const found = rows.filter((row) => row.codes.includes(code)).flatMap((row) => row.classes)
      // the code alone does not tell the subclass
      if (code === "LIMIT_EXCEEDED") expect(found).toContain("LimitExceededError")
      else if (code !== "ALREADY_SUBSCRIBED") expect(found).toContain(name)
    }
  )

  const made = [...main.filter(({ classes }) => classes.includes("IronflowError")), ...network]
  /** Codes that the client makes of answers that say less. */
  const ofClient = new Set(["NOT_FOUND", "CONFLICT", "PRECONDITION_FAILED", "RATE_LIMITED", "SERVER_ERROR"])
  const unlisted = new Set(["UNIMPLEMENTED", "INVALID_RESPONSE"])
  it("has INVALID_RESPONSE with the status of the answer, which is none when the answer was a success", () => {
    const row = network.find(({ codes }) => codes.includes("INVALID_RESPONSE"))
    const ofSomethingElse = failureOf({ status: 404, text: "<html>nothing here</html>" }, "the call")
    const unreadable = invalidResponseError("http://127.0.0.1", "the call", "it is not JSON", "<html>")

    expect([ofSomethingElse.code, unreadable.code]).toEqual(["INVALID_RESPONSE", "INVALID_RESPONSE"])
    expect([ofSomethingElse.status, unreadable.status]).toEqual([404, undefined])
    expect(row?.statuses).toEqual(["404"])
  })

  it.each(
    made
      .filter(({ statuses }) => statuses.length > 0)
      .flatMap((row) =>
        row.codes.map((code, index) => [code, row.statuses[index] ?? row.statuses[0]!] as const)
      )
      .filter(([code]) => !unlisted.has(code))
  )("has the status of %s: %s", (code, documented) => {
    const status = Number(documented.replace("xx", "00"))
    const answer = ofClient.has(code)
      ? { status, body: { error: "as the server says" } }
      : failureResponse(
          samples.find((error) => error.code === code) ?? new IronflowError("as our engine says", { code }),
          "rest"
        )
    const error = failureOf({ status: answer.status, text: JSON.stringify(answer.body) }, "the call")

    expect([error.code, error.status]).toEqual([code, status])
  })
})
