/** Calls of clients about runs over HTTP. */
import * as Effect from "effect/Effect"
import type { ClientApi, EffectKind, Run, RunStep } from "../../Client/Client.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import { checked } from "../../CheckAsEffect.ts"
import {
  eventOfData,
  mayLackInputs,
  mayKnowEvent,
  mayKnowInput,
  visibleTo
} from "../../Engine/Access/RunAccess.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import type { PageQuery } from "../../Engine/Pages.ts"
import type { Visibility } from "../../Engine/Runs/RunSearch.ts"
import type { GiveUp } from "../../Engine/Runs/AwaitEnd.ts"
import { type IronflowError, StepNotFoundError, ValidationError } from "../../Errors.ts"
import { MAX_WAIT_MS } from "../../Protocol/Http/Turns.ts"
import { encoder } from "../../Protocol/ServerCodec.ts"
import type { ListRuns } from "../../Protocol/RunLists.ts"
import type { CallSpec } from "../../Protocol/CallSpec.ts"
import { type CountRunsOptions, callSpecs as countSpecs } from "../../Protocol/RunCounts.ts"
import { callSpecs as forkSpecs } from "../../Protocol/RunForks.ts"
import { encodeRun, RunAnswer, type RunId, callSpecs, type WireRun } from "../../Protocol/Runs.ts"
import { pagedReply } from "../Http/PagedReply.ts"
import { type Call, json, noContent, type Reply, type Route, variable } from "../Http/Route.ts"
import { answerRoute, pageRoute, bodyRoute, replyRoute, withBody } from "./CallRoute.ts"
import { checkBodyMembers } from "./RequestSpelling.ts"
import { listOptionsOf, readFilters, readListBody, readListQuery } from "./RunListRequest.ts"
import { show } from "../../Show.ts"

type Api = Raw<ClientApi<EffectKind>>

