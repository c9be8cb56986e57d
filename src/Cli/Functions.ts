/** `ironflow functions`: the functions that are registered with the server. */
import * as Effect from "effect/Effect"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Option from "effect/Option"
import { readData } from "./Emit.ts"
import { Client, type FunctionInfo } from "../Client/Client.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import * as pushCalls from "../Protocol/Push.ts"
import { oneLine, print, table } from "./Output.ts"
import { callServer, sendRequest } from "./ServerCalls.ts"
import { commandsOf, givenFlags } from "./OneCallCommands.ts"
import { textFlag } from "./TextFlag.ts"

const clientCommand = commandsOf(Client)

const list = clientCommand("list", {
  description: "List the functions that workers and push handlers have registered.",
  call: (client) => client.listFunctions(),
  json: (functions) => ({ functions }),
  text: (functions) =>
    functions.length === 0
      ? "There are no functions yet: start a worker, and its functions are registered."
      : table(
          ["FUNCTION", "VERSION", "CODE", "TRIGGERS", "UPDATED", "STATE"],
          functions.map((fn) => [
            fn.id,
            String(fn.version),
            fn.codeVersion,
            triggersOf(fn),
            fn.updatedAt,
            fn.paused === undefined ? "" : `paused since ${fn.paused.at}`
          ])
        )
})

const functionId = Argument.String("function-id").pipe(
  Argument.withDescription("The id of the function, as `functions list` shows it")
)

const remove = clientCommand("delete", {
  description:
    "Delete a function that is no longer in the code: events and schedules no longer start it. Its runs stay. A worker that still has the function registers it again.",
  parameters: { functionId },
  call: (client, { functionId }) => client.deleteFunction(functionId),
  json: (_, { functionId }) => ({ functionId }),
  text: (_, { functionId }) => `Function ${functionId} is deleted: nothing starts it any more. Its runs stay.`
}).pipe(Command.withExamples([{ command: "ironflow functions delete process-order" }]))

const pause = clientCommand("pause", {
  description:
    "Pause a function: its new runs wait until it is resumed, and its schedules start no runs. Runs that have begun continue. It stays paused when workers or the server restart.",
  parameters: {
    functionId,
    reason: textFlag("reason").pipe(
      Flag.withMetavar("TEXT"),
      Flag.withDescription("The reason; `runs why` shows it for every waiting run"),
      Flag.optional
    )
  },
  call: (client, { functionId, reason }) => client.pauseFunction(functionId, givenFlags({ reason })),
  text: ({ id, paused }) =>
    `Function ${id} has been paused since ${paused?.at}, by ${paused?.by}${paused?.reason === undefined ? "" : `: ${oneLine(paused.reason, 400)}`}; \`ironflow functions resume ${id}\` lets its runs begin.`
}).pipe(
  Command.withExamples([{ command: 'ironflow functions pause process-order --reason "the bank is down"' }])
)

const resume = clientCommand("resume", {
  description: "Let the runs of a paused function begin.",
  parameters: { functionId },
  call: (client, { functionId }) => client.resumeFunction(functionId),
  text: ({ id }) => `Function ${id} is no longer paused: its waiting runs begin.`
})

const run = Command.make(
  "run",
  {
    functionId,
    data: textFlag("data").pipe(
      Flag.withMetavar("JSON"),
      Flag.withDescription("The JSON that the handler gets as `event.data`; - reads it from standard input"),
      Flag.optional
    ),
    idempotencyKey: textFlag("idempotency-key").pipe(
      Flag.withMetavar("KEY"),
      Flag.withDescription("Starts no second run with the same key within 24 hours"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ data, functionId, idempotencyKey }) {
    const value = Option.isNone(data) ? undefined : yield* readData(data.value)
    const run = yield* callServer((client) =>
      client.runFunction(functionId, value, givenFlags({ idempotencyKey }))
    )
    yield* print(run, () => `Run ${run.id} of ${functionId} is ${run.status}.`)
  })
).pipe(
  Command.withDescription(
    "Start one run of a function now, without an event. The handler of a scheduled function gets the event that its schedule would send."
  ),
  Command.withExamples([
    { command: "ironflow functions run nightly-report" },
    { command: `ironflow functions run process-order --data '{"orderId":"o-17"}'` }
  ])
)

