/** Writes a backup to a file, from the server or from a database file, and restores a database from such a file. */
import { createWriteStream } from "node:fs"
import type { IncomingMessage } from "node:http"
import { request as httpsRequest } from "node:https"
import { text } from "node:stream/consumers"
import { pipeline } from "node:stream/promises"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { environmentHeader, type ResolvedServer } from "../Client/HttpOptions.ts"
import { failureOf, isCallMissing, unsupportedError } from "../Client/HttpFailures.ts"
import { backUpChecked, type BackupInfo, takeBackup } from "../Engine/Store/Backup.ts"
import { restoreWithProgress, type RestoreOptions } from "../Engine/Store/Restore.ts"
import { ConnectionError, type IronflowError, isIronflowError } from "../Errors.ts"
import { request } from "../NodeHttp.ts"
import { backup as backupCall, restHealth } from "../Protocol/Server.ts"
import { formatSize } from "../Size.ts"
import { showProgress, withProgressLine } from "./ProgressLine.ts"
import { sendRequest, server } from "./ServerCalls.ts"

/** Backs up a database file. An engine may have the file open. */
export const backUpFile = (database: string, file: string): Effect.Effect<BackupInfo, IronflowError> =>
  withProgressLine(
    Effect.flatMap(Clock.currentTimeMillis, (now) => backUpChecked(database, file, now, showProgress))
  )

export const restoreFile = (options: RestoreOptions): Effect.Effect<BackupInfo, IronflowError> =>
  withProgressLine(restoreWithProgress(options, showProgress))

const WHAT = "The backup"

/** The progress is shown again each time this many bytes have arrived. */
const PROGRESS_STEP_BYTES = 1024 * 1024

/** Requests a backup from the server, and writes it to the file. */
export const download = (file: string) =>
  Effect.gen(function* () {
    const source = yield* server
    // when the server cannot be reached, this fails with a message about the connection
    yield* sendRequest({ method: "GET", path: restHealth.path, what: WHAT })
    return yield* withProgressLine(
      takeBackup<IronflowError>(
        file,
        source.url,
        (partial, signal) => downloadTo(source, partial, signal),
        isIronflowError,
        showProgress
      )
    )
  })

const downloadTo = async (source: ResolvedServer, partial: string, signal: AbortSignal): Promise<void> => {
  const interruptedError = (cause: unknown): ConnectionError =>
    new ConnectionError(
      `${WHAT} is incomplete: the connection to ${source.url} was lost, or the engine there has stopped`,
      { cause }
    )
  showProgress("The server makes the backup, and then sends it")
  // not with `fetch`, which gives up when no answer begins within five minutes: the backup of a large database may take
  // longer to begin
  const send = source.url.startsWith("https:") ? httpsRequest : request
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = send(
      source.url + backupCall.path,
      {
        method: backupCall.method,
        signal,
        headers: {
          ...environmentHeader(source),
          "content-type": "application/json",
          ...(source.apiKey === undefined ? {} : { authorization: `Bearer ${source.apiKey}` })
        }
      },
      resolve
    )
    outgoing.once("error", reject)
    outgoing.end("{}")
  }).catch((cause: unknown) => Promise.reject(interruptedError(cause)))
  const { statusCode: status = 0 } = response
  if (status < 200 || status >= 300) {
    const answer = { status, text: await text(response) }
    throw isCallMissing(answer)
      ? unsupportedError(source.url, WHAT, "Upgrade the server", answer.status)
      : failureOf(answer, WHAT)
  }
  await pipeline(piecesOf(response, interruptedError), createWriteStream(partial), { signal })
}

/**
 * Yields the pieces of the download, and shows the progress. When the download fails, throws the error that
 * `interruptedError` makes, so that the caller can tell it from an error of the file.
 */
async function* piecesOf(
  body: AsyncIterable<Uint8Array>,
  interruptedError: (cause: unknown) => ConnectionError
): AsyncGenerator<Uint8Array> {
  let received = 0
  try {
    for await (const piece of body) {
      if (
        Math.floor((received + piece.length) / PROGRESS_STEP_BYTES) >
        Math.floor(received / PROGRESS_STEP_BYTES)
      ) {
        showProgress(`Received ${formatSize(received + piece.length)}`)
      }
      received += piece.length
      yield piece
    }
  } catch (cause) {
    throw interruptedError(cause)
  }
}