/** Makes the routes of runs. `giveUpAfter` limits how long calls wait for a run. */
export const runRoutes = (
  engine: EngineService,
  giveUpAfter: (ms: number) => GiveUp
): ReadonlyArray<Route> => {
  const apiOf = (call: Call): Api => engine.client(call.environment)
  const hideDeniedInputs = makeHideDeniedInputs(engine)
  /**
   * Answers with what the caller may read of a run: a caller who is allowed to control a run is not always allowed to
   * read it.
   */
  const asReadable = (call: Call, run: Run): Effect.Effect<Run, IronflowError> =>
    call.caller?.may("run:read", `run:${run.id}`, call.environment) === false
      ? Effect.succeed(withoutData(run))
      : Effect.map(hideDeniedInputs(call, [run]), ([shown = run]) => shown)

  /** Makes the route of a call about one run. Some clients send the id of the run as `id`, and some as `runId`. */
  const runRoute = <A, B extends RunId>(
    spec: CallSpec<A, B>,
    what: string,
    handle: (api: Api, id: string, body: B, call: Call) => Effect.Effect<A, IronflowError>
  ): Route =>
    bodyRoute(
      spec,
      what,
      withRunId(what, (id, body, call) => handle(apiOf(call), id, body, call))
    )
  const controlRoute = <B extends RunId>(
    spec: CallSpec<WireRun, B>,
    what: string,
    control: (api: Api, id: string, body: B, call: Call) => Effect.Effect<Run, IronflowError>
  ): Route =>
    runRoute(spec, what, (api, id, body, call) =>
      Effect.map(
        Effect.flatMap(control(api, id, body, call), (run) => asReadable(call, run)),
        encodeRun
      )
    )

  const stepsOf = (call: Call, id: string, page: PageQuery) =>
    Effect.map(engine.runs.stepsPage(call.environment, id, page), ({ items, ...next }) => ({
      items: items.map((step) => hideDeniedEvent(call, step)),
      ...next
    }))
  const replySteps = pagedReply(callSpecs.getRunSteps)

  const list = (request: ListRuns, call: Call) =>
    Effect.gen(function* () {
      const options = yield* checked(() => listOptionsOf(request))
      const { damaged = [], ...page } = yield* engine.runs.list(
        call.environment,
        options,
        visibleTo(call.caller, call.environment)
      )
      const shownRuns = page.runs.filter(({ id }) => call.shows(id))
      const shownDamaged = damaged.filter(({ id }) => call.shows(id))
      const hiddenCount = page.runs.length - shownRuns.length + (damaged.length - shownDamaged.length)
      const runs = yield* hideDeniedInputs(call, shownRuns)
      return {
        ...page,
        runs: runs.map(encodeRun),
        ...(shownDamaged.length === 0 ? {} : { damaged: shownDamaged }),
        totalCount: page.totalCount - hiddenCount
      }
    })

  return [
    runRoute(callSpecs.getRun, "GetRun", (api, id, _, call) =>
      Effect.map(
        Effect.flatMap(api.getRun(id), (run) => hideDeniedInputs(call, [run])),
        ([run]) => encodeRun(run!)
      )
    ),
    answerRoute(callSpecs.listRuns, (call) =>
      Effect.flatMap(
        checked(() => readListBody(call.body)),
        (request) => list(request, call)
      )
    ),
    answerRoute(callSpecs.restRuns, (call) =>
      Effect.flatMap(
        checked(() => readListQuery(call.query)),
        (request) => list(request, call)
      )
    ),
    bodyRoute(countSpecs.countRuns, "CountRuns", ({ by, filters, ...how }, call) =>
      Effect.flatMap(
        checked(() => {
          checkBodyMembers(countSpecs.countRuns.body!, call.body, "CountRuns")
          return {
            ...(filters === undefined ? {} : listOptionsOf(readFilters("CountRuns", filters))),
            // the engine refuses a value that is not valid
            by: by as CountRunsOptions["by"],
            ...how
          }
        }),
        (options) => engine.runs.count(call.environment, options, visibleRuns(call))
      )
    ),
    controlRoute(callSpecs.cancelRun, "CancelRun", (api, id, { reason }) => api.cancelRun(id, reason)),
    controlRoute(callSpecs.retryRun, "RetryRun", (api, id, { fromStep }) =>
      api.retryRun(id, nonEmpty(fromStep))
    ),
    controlRoute(callSpecs.resumeRun, "ResumeRun", resumeRun),
    controlRoute(callSpecs.restResumeRun, "Resume", resumeRun),
    runRoute(callSpecs.pauseRun, "PauseRun", (api, id, { reason }, call) =>
      Effect.map(
        Effect.flatMap(api.pauseRun(id, reason), (run) => asReadable(call, run)),
        (run) => ({
          status: run.status === "paused" ? ("paused" as const) : ("pause_requested" as const),
          run: encodeRun(run)
        })
      )
    ),
    replyRoute(
      callSpecs.getRunSteps,
      withBody(
        callSpecs.getRunSteps,
        "GetRunSteps",
        withRunId("GetRunSteps", (id, _, call) => replySteps(call.query, (page) => stepsOf(call, id, page)))
      )
    ),
    pageRoute(callSpecs.restRunSteps, (call, page) => stepsOf(call, variable(call, "id"), page)),
    pageRoute(
      callSpecs.runAudit,
      (call, page) =>
        Effect.map(
          engine.runs.auditPage(call.environment, variable(call, "id"), page),
          ({ items, ...next }) => ({
            items: items.map((event) => ({ ...event, details: hideDeniedEvent(call, event.details) })),
            ...next
          })
        ),
      (call) => ({ what: `events of run ${variable(call, "id")}` })
    ),
    pageRoute(
      callSpecs.runLogs,
      (call, page) => engine.runs.logsPage(call.environment, variable(call, "id"), page),
      (call) => ({ what: `lines of run ${variable(call, "id")}` })
    ),
    answerRoute(callSpecs.explainRun, (call) => apiOf(call).explain(variable(call, "id"))),
    replyRoute(callSpecs.waitForRun, (call) => waitForRun(engine, call, giveUpAfter)),
    bodyRoute(forkSpecs.forkRun, "ForkRun", ({ data, from, steps }, call) =>
      Effect.map(
        Effect.flatMap(
          engine.operations.in(call.environment, call.caller).forkRun(variable(call, "id"), {
            ...(from === undefined ? {} : { from }),
            ...(steps === undefined ? {} : { steps }),
            ...(data === undefined ? {} : { data })
          }),
          (run) => asReadable(call, run)
        ),
        encodeRun
      )
    ),
    bodyRoute(forkSpecs.moveRun, "MoveRun", ({ version }, call) =>
      Effect.map(
        Effect.flatMap(
          engine.operations
            .in(call.environment, call.caller)
            .moveRun(variable(call, "id"), version === undefined ? {} : { version }),
          (run) => asReadable(call, run)
        ),
        encodeRun
      )
    ),
    bodyRoute(callSpecs.patchStep, "PatchStep", (request, call) => patchStep(apiOf(call), request, call)),
    bodyRoute(callSpecs.restPatchStep, "Patch", (request, call) => patchStep(apiOf(call), request, call))
  ]
}

