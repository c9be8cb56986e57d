/** Errors that a call does not declare, and unknown codes. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import { Client, Engine, Kv, Roles, Secrets, Store } from "../../src/effect.ts"
import { failureOf } from "../../src/Client/HttpFailures.ts"
import { clientErrorTags, narrowErrors } from "../../src/Client/NarrowErrors.ts"
import { startEngine } from "../../src/engine.ts"
import * as Errors from "../../src/Errors.ts"

const answer = (status: number, error: object, code: string) => ({
  status,
  text: JSON.stringify({ code, error: "?", message: "?", details: { error } })
})

describe("an error of a server", () => {
  it("has the class of its code when an older engine sends no class", () => {
    const error = failureOf(
      answer(
        404,
        {
          name: "IronflowError",
          message: 'There is no role "role_1"',
          code: "ROLE_NOT_FOUND",
          retryable: false,
          data: { details: { id: "role_1" } }
        },
        "ROLE_NOT_FOUND"
      ),
      "the call"
    )

    assert.instanceOf(error, Errors.RoleNotFoundError)
    assert.deepInclude({ ...error }, { code: "ROLE_NOT_FOUND", id: "role_1" })
    assert.deepInclude(
      { message: error.message, status: error.status, _tag: error._tag },
      { message: 'There is no role "role_1"', status: 404, _tag: "RoleNotFoundError" }
    )
  })

  it("is a ServerError when the facts of its class are missing", () => {
    const error = failureOf(
      answer(404, { name: "IronflowError", message: "none", code: "ROLE_NOT_FOUND", retryable: false }, ""),
      "the call"
    )

    assert.instanceOf(error, Errors.ServerError)
    assert.strictEqual(error.code, "ROLE_NOT_FOUND")
  })

  it("is a ServerError with its code when the code or the class is unknown", () => {
    const unknownClass = failureOf(
      answer(
        409,
        { name: "MoonPhaseError", message: "wait for it", code: "MOON_PHASE", retryable: true },
        "MOON_PHASE"
      ),
      "the call"
    )
    const other = failureOf(
      { status: 418, text: JSON.stringify({ code: "TEAPOT", message: "short and stout" }) },
      "the call"
    )

    assert.deepStrictEqual(
      [unknownClass, other].map(({ _tag, code, message, retryable, status }) => ({
        _tag,
        code,
        message,
        retryable,
        status
      })),
      [
        { _tag: "ServerError", code: "MOON_PHASE", message: "wait for it", retryable: true, status: 409 },
        { _tag: "ServerError", code: "TEAPOT", message: "short and stout", retryable: false, status: 418 }
      ]
    )
  })
})

describe("an error that a call does not declare", () => {
  it("becomes a ServerError with the same message, and is its cause", () => {
    const narrow = narrowErrors<Client.ClientError>(clientErrorTags)
    const conflict = new Errors.RevisionConflictError("sessions", "u-1", 1, 2)
    const late = new Errors.ProjectionBehindError("totals", 1, 2, 5, "It is slow.")

    const error = narrow(conflict)

    assert.instanceOf(error, Errors.ServerError)
    const { cause, code, details, message, retryable, status } = error
    assert.deepStrictEqual(
      { cause, code, details, message, retryable, status },
      {
        cause: conflict,
        code: "REVISION_CONFLICT",
        details: conflict.details,
        message: conflict.message,
        retryable: true,
        status: 412
      }
    )
    // a subclass of a declared error is declared
    assert.strictEqual(narrow(late), late)
  })
})

/** The errors of calls that find nothing. */
const missing = Effect.gen(function* () {
  const client = yield* Client.Client
  const bucket = (yield* Kv.Kv).bucket("sessions")
  const errors = [
    yield* Effect.flip(client.getRun("run_1")),
    yield* Effect.flip(client.emitSync("order.placed", {})),
    yield* Effect.flip(client.deleteFunction("nobody")),
    yield* Effect.flip(bucket.get("u-1")),
    yield* Effect.flip((yield* Roles.Roles).get("role_1")),
    yield* Effect.flip((yield* Secrets.Secrets).get("API_KEY")),
    yield* Effect.flip((yield* Secrets.Secrets).set("API_KEY", "s"))
  ]
  return errors.map((error) => ({
    class: error.constructor.name,
    code: error.code,
    isMissing: error instanceof Errors.NotFoundError
  }))
})

const expected = [
  { class: "RunNotFoundError", code: "RUN_NOT_FOUND", isMissing: true },
  { class: "NoResultsError", code: "NO_RESULTS", isMissing: true },
  { class: "FunctionNotFoundError", code: "FUNCTION_NOT_FOUND", isMissing: true },
  { class: "BucketNotFoundError", code: "BUCKET_NOT_FOUND", isMissing: true },
  { class: "RoleNotFoundError", code: "ROLE_NOT_FOUND", isMissing: true },
  { class: "SecretNotFoundError", code: "SECRET_NOT_FOUND", isMissing: true },
  { class: "MasterKeyError", code: "MASTER_KEY_MISSING", isMissing: false }
]

describe("a missing thing", () => {
  it.live("has the same class inside the process", () =>
    Effect.gen(function* () {
      const inProcess = Engine.layerClient.pipe(
        Layer.provide(Engine.layer.pipe(Layer.provide(Store.layerSqlite({ filename: ":memory:" }))))
      )

      assert.deepStrictEqual(yield* Effect.provide(missing, inProcess), expected)
    })
  )

  it.live("has the same class over HTTP", () =>
    Effect.gen(function* () {
      const engine = yield* Effect.acquireRelease(
        Effect.promise(() => startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })),
        (it) => Effect.promise(() => it.close())
      )
      const over = Client.layerHttp({ serverUrl: engine.url! }).pipe(Layer.provide(FetchHttpClient.layer))

      assert.deepStrictEqual(yield* Effect.provide(missing, over), expected)
    })
  )

  it.live("has the same class over a channel, which a client opens after a few calls", () =>
    Effect.gen(function* () {
      const engine = yield* Effect.acquireRelease(
        Effect.promise(() => startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })),
        (it) => Effect.promise(() => it.close())
      )
      const over = Client.layerHttp({ serverUrl: engine.url! }).pipe(
        Layer.provide([FetchHttpClient.layer, Client.layerChannel])
      )
      const twice = Effect.andThen(
        Effect.andThen(
          Effect.forEach([1, 2, 3, 4, 5, 6], () => Client.Client.use((client) => client.health())),
          missing
        ),
        missing
      )

      assert.deepStrictEqual(yield* Effect.provide(twice, over), expected)
    })
  )
})