const history = clientCommand("history", {
  description:
    "List the versions of a function, newest first: what changed when, and how many unfinished runs each version has.",
  parameters: { functionId },
  call: (client, { functionId }) => client.functionHistory(functionId),
  json: (versions) => ({ versions }),
  text: (versions) =>
    table(
      ["VERSION", "SINCE", "CODE", "CHANGED", "LIVE RUNS"],
      versions.map(({ at, changed, codeVersion, liveRuns, version }) => [
        String(version),
        at,
        codeVersion,
        changed === undefined ? "" : changed.join(", "),
        liveRuns === 0 ? "" : String(liveRuns)
      ])
    )
})

const drain = clientCommand("drain", {
  description:
    "Show the old versions of the code: unfinished runs that are pinned to them, and the workers that have them. A worker can be removed when no run is pinned to its versions.",
  parameters: { functionId: functionId.pipe(Argument.optional) },
  call: (client, { functionId }) => client.liveVersions(Option.getOrUndefined(functionId)),
  json: (versions) => ({
    versions,
    drained: versions.every(({ isLatest, liveRuns }) => isLatest || liveRuns === 0)
  }),
  text: (versions) => {
    const oldVersions = versions.filter(({ isLatest, liveRuns }) => !isLatest && liveRuns > 0)
    const remaining = versions.filter(
      ({ isLatest, liveRuns, workerIds }) => !isLatest && (liveRuns > 0 || workerIds.length > 0)
    )
    // the latest version is listed too, since runs of the old versions can be moved to it
    const listed = versions.filter(
      (version) =>
        remaining.includes(version) ||
        (version.isLatest && remaining.some(({ functionId }) => functionId === version.functionId))
    )
    const unfinished = oldVersions.reduce((sum, { liveRuns }) => sum + liveRuns, 0)
    const summary =
      oldVersions.length === 0
        ? "No unfinished run belongs to an old version."
        : `${unfinished === 1 ? "1 unfinished run belongs to an old version" : `${unfinished} unfinished runs belong to old versions`}. ` +
          "Runs of a version that no worker has wait: start a worker with that version, or move these runs with `ironflow runs move --function FUNCTION`."
    const idle = versions.filter(
      ({ functionId, isLatest, workerIds }) =>
        isLatest &&
        workerIds.length === 0 &&
        versions.some((other) => other.functionId === functionId && other.workerIds.length > 0)
    )
    const hint =
      idle.length === 0
        ? ""
        : ` No worker has the latest version of ${idle.map(({ functionId }) => functionId).join(", ")}, whose triggers and schedules are in force: start a worker with the version that you want.`
    return listed.length === 0
      ? summary
      : `${table(
          ["FUNCTION", "CODE", "LATEST", "LIVE RUNS", "OLDEST", "WORKERS"],
          listed.map(({ codeVersion, functionId, isLatest, liveRuns, oldestRunId, workerIds }) => [
            functionId,
            codeVersion,
            isLatest ? "latest" : "",
            String(liveRuns),
            oldestRunId ?? "",
            workerIds.length === 0 ? "none" : workerIds.join(", ")
          ])
        )}\n\n${summary}${hint}`
  }
})

const url = Argument.String("url")

