/** Keys on legacy servers: values without a content type, errors for conditions, and calls that these servers lack. */
import http from "node:http"
import { once } from "node:events"
import type { AddressInfo } from "node:net"
import { createClient, type IronflowClient } from "@ironflow/node"
import { afterEach, beforeEach, expect, it } from "vitest"

let server: http.Server
let client: IronflowClient
let answer: { readonly status: number; readonly body: unknown }
let asked: Array<string>
let written: Array<readonly [contentType: string | undefined, body: string]>
beforeEach(async () => {
  asked = []
  written = []
  server = http.createServer(async (request, response) => {
    asked.push(request.url ?? "")
    const chunks: Array<Buffer> = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    written.push([request.headers["content-type"], Buffer.concat(chunks).toString()])
    response.writeHead(answer.status, { "content-type": "application/json" }).end(JSON.stringify(answer.body))
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  client = createClient({ serverUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
})
afterEach(async () => {
  await client.close()
  server.closeAllConnections()
  server.close()
})

const bytes = (...values: ReadonlyArray<number>): string => Buffer.from(values).toString("base64")

it.each([
  ["base64 of JSON", Buffer.from('{"a":1}').toString("base64"), { a: 1 }],
  ["base64 of text", Buffer.from("plain").toString("base64"), "plain"],
  ["base64 of bytes", bytes(255, 0), new Uint8Array([255, 0])],
  ["text that is not base64", "not base64!", "not base64!"],
  ["plain JSON", { a: 1 }, { a: 1 }]
])("%s is read correctly", async (_, value, expected) => {
  answer = {
    status: 200,
    body: { key: "k", value, revision: 3, created_at: "2026-01-01T00:00:00Z", operation: "put" }
  }

  expect(await client.kv().bucket("b").get("k")).toMatchObject({ value: expected, revision: 3 })
})

it.each([
  ["does not name the revision", { error: "precondition failed" }, undefined],
  ["names the revision in its message", { error: "wrong last sequence: 12" }, 12]
])("a 412 that %s is a conflict", async (_, body, actual) => {
  answer = { status: 412, body }

  await expect(client.kv().bucket("b").update("k", 1, 7)).rejects.toMatchObject({
    _tag: "RevisionConflictError",
    expected: 7,
    actual
  })
})

it("404 and 409 become the errors of the call", async () => {
  const bucket = client.kv().bucket("b")
  answer = { status: 404, body: { error: "not found" } }
  await expect(bucket.get("k")).rejects.toMatchObject({ _tag: "KeyNotFoundError" })
  await expect(bucket.put("k", 1)).rejects.toMatchObject({ _tag: "BucketNotFoundError" })
  await expect(client.config().get("c")).rejects.toMatchObject({ _tag: "ConfigNotFoundError" })
  await expect(bucket.history("k")).rejects.toMatchObject({ code: "UNIMPLEMENTED" })
  await expect(bucket.write([{ op: "put", key: "k", value: 1 }])).rejects.toMatchObject({
    code: "UNIMPLEMENTED"
  })
  answer = { status: 409, body: { error: "exists" } }
  await expect(client.kv().createBucket({ name: "b" })).rejects.toMatchObject({ _tag: "BucketExistsError" })
})

it("a server without pages is called once, and a server that repeats a page does not cause a loop", async () => {
  const bucket = client.kv().bucket("b")
  answer = { status: 200, body: { keys: ["a", "b-1", 7], count: 3 } }
  expect(await bucket.listKeys()).toEqual(["a", "b-1"])
  // the server may ignore the filter
  expect(await bucket.listKeys("b-*")).toEqual(["b-1"])
  answer = { status: 200, body: { configs: [{ name: "c", revision: 1 }] } }
  expect(await client.config().list()).toEqual([{ name: "c", revision: 1, updatedAt: "" }])
  expect(asked).toHaveLength(3)

  answer = { status: 200, body: { keys: ["a"], count: 1, nextCursor: "a" } }
  expect(await bucket.listKeys()).toEqual(["a", "a"])
  expect(asked).toHaveLength(5)
})

it("values are sent as strings, bytes and JSON", async () => {
  answer = { status: 200, body: { revision: 1 } }
  const bucket = client.kv().bucket("b")

  await bucket.put("text", "a cart")
  await bucket.put("bytes", new Uint8Array([104, 105]))
  await bucket.put("json", { n: 1 })
  await bucket.put("null", null)

  expect(written).toEqual([
    ["application/octet-stream", "a cart"],
    ["application/octet-stream", "hi"],
    ["application/json", '{"n":1}'],
    ["application/json", "null"]
  ])
})
