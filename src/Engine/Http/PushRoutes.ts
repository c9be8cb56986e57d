/** What push handlers report over HTTP while their turns live, and how endpoints are registered. */
import * as Effect from "effect/Effect"
import { EndpointNotFoundError, ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import type { TurnUpdate } from "../../Protocol/Push.ts"
import { permitted } from "../Access/WorkerAccess.ts"
import type { EngineService } from "../Engine.ts"
import { LIST_PAGE, listReply, readPageQuery } from "../Pages.ts"
import { checkRegistering } from "./FunctionConfigs.ts"
import {
  boundTo,
  type Call,
  checked,
  environmentOfRun,
  json,
  noContent,
  type Route,
  route,
  variable
} from "./Route.ts"
import { checkReport } from "./TurnReports.ts"

/** `closing` succeeds when the server is about to stop: nobody should wait any longer. */
export const pushRoutes = (engine: EngineService, closing: Effect.Effect<void>): ReadonlyArray<Route> => [
  route(
    "pushTurn",
    (call) =>
      Effect.gen(function* () {
        const jobId = variable(call, "jobId")
        const read = yield* checked(() => readUpdate(call, jobId))
        const environment = yield* environmentOfRun(engine, call, read.runId, "*")
        const { answered, reports } = permitted(call.caller, environment, [
          { jobId, runId: read.runId, ops: read.ops }
        ])
        const update = { ...read, ops: reports[0]?.ops ?? [] }
        // what is reported is stored, whoever hangs up; what is waited for is not
        const updated = yield* update.ops.length > 0
          ? Effect.uninterruptible(engine.push.update(jobId, update, boundTo(call)))
          : Effect.raceFirst(
              engine.push.update(jobId, update, boundTo(call)),
              Effect.as(closing, { ack: { _tag: "Accepted" as const, outcomes: [] }, notices: [] })
            )
        return json({ ...updated, ack: answered([updated.ack])[0] })
      }),
    { fromWorker: true }
  ),
  route("registerPushEndpoint", (call) =>
    Effect.gen(function* () {
      const url = yield* checked(() => readUrl(isObject(call.body) ? call.body.url : undefined))
      const functions = yield* engine.push.register(call.environment, url, (functions) => {
        for (const fn of functions) checkRegistering(call, fn)
      })
      return json({ url, functions: functions.map(({ id, name, triggers }) => ({ id, name, triggers })) })
    })
  ),
  route("listPushEndpoints", (call) =>
    Effect.flatMap(
      checked(() => readPageQuery(call.query, LIST_PAGE)),
      (page) =>
        listReply(
          "endpoints",
          engine.push
            .list(call.environment)
            .map((endpoint) => ({
              ...endpoint,
              id: endpoint.url,
              functionIds: endpoint.functionIds.filter(call.shows)
            }))
            .filter(({ functionIds }) => functionIds.length > 0),
          page,
          ({ id: _, ...endpoint }) => endpoint
        )
    )
  ),
  route("removePushEndpoint", (call) =>
    Effect.gen(function* () {
      const url = yield* checked(() => {
        const url = readUrl(call.query.get("url"))
        const endpoint = engine.push
          .list(call.environment)
          .find((one) => one.url === (URL.parse(url)?.href ?? url))
        for (const id of endpoint?.functionIds ?? []) {
          call.caller?.check("function:register", `function:${id}`, call.environment)
        }
        return url
      })
      if (yield* engine.push.remove(call.environment, url)) return noContent
      return yield* Effect.fail(new EndpointNotFoundError(url))
    })
  )
]

const readUrl = (url: unknown): string => {
  if (typeof url === "string" && url !== "") return url
  throw new ValidationError("The endpoint needs a `url`")
}

const readUpdate = ({ body }: Call, jobId: string): TurnUpdate => {
  if (!isObject(body)) throw new ValidationError("Update: the body must be an object")
  const { late, ops, pauses, runId, waitMs } = body
  checkReport({ jobId, runId, ops }, "Update")
  if (waitMs !== undefined && !(Number.isFinite(waitMs) && Number(waitMs) >= 0)) {
    throw new ValidationError("Update: `waitMs` must be a number of milliseconds")
  }
  if (pauses !== undefined && typeof pauses !== "boolean") {
    throw new ValidationError("Update: `pauses` must be true or false")
  }
  if (
    late !== undefined &&
    !(isObject(late) && typeof late.stepName === "string" && Number.isFinite(late.lingerMs))
  ) {
    throw new ValidationError("Update: `late` must have `stepName` and `lingerMs`")
  }
  // every field has been checked
  return body as unknown as TurnUpdate
}
