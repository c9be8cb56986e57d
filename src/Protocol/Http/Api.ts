/**
 * The HTTP protocol as an `HttpApi`: what `/openapi.json` is made of, and what a client can be derived from.
 *
 * The server does not run on it: a call through `HttpApi` costs more than twice what it costs through the table of
 * endpoints, and its modules alone take longer to load than the client may. Both read the same table and schemas.
 */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import { SDK_VERSION } from "../../Version.ts"
import { type EndpointName, endpoints } from "./Endpoints.ts"
import * as Schemas from "./Schemas.ts"

/** Connect errors: `code` is one of ConnectRPC's. */
const ConnectFailure = Schema.Struct({
  code: Schema.String,
  message: Schema.String,
  details: Schema.optionalKey(Schema.Array(Schema.Unknown))
})

const RestFailure = Schema.Struct({
  error: Schema.String,
  message: Schema.String,
  code: Schema.String,
  details: Schema.optionalKey(Schema.Unknown)
})

const connectErrors = [400, 404, 503].map((status) => ConnectFailure.pipe(HttpApiSchema.status(status)))
const restErrors = [400, 404, 409, 503].map((status) => RestFailure.pipe(HttpApiSchema.status(status)))

const ID = { id: Schema.String }
const JOB = { id: Schema.String, jobId: Schema.String }

const connect = <Request extends Schema.Top, Response extends Schema.Top>(
  name: EndpointName,
  payload: Request,
  success: Response
) => HttpApiEndpoint.post(name, endpoints[name].path, { payload, success, error: connectErrors })
