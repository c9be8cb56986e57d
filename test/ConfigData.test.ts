/** Names and data of configurations follow the same rules over HTTP and in the process. */
import { assert, it } from "vitest"
import { startEngine } from "@ironflow/node/engine"
import { createClient } from "../src/Promise/Client.ts"

const problems = {
  "..": '".." cannot be the name of a configuration, since it has a special meaning in URLs: choose another name',
  " ": "The name of a configuration must not be empty or blank"
}

it.each(Object.entries(problems))(
  "%j is refused as a name by both APIs, and nothing is sent",
  async (name, problem) => {
    await using engine = await startEngine({ filename: ":memory:", functions: [], logger: false })
    await using remote = createClient({ serverUrl: "http://127.0.0.1:1" })

    for (const client of [engine.client, remote]) {
      const error = await client
        .config()
        .get(name)
        .catch((error: unknown) => error)

      assert.propertyVal(error, "name", "ValidationError")
      assert.propertyVal(error, "message", problem)
    }
  }
)

it("a value that is not an object in JSON is refused as a configuration by both APIs", async () => {
  await using engine = await startEngine({ filename: ":memory:", functions: [], logger: false })
  await using remote = createClient({ serverUrl: "http://127.0.0.1:1" })

  for (const [data, got] of [
    [{ toJSON: () => 5 }, "something whose JSON is not an object"],
    [undefined, "undefined"],
    [5, "a number"]
  ] as const) {
    for (const client of [engine.client, remote]) {
      const error = await client
        .config()
        .set("prices", data as object)
        .catch((error: unknown) => error)

      assert.propertyVal(error, "message", `Configuration "prices" must be an object, got ${got}`)
    }
  }
})