/** What the caller may see of runs; `undefined` when that is everything. */
const visibleRuns = ({ caller, environment }: Call): Visibility | undefined =>
  caller === undefined || (caller.mayAll("run:read") && !mayLackInputs(caller))
    ? undefined
    : visibleTo(caller, environment)

const nonEmpty = (text: string | undefined): string | undefined => (text === "" ? undefined : text)

/** Leaves out the inputs that the caller may not have: see `mayKnowInput`. */
const makeHideDeniedInputs =
  (engine: EngineService) =>
  (
    { caller, environment }: Call,
    runs: ReadonlyArray<Run>
  ): Effect.Effect<ReadonlyArray<Run>, IronflowError> =>
    caller === undefined || !mayLackInputs(caller)
      ? Effect.succeed(runs)
      : Effect.forEach(runs, (run) =>
          Effect.map(engine.runs.startedBy(environment, run.id), (event) => {
            if (mayKnowInput(caller, environment, run, event)) return run
            const { input: _, ...rest } = run
            return rest
          })
        )

/** Leaves out the output of a step that has waited for an event, if a policy denies the caller that event. */
const hideDeniedEvent = <A extends { readonly kind?: unknown; readonly output?: unknown }>(
  { caller, environment }: Call,
  step: A
): Omit<A, "output"> => {
  const { output, ...rest } = step
  const event = step.kind === "waitForEvent" ? eventOfData(output) : undefined
  return event === undefined || mayKnowEvent(caller, environment, event) ? step : rest
}

/** What a caller sees of a run that it has started: no data when a policy denies the caller to read the run. */
export const readableRun = ({ caller, environment }: Call, run: Run): Run =>
  (caller?.isNotDenied("run:read", `run:${run.id}`, environment) ?? true) ? run : withoutData(run)

const withoutData = ({ error: _, input: __, output: ___, ...rest }: Run): Run => rest

/** Resumes a run. A failed run is retried. */
const resumeRun = (
  api: Api,
  id: string,
  { fromStep }: { readonly fromStep?: string },
  { caller, environment }: Call
): Effect.Effect<Run, IronflowError> =>
  Effect.gen(function* () {
    if (caller?.isDenied("run:retry") === true) {
      const { status } = yield* api.getRun(id)
      yield* checked(
        () => status === "paused" || caller.checkNotDenied("run:retry", `run:${id}`, environment)
      )
    }
    return yield* api.resumeRun(id, nonEmpty(fromStep))
  })

/** Passes the id of a run on to `handle`. Fails with `ValidationError` when the request has none. */
const withRunId =
  <A, B extends RunId>(
    what: string,
    handle: (id: string, body: B, call: Call) => Effect.Effect<A, IronflowError>
  ) =>
  (body: B, call: Call): Effect.Effect<A, IronflowError> => {
    const id = body.id || body.runId
    return id
      ? handle(id, body, call)
      : Effect.fail(new ValidationError(`${what}: \`id\` must be the id of a run, got ${show(id)}`))
  }

const encodeAnswer = encoder(RunAnswer)

const waitForRun = (
  engine: EngineService,
  call: Call,
  giveUpAfter: (ms: number) => GiveUp
): Effect.Effect<Reply, IronflowError> =>
  Effect.suspend(() => {
    const id = variable(call, "id")
    const text = call.query.get("timeout")
    const timeout = text === null ? MAX_WAIT_MS : Number(text)
    if (!(timeout >= 0) || text?.trim() === "") {
      return Effect.fail(
        new ValidationError(
          `\`timeout\` must be a number of milliseconds, at least 0, got "${text?.slice(0, 64)}"`
        )
      )
    }
    const giveUp = giveUpAfter(Math.min(timeout, MAX_WAIT_MS))
    return Effect.flatMap(engine.runs.awaitEnd(call.environment, id, giveUp), (run) =>
      run === undefined
        ? Effect.succeed(noContent)
        : Effect.map(makeHideDeniedInputs(engine)(call, [run]), ([run]) =>
            json(encodeAnswer(encodeRun(run!)))
          )
    )
  })

const patchStep = (
  api: Api,
  {
    stepId,
    output,
    reason
  }: { readonly stepId: string; readonly output?: unknown; readonly reason?: string },
  { caller, environment }: Call
): Effect.Effect<RunStep, IronflowError> =>
  Effect.gen(function* () {
    const runId = stepId.slice(0, stepId.indexOf(":"))
    yield* checked(() => caller?.checkNotDenied("run:patch", `run:${runId}`, environment))
    yield* api.patchStep(stepId, output ?? null, reason)
    const steps = yield* api.getRunSteps(runId)
    const step = steps.find(({ id }) => id === stepId)
    return step ?? (yield* new StepNotFoundError(runId, stepId))
  })
