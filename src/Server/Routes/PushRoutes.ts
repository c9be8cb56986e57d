/** Calls of push handlers over HTTP: reports during their turns, and the registration of endpoints. */
import * as Effect from "effect/Effect"
import { EndpointNotFoundError, ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import { callSpecs, type TurnUpdate } from "../../Protocol/Push.ts"
import { permittedReports, checkRegistering } from "../../Engine/Access/WorkerAccess.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { logLeftOut } from "../../Engine/Workers/LogLeftOut.ts"
import { keyEnvironment, type Call, environmentOfRun, json, type Route, variable } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"
import { answerRoute, listRoute, replyRoute } from "./CallRoute.ts"
import { type LeftOut, readTurnReport } from "../../Protocol/TurnReports.ts"
import { show } from "../../Show.ts"

/** Makes the routes. `stopSignal` succeeds when the server is about to stop. Waiting calls then end. */
export const pushRoutes = (engine: EngineService, stopSignal: Effect.Effect<void>): ReadonlyArray<Route> => [
  replyRoute(callSpecs.pushTurn, (call) =>
    Effect.gen(function* () {
      const jobId = variable(call, "jobId")
      const { leftOut, update: requested } = yield* checked(() => readUpdate(call, jobId))
      yield* logLeftOut(`the push handler with run ${requested.runId}`, leftOut)
      const environment = yield* environmentOfRun(engine.runs, call, requested.runId, "*")
      const { toAnswers, reports } = permittedReports(call.caller, environment, [
        { jobId, runId: requested.runId, ops: requested.ops }
      ])
      const update = { ...requested, ops: reports[0]?.ops ?? [] }
      // a report is stored even if the client hangs up; a call that only waits for notices ends when the client hangs up
      const updated = yield* update.ops.length > 0
        ? Effect.uninterruptible(engine.push.update(jobId, update, keyEnvironment(call)))
        : Effect.raceFirst(
            engine.push.update(jobId, update, keyEnvironment(call)),
            Effect.as(stopSignal, { ack: { _tag: "Accepted" as const, outcomes: [] }, notices: [] })
          )
      return json({ ...updated, ack: toAnswers([updated.ack])[0] })
    })
  ),
  answerRoute(callSpecs.registerPushEndpoint, (call) =>
    Effect.gen(function* () {
      const url = yield* checked(() => readUrl(isObject(call.body) ? call.body.url : undefined))
      const registered = yield* engine.push.register(call.environment, url, (functions) => {
        for (const fn of functions) checkRegistering(call.caller, call.environment, fn)
      })
      const missing = registered.missing.filter(call.shows)
      return {
        url,
        functions: registered.functions.map(({ triggers, ...fn }) => ({ ...fn, triggers: [...triggers] })),
        ...(missing.length === 0 ? {} : { missing })
      }
    })
  ),
  listRoute(callSpecs.listPushEndpoints, (call) =>
    Effect.sync(() =>
      engine.push
        .list(call.environment)
        .map((endpoint) => ({
          ...endpoint,
          id: endpoint.url,
          functionIds: endpoint.functionIds.filter(call.shows)
        }))
        .filter(({ functionIds }) => functionIds.length > 0)
    )
  ),
  answerRoute(callSpecs.removePushEndpoint, (call) =>
    Effect.gen(function* () {
      const url = yield* checked(() => {
        const url = readUrl(call.query.get("url"))
        const endpoint = engine.push
          .list(call.environment)
          .find((listed) => listed.url === (URL.parse(url)?.href ?? url))
        for (const id of endpoint?.functionIds ?? []) {
          call.caller?.check("function:register", `function:${id}`, call.environment)
        }
        return url
      })
      if (!(yield* engine.push.remove(call.environment, url)))
        yield* Effect.fail(new EndpointNotFoundError(url))
    })
  )
]

const readUrl = (url: unknown): string => {
  if (typeof url === "string" && url !== "") return url
  throw new ValidationError(`\`url\` of the endpoint must be a string that is not empty, got ${show(url)}`)
}

const readUpdate = ({ body }: Call, jobId: string): LeftOut & { readonly update: TurnUpdate } => {
  if (!isObject(body)) throw new ValidationError("Update: the body must be an object")
  const { late, logs, ops, pauses, runId, waitMs } = body
  const { leftOut, report } = readTurnReport({ jobId, runId, ops, logs }, "Update")
  if (waitMs !== undefined && !(Number.isFinite(waitMs) && Number(waitMs) >= 0)) {
    throw new ValidationError(
      `Update: \`waitMs\` must be a number of milliseconds, at least 0, got ${show(waitMs)}`
    )
  }
  if (pauses !== undefined && typeof pauses !== "boolean") {
    throw new ValidationError(`Update: \`pauses\` must be true or false, got ${show(pauses)}`)
  }
  if (
    late !== undefined &&
    !(isObject(late) && typeof late.stepName === "string" && Number.isFinite(late.lingerMs))
  ) {
    throw new ValidationError(
      `Update: \`late\` must be an object with the string \`stepName\` and the number \`lingerMs\`, got ${show(late)}`
    )
  }
  // everything but `running`, which is read leniently, was checked above
  const { logs: _, ...others } = body as unknown as TurnUpdate
  return {
    leftOut,
    update: { ...others, ops: report.ops, ...(report.logs === undefined ? {} : { logs: report.logs }) }
  }
}
