/** `ironflow doctor`: finds problems, and says what to do about them. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import type { ResolvedServer } from "../Client/HttpOptions.ts"
import { checkClockSkew, fail, ok, warn } from "../Engine/Doctor/Checks.ts"
import { readEnvironmentVariable } from "../EnvironmentVariables.ts"
import { InvalidResponseError, UnauthorizedError, UnsupportedError } from "../Errors.ts"
import { safeJsonParse } from "../Json.ts"
import { reader } from "../Protocol/Codec.ts"
import { doctor as doctorCall, type DoctorCheck, restCapabilities, restHealth } from "../Protocol/Server.ts"
import { SDK_VERSION } from "../SdkVersion.ts"
import { CommandError } from "./CommandError.ts"
import { databaseFlags, databaseOf } from "./Database.ts"
import { oneLine, print } from "./Output.ts"
import { showMs } from "../Show.ts"
import { sendRequest, server } from "./ServerCalls.ts"
import { textFlag } from "./TextFlag.ts"

const WHAT = "The doctor"

/** A server that takes at least this long to answer is reported as slow. */
const SLOW_MS = 1000

/** Checks the server from this machine, and adds the checks that the server's engine makes itself. */
const examineServer = Effect.gen(function* () {
  const target = yield* server
  const sentAt = yield* Clock.currentTimeMillis
  // when the server cannot be reached, this fails with a message about the connection
  const { text } = yield* sendRequest({ method: "GET", path: restHealth.path, what: WHAT })
  const answeredAt = yield* Clock.currentTimeMillis
  const health = readHealth(safeJsonParse(text))
  if (health === undefined) {
    return yield* Effect.fail(
      new InvalidResponseError(`${WHAT}: ${target.url} does not answer as an Ironflow server does`, {
        status: 200
      })
    )
  }
  const tookMs = answeredAt - sentAt
  const serverText = `${target.url} answers in ${showMs(tookMs)} and its status is ${health.status}.`
  const status = yield* statusWithoutKey(target)
  const ownChecks: ReadonlyArray<DoctorCheck> = [
    health.status === "ok"
      ? tookMs < SLOW_MS
        ? ok("server", serverText)
        : warn("server", `${serverText} That is slow.`, "Check whether the machine or the network is busy.")
      : fail("server", serverText, "Look at the log of the server."),
    yield* accessCheck(target, status),
    versionCheck(health.version),
    // the clock check assumes that the request and the response took the same time
    {
      ...checkClockSkew(sentAt + tookMs / 2, Date.parse(health.timestamp), "the server", tookMs),
      name: "clock here"
    }
  ]
  const checksOfEngine = yield* Effect.catch(engineChecks, (error) =>
    error instanceof UnauthorizedError || error instanceof UnsupportedError
      ? Effect.succeed([
          warn(
            "engine",
            `The engine's own checks could not be read: ${oneLine(error.message)}`,
            "Use an API key that has `engine:read` in all environments, and a server of the same version as this command."
          )
        ])
      : Effect.fail(error)
  )
  // this command itself has checked the keys
  return [...ownChecks, ...checksOfEngine.filter(({ name }) => name !== "keys")]
})

const engineChecks = Effect.flatMap(
  Effect.suspend(() => sendRequest({ method: "GET", path: doctorCall.path, what: WHAT })),
  ({ text }) => {
    const checks = readChecks(safeJsonParse(text))?.checks
    return checks === undefined
      ? Effect.fail(
          new InvalidResponseError(`${WHAT}: the server's answer does not contain checks`, { status: 200 })
        )
      : Effect.succeed(checks)
  }
)

const readHealth = reader(restHealth.answer!)
const readChecks = reader(doctorCall.answer!)

const versionCheck = (version: string): DoctorCheck =>
  version === SDK_VERSION
    ? ok("versions", `Server and command are version ${SDK_VERSION}.`)
    : warn(
        "versions",
        version === ""
          ? `The server does not tell its version; this command is version ${SDK_VERSION}.`
          : `The server is version ${version}, and this command is version ${SDK_VERSION}.`,
        "They work together; calls that the older one does not know fail with UNIMPLEMENTED."
      )

