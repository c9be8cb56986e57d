/**
 * Generates `/openapi.json` from the endpoints. `npm run openapi` writes `openapi.json`, which servers send; no server
 * generates it.
 */
import { schemaOf } from "./ServerCodec.ts"
import { accessTo, failuresOf, type EndpointSpec, statusOf } from "./EndpointSpec.ts"
import { calls, others, upgrades } from "./AllEndpoints.ts"

const failureOf = (properties: { readonly [name: string]: object }, required: ReadonlyArray<string>) => ({
  description: "Error",
  content: {
    "application/json": { schema: { type: "object", properties, required, additionalProperties: false } }
  }
})
const string = { type: "string" }
const failures = {
  rest: failureOf({ error: string, message: string, code: string, details: {} }, [
    "error",
    "message",
    "code"
  ]),
  connect: failureOf({ code: string, message: string, details: { type: "array", items: {} } }, [
    "code",
    "message"
  ])
}

const inEnvelopes =
  "One envelope of ConnectRPC asks, and the answer is a stream of them: flags in one byte, the length in four, and the JSON. The last one has flag 2, and `{}` or `{ error: { code, message } }`"

/** Error statuses of every call. */
const ofAnyCall = [400, 401, 403, 503]

const parameter = (place: "path" | "query" | "header", name: string) => ({
  name,
  in: place,
  schema: { type: "string" },
  required: place === "path"
})

/** The answer; a list is a bare array, or a page if the query asks for one. */
const answerOf = ({ answer, page }: EndpointSpec) => {
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

/** An operation of the document. `summary` is the comment above the endpoint. */
const operation = (
  noun: string,
  name: string,
  endpoint: EndpointSpec,
  summary: string | undefined,
  isSocket: boolean
) => {
  const { body, headers = [], page, path, query = [] } = endpoint
  const schema = answerOf(endpoint)
  const type = endpoint.type ?? (endpoint.streams === true ? "application/connect+json" : "application/json")
  const description = isSocket ? "A WebSocket; in each of its frames is" : "Success"
  const success = schema === undefined ? noContent : { description, content: { [type]: { schema } } }
  return {
    tags: [noun],
    operationId: `${noun}.${name}`,
    ...(summary === undefined ? {} : { summary }),
    // the schema describes the JSON in the envelopes
    ...(endpoint.streams === true ? { description: inEnvelopes } : {}),
    parameters: [
      ...[...path.matchAll(/:(\w+)/g)].map(([, name = ""]) => parameter("path", name)),
      ...[...query, ...(page === undefined ? [] : ["limit", "cursor"])].map((name) =>
        parameter("query", name)
      ),
      ...headers.map((name) => parameter("header", name))
    ],
    ...(accessTo(endpoint) === "public" ? { security: [] } : {}),
    responses: {
      [isSocket ? 101 : statusOf(endpoint)]: success,
      ...(endpoint.mayBeNothing === true ? { 204: noContent } : {}),
      ...Object.fromEntries(
        [...ofAnyCall, ...failuresOf(endpoint)].map((status) => [status, failures[endpoint.dialect]])
      )
    },
    ...(body === undefined
      ? {}
      : isSocket
        ? { "x-takes": schemaOf(body, true) }
        : { requestBody: { content: { [type]: { schema: schemaOf(body, true) } }, required: true } })
  }
}

/** The document. `summaries` has the comment above each endpoint. */
export const openApiDocument = (summaries: { readonly [name: string]: string }) => {
  const paths: Record<string, Record<string, unknown>> = {}
  const add = (
    nouns: { readonly [noun: string]: { readonly [name: string]: EndpointSpec } },
    isSocket: boolean
  ) => {
    for (const [noun, endpoints] of Object.entries(nouns)) {
      for (const [name, endpoint] of Object.entries(endpoints)) {
        const methods = (paths[endpoint.path.replace(/:(\w+)\*?/g, "{$1}")] ??= {})
        methods[endpoint.method.toLowerCase()] = operation(noun, name, endpoint, summaries[name], isSocket)
      }
    }
  }
  add(calls, false)
  add(upgrades, true)
  add(others, false)
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
          description: "An API key. A server that has none answers everybody who reaches it."
        }
      }
    },
    security: [{ apiKey: [] }],
    paths,
    tags: [...new Set([...Object.keys(calls), ...Object.keys(others)])].map((name) => ({ name }))
  }
}
