/** Statements that are sent to Postgres together. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import pg from "pg"
import { vi } from "vitest"
import { configOf, postgresSettingsOf } from "../../../src/Engine/Store/Postgres/Driver.ts"
import { Session } from "../../../src/Engine/Store/Postgres/Session.ts"
import { takeSchema } from "../../postgres/Schemas.ts"

/** A session, and the connection that it is on. */
const open = Effect.gen(function* () {
  const options = yield* takeSchema
  const client = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const made = new pg.Client(configOf(postgresSettingsOf(options)))
      made.on("error", () => undefined)
      await made.connect()
      return made
    }),
    (made) => Effect.promise(() => made.end().catch(() => undefined))
  )
  return { client, session: new Session(client, { statements: 0, roundTrips: 0, commits: 0 }) }
})

const connected = (name: string, test: (connection: Effect.Success<typeof open>) => Promise<void>): void => {
  it.live(name, () =>
    Effect.scoped(Effect.flatMap(open, (connection) => Effect.promise(() => test(connection))))
  )
}

const DOUBLE = { name: "double", text: "SELECT CAST($1 AS BIGINT) * 2 AS twice, 'x' AS letter" }
const DIVIDE = { name: "divide", text: "SELECT 1 / CAST($1 AS BIGINT) AS parts" }
const codeOf = (result: PromiseSettledResult<unknown>): string =>
  result.status === "fulfilled" ? "none" : String(Object(result.reason).code)

describe("statements that are sent together", () => {
  connected("are answered in order, also when they are the same prepared statement", async ({ session }) => {
    const first = session.wait(Promise.all([1, 2, 3].map((n) => session.send(DOUBLE, [n]))))
    // sent before the first ones are answered
    await Promise.resolve()
    const second = session.wait(session.send(DOUBLE, [4], true))
    assert.deepStrictEqual(
      (await first).map(({ rows }) => rows),
      [[{ twice: 2, letter: "x" }], [{ twice: 4, letter: "x" }], [{ twice: 6, letter: "x" }]]
    )
    assert.deepStrictEqual((await second).rows, [[8, "x"]])
  })

  connected(
    "are executed up to the first that fails, and the session continues to work",
    async ({ session }) => {
      for (const _ of ["not prepared yet", "prepared perhaps"]) {
        const results = await session.wait(
          Promise.allSettled([
            session.send(DOUBLE, [1]),
            session.send(DIVIDE, [0]),
            session.send(DOUBLE, [2])
          ])
        )
        assert.deepStrictEqual(results.map(codeOf), ["none", "22012", "25P02"])
      }
      assert.deepStrictEqual((await session.wait(session.send(DIVIDE, [1]))).rows, [{ parts: 1 }])
    }
  )

  connected("all fail with the error of the connection when the connection is lost", async ({ session }) => {
    const results = Promise.allSettled([
      session.send({ name: "", text: "SELECT pg_terminate_backend(pg_backend_pid())" }),
      session.send(DOUBLE, [1])
    ])
    const codes = (await session.wait(results)).map(codeOf)
    assert.deepStrictEqual(codes, ["57P01", "57P01"])
    const [late] = await session.wait(Promise.allSettled([session.send(DOUBLE, [1])]))
    assert.strictEqual(late?.status, "rejected")
  })

  connected("send every kind of value unchanged, also in arrays", async ({ session }) => {
    const texts = ["", "plain", 'quo"ted', "back\\slash", "NULL", "{a,b}", "ü€\u{1F600}", null]
    const bytes = [new Uint8Array([0, 92, 34, 255]), null, new Uint8Array(0)]
    const numbers = [0, -1, Number.MAX_SAFE_INTEGER, null]
    const { rows } = await session.wait(
      session.send(
        {
          name: "",
          text: `SELECT (SELECT json_agg(t) FROM unnest(CAST($1 AS TEXT[])) AS t) AS texts,
            (SELECT json_agg(encode(b, 'hex')) FROM unnest(CAST($2 AS BYTEA[])) AS b) AS bytes,
            (SELECT json_agg(n) FROM unnest(CAST($3 AS BIGINT[])) AS n) AS numbers, CAST($4 AS BYTEA) AS alone`
        },
        [texts, bytes, numbers, new Uint8Array([1, 2])]
      )
    )
    assert.deepStrictEqual(JSON.parse(rows[0].texts), texts)
    assert.deepStrictEqual(JSON.parse(rows[0].bytes), ["005c22ff", null, ""])
    assert.deepStrictEqual(JSON.parse(rows[0].numbers), numbers)
    assert.deepStrictEqual(rows[0].alone, new Uint8Array([1, 2]))
  })

  connected(
    "end the driver's timers when they are answered, and when they fail",
    async ({ client, session }) => {
      // the timers of these statements are recognized by this time
      const queryTimeout = 34_567_890
      Object.assign(Object(client).connectionParameters, { query_timeout: queryTimeout })
      const set = vi.spyOn(globalThis, "setTimeout")
      const clear = vi.spyOn(globalThis, "clearTimeout")
      try {
        await session.wait(session.send(DOUBLE, [1]))
        await session.wait(Promise.allSettled([session.send(DIVIDE, [0])]))
        const timers = set.mock.results.filter((_, i) => set.mock.calls[i]?.[1] === queryTimeout)
        const cleared = clear.mock.calls.map(([timer]) => timer)
        assert.strictEqual(timers.length, 2)
        for (const { value } of timers) assert.include(cleared, value)
      } finally {
        set.mockRestore()
        clear.mockRestore()
      }
    }
  )

  connected("are not sent when they are discarded", async ({ session }) => {
    const failed = Promise.allSettled([session.send(DOUBLE, [1])])
    session.discard()
    assert.deepStrictEqual((await failed).map(codeOf), ["25P02"])
    assert.strictEqual((await session.wait(session.send(DOUBLE, [2]))).rowCount, 1)
  })

  connected(
    "fail one by one: one whose result cannot be read does not affect the others",
    async ({ session }) => {
      const results = await session.wait(
        Promise.allSettled([
          session.send({ name: "", text: "SELECT CAST(9007199254740993 AS BIGINT) AS big" }),
          session.send(DOUBLE, [1])
        ])
      )
      assert.deepStrictEqual(
        results.map(({ status }) => status),
        ["rejected", "fulfilled"]
      )
    }
  )
})
