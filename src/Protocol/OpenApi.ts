/**
 * Generates the OpenAPI document from the specs of calls. Only `npm run openapi` runs this: it writes the file `openapi.json`,
 * which servers send as `/openapi.json`.
 */
import { schemaOf } from "./ServerCodec.ts"
import { accessTo, failuresOf, type CallSpec, statusOf } from "./CallSpec.ts"
import { callsByNoun, otherCalls, upgradesByNoun } from "./AllCalls.ts"

const errorAnswer = (properties: { readonly [name: string]: object }, required: ReadonlyArray<string>) => ({
  description: "Error",
  content: {
    "application/json": { schema: { type: "object", properties, required, additionalProperties: false } }
  }
})
const string = { type: "string" }
const errorAnswers = {
  rest: errorAnswer({ error: string, message: string, code: string, details: {} }, [
    "error",
    "message",
    "code"
  ]),
  connect: errorAnswer({ code: string, message: string, details: { type: "array", items: {} } }, [
    "code",
    "message"
  ])
}

const envelopeDescription =
  "The request is one ConnectRPC envelope, and the answer is a stream of envelopes. An envelope is one byte with flags, four bytes with the length of the JSON, and the JSON. The last envelope of the answer has flag 2, and its JSON is `{}` or `{ error: { code, message } }`"

/** Error statuses of every call. */
const anyCallStatuses = [400, 401, 403, 503]

const parameter = (location: "path" | "query" | "header", name: string) => ({
  name,
  in: location,
  schema: { type: "string" },
  required: location === "path"
})

/** The schema of the answer. A list is a bare array, or a page if the query asks for a page. */
const answerSchema = ({ answer, page }: CallSpec) => {
  const schema = answer === undefined ? undefined : schemaOf(answer, false)
  if (page === undefined || schema?.["type"] !== "array") return schema
  return {
    anyOf: [
      schema,
      {
        type: "object",
        properties: { [page]: schema, nextCursor: { type: "string" } },
        required: [page],
        additionalProperties: false
      }
    ]
  }
}

const noContent = { description: "<No Content>" }

/** An operation of the document: one call. `summary` is the comment above the spec of the call. */
const operation = (
  noun: string,
  name: string,
  spec: CallSpec,
  summary: string | undefined,
  isSocket: boolean
) => {
  const { body, headers = [], page, path, query = [] } = spec
  const schema = answerSchema(spec)
  const type = spec.type ?? (spec.streams === true ? "application/connect+json" : "application/json")
  const description = isSocket ? "A WebSocket. Each frame that the server sends contains" : "Success"
  const success = schema === undefined ? noContent : { description, content: { [type]: { schema } } }
  return {
    tags: [noun],
    operationId: `${noun}.${name}`,
    ...(summary === undefined ? {} : { summary }),
    // for a stream, the schema describes the JSON in the envelopes
    ...(spec.streams === true ? { description: envelopeDescription } : {}),
    parameters: [
      ...[...path.matchAll(/:(\w+)/g)].map(([, name = ""]) => parameter("path", name)),
      ...[...query, ...(page === undefined ? [] : ["limit", "cursor"])].map((name) =>
        parameter("query", name)
      ),
      ...headers.map((name) => parameter("header", name))
    ],
    ...(accessTo(spec) === "public" ? { security: [] } : {}),
    responses: {
      [isSocket ? 101 : statusOf(spec)]: success,
      ...(spec.mayBeNothing === true ? { 204: noContent } : {}),
      ...Object.fromEntries(
        [...anyCallStatuses, ...failuresOf(spec)].map((status) => [status, errorAnswers[spec.dialect]])
      )
    },
    ...(body === undefined
      ? {}
      : isSocket
        ? { "x-takes": schemaOf(body, true) }
        : { requestBody: { content: { [type]: { schema: schemaOf(body, true) } }, required: true } })
  }
}

/** The whole document. `summaries` contains the comment above each spec, under the name of the spec. */
export const openApiDocument = (summaries: { readonly [name: string]: string }) => {
  const paths: Record<string, Record<string, unknown>> = {}
  const addPaths = (
    nouns: { readonly [noun: string]: { readonly [name: string]: CallSpec } },
    isSocket: boolean
  ) => {
    for (const [noun, specs] of Object.entries(nouns)) {
      for (const [name, spec] of Object.entries(specs)) {
        const methods = (paths[spec.path.replace(/:(\w+)\*?/g, "{$1}")] ??= {})
        methods[spec.method.toLowerCase()] = operation(noun, name, spec, summaries[name], isSocket)
      }
    }
  }
  addPaths(callsByNoun, false)
  addPaths(upgradesByNoun, true)
  addPaths(otherCalls, false)
  return {
    openapi: "3.1.0",
    info: {
      title: "Ironflow",
      version: "0.0.1",
      description: "Durable workflows. Requests may spell their fields in lower camel case or in snake case."
    },
    components: {
      schemas: {},
      securitySchemes: {
        apiKey: {
          type: "http",
          scheme: "bearer",
          description: "An API key. A server without API keys answers everybody who can reach it."
        }
      }
    },
    security: [{ apiKey: [] }],
    paths,
    tags: [...new Set([...Object.keys(callsByNoun), ...Object.keys(otherCalls)])].map((name) => ({ name }))
  }
}