const register = Command.make(
  "register",
  { url },
  Effect.fnUntraced(function* ({ url }) {
    const answer = yield* sendRequest({
      method: "POST",
      path: pushCalls.registerPushEndpoint.path,
      body: JSON.stringify({ url }),
      what: `Registering ${url}`
    })
    const body = safeJsonParse(answer.text)
    const ids = (isObject(body) && Array.isArray(body.functions) ? body.functions : [])
      .filter(isObject)
      .map(({ id }) => String(id))
    const missing = isObject(body) && Array.isArray(body.missing) ? body.missing.map(String) : []
    yield* print({ url, functions: ids, ...(missing.length === 0 ? {} : { missing }) }, () => {
      const registered =
        ids.length === 0
          ? `The handler at ${url} has no functions.`
          : `Registered from ${url}, which the server calls from now on to run these functions: ${ids.join(", ")}.`
      return missing.length === 0 ? registered : `${registered}\n${sayMissing(missing)}`
    })
  })
).pipe(
  Command.withDescription(
    "Ask the push handler at a URL which functions it has, and register these. From then on the server calls the handler to run them, and signs each call with its signing key."
  ),
  Command.withExamples([{ command: "ironflow functions register https://shop.example.com/api/ironflow" }])
)

/** Says that functions which were registered from the URL before are no longer there. */
const sayMissing = (functionIds: ReadonlyArray<string>): string =>
  `It no longer has ${functionIds.join(", ")}, registered from there before. Runs of ${functionIds.length === 1 ? "this function" : "these functions"} wait until the handler has ` +
  `${functionIds.length === 1 ? "it" : "them"} again, or a worker or another handler registers ${functionIds.length === 1 ? "it" : "them"}. ` +
  "A function that is gone for good can be deleted with `ironflow functions delete FUNCTION`."

const unregister = Command.make(
  "unregister",
  { url },
  Effect.fnUntraced(function* ({ url }) {
    yield* sendRequest({
      method: "DELETE",
      path: `${pushCalls.removePushEndpoint.path}?url=${encodeURIComponent(url)}`,
      what: `Removing ${url}`
    })
    yield* print({ url }, () => `The server no longer calls ${url}.`)
  })
).pipe(
  Command.withDescription(
    "Stop calling the push handler at a URL. Its functions stay registered, and their runs wait until a worker or another push handler registers these functions."
  )
)

const listEndpoints = Command.make(
  "endpoints",
  {},
  Effect.fnUntraced(function* () {
    const answer = yield* sendRequest({
      method: "GET",
      path: pushCalls.listPushEndpoints.path,
      what: "Listing the endpoints"
    })
    const body = safeJsonParse(answer.text)
    const endpoints = isObject(body) && Array.isArray(body.endpoints) ? body.endpoints.filter(isObject) : []
    yield* print({ endpoints: endpoints }, () =>
      endpoints.length === 0
        ? "There are no push endpoints."
        : table(
            ["ENDPOINT", "FUNCTIONS", "STATE"],
            endpoints.map(({ available, functionIds, problem, url }) => [
              String(url),
              Array.isArray(functionIds) ? functionIds.join(", ") : "",
              available === true
                ? `available${problem === undefined ? "" : `, but ${String(problem)}`}`
                : String(problem ?? "")
            ])
          )
    )
  })
).pipe(Command.withDescription("List the push handlers that the server calls."))

const triggersOf = ({ triggers }: FunctionInfo): string =>
  triggers
    .map(({ event, expression, cron, overlap, timezone }) =>
      [
        event,
        cron === undefined ? undefined : `cron ${cron}`,
        timezone,
        overlap === undefined ? undefined : `overlap ${overlap}`,
        expression === undefined ? undefined : `if ${expression}`
      ]
        .filter((part) => part !== undefined)
        .join(" ")
    )
    .join(", ") || "invoked only"

export const functions = Command.make("functions").pipe(
  Command.withAlias("function"),
  Command.withDescription(
    "See, pause, run and delete the functions that are registered, look at their versions, and register the functions of push handlers."
  ),
  Command.withShortDescription("See, pause, run, register and delete functions"),
  Command.withSubcommands([
    list,
    pause,
    resume,
    run,
    history,
    drain,
    remove,
    register,
    unregister,
    listEndpoints
  ])
)