/** The status with which the server answers a call without a key. `undefined` when it does not answer. */
const statusWithoutKey = ({ url }: ResolvedServer): Effect.Effect<number | undefined> =>
  Effect.promise((signal) =>
    fetch(url + restCapabilities.path, { signal }).then(
      async (response) => {
        await response.body?.cancel()
        return response.status
      },
      () => undefined
    )
  )

const accessCheck = ({ url }: ResolvedServer, status: number | undefined): Effect.Effect<DoctorCheck> =>
  Effect.map(
    Effect.promise(() => import("../Server/Http/AccessCheck.ts")),
    ({ isLoopback }) => {
      if (status === 401 || status === 403) return ok("keys", "Calls need an API key.")
      if (status === undefined || status < 200 || status > 299) {
        return warn(
          "keys",
          `It is unknown whether calls need an API key: ${url} ${
            status === undefined
              ? "did not answer a call without one"
              : `answered a call without one with status ${status}`
          }.`,
          `Run this command again, or see whether \`curl -i ${url + restCapabilities.path}\` is answered with 401.`
        )
      }
      const advice = "Make a key with `ironflow apikeys create`: from then on every call needs one."
      return isLoopback(new URL(url).hostname)
        ? warn("keys", "The engine answers everybody who reaches it, without an API key.", advice)
        : fail("keys", `The engine answers everybody who reaches ${url}, without an API key.`, advice)
    }
  )

const hasMasterKey = (): boolean => readEnvironmentVariable("IRONFLOW_MASTER_KEY") !== undefined

const offlineChecks = Effect.promise(() => import("../Engine/Doctor/OfflineChecks.ts"))

const formatChecks = (checks: ReadonlyArray<DoctorCheck>): string => {
  const width = Math.max(...checks.map(({ name }) => name.length))
  return checks
    .map(({ advice, message, name, status }) =>
      [
        `${status.padEnd(4)}  ${name.padEnd(width)}  ${oneLine(message, 2000)}`,
        ...(advice === undefined ? [] : [`${" ".repeat(width + 8)}→ ${oneLine(advice, 1000)}`])
      ].join("\n")
    )
    .join("\n")
}

export const doctor = Command.make(
  "doctor",
  {
    data: textFlag("data").pipe(
      Flag.withMetavar("FILE"),
      Flag.withDescription(
        "Check this database file, which is only read; an engine may have it open. By default the command checks the server"
      ),
      Flag.optional
    ),
    ...databaseFlags,
    check: Flag.Boolean("check").pipe(
      Flag.withDescription("With --data: read every page and every row of the file"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(function* ({ check, data, databaseSchema, databaseUrl }) {
    const database = yield* databaseOf({ data, databaseSchema, databaseUrl })
    if (check && Option.isNone(data)) {
      return yield* Effect.fail(
        new CommandError("--check reads the whole database file: give its path with --data FILE", {
          code: "USAGE"
        })
      )
    }
    const checks = yield* Option.isSome(data)
      ? Effect.flatMap(offlineChecks, ({ examineFile }) =>
          examineFile({ filename: data.value, all: check, hasMasterKey: hasMasterKey() })
        )
      : database !== undefined
        ? Effect.flatMap(offlineChecks, ({ examinePostgres }) => examinePostgres(database, hasMasterKey()))
        : examineServer
    yield* print({ checks }, () => formatChecks(checks))
    const failed = checks.filter(({ status }) => status === "fail")
    if (failed.length > 0) {
      return yield* Effect.fail(
        new CommandError(
          `${failed.length} of ${checks.length} checks failed: ${failed.map(({ name }) => name).join(", ")}`,
          { code: "CHECKS_FAILED" }
        )
      )
    }
  })
).pipe(
  Command.withDescription(
    "Check an engine, its database, its disk, its clock, its keys and its runs for problems, and say what to do. " +
      "Exits with 1 when a check fails, with 0 when there are warnings at most. Needs `engine:read` if there are API keys."
  ),
  Command.withShortDescription("Check for problems and say what to do"),
  Command.withExamples([
    { command: "ironflow doctor" },
    { command: "ironflow doctor --data /var/lib/ironflow/ironflow.db --check" },
    { command: "ironflow doctor --database-url postgres://ironflow@db.internal:5432/ironflow" }
  ])
)
