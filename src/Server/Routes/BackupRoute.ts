/**
 * Sends a backup over HTTP. The backup is first written to a file beside the database, so that a slow client does not
 * delay the engine.
 */
import { createReadStream, rmSync, statSync } from "node:fs"
import { Readable } from "node:stream"
import * as Effect from "effect/Effect"
import { InvalidStateError, type IronflowError, UnauthorizedError, UnavailableError } from "../../Errors.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import type { GiveUp } from "../../Engine/Runs/AwaitEnd.ts"
import { callSpecs } from "../../Protocol/Server.ts"
import { keyEnvironment, type Reply, type Route } from "../Http/Route.ts"
import { replyRoute } from "./CallRoute.ts"

/** How long a client may take to read a piece, in milliseconds. */
const PIECE_MS = 60_000

const PIECE_BYTES = 256 * 1024

export const backupRoute = (engine: EngineService, giveUpAfter: (ms: number) => GiveUp): Route => {
  let isBusy = false
  return replyRoute(callSpecs.backup, (call) =>
    Effect.suspend((): Effect.Effect<Reply, IronflowError> => {
      const { filename } = engine
      if (keyEnvironment(call) !== undefined) {
        return Effect.fail(
          new UnauthorizedError(
            "Not permitted: a backup contains all environments, and this API key is bound to one. Use a key for all environments"
          )
        )
      }
      if (filename === undefined) {
        return Effect.fail(
          new InvalidStateError(
            "This engine has no database file to back up: its data is only in memory, or on Postgres, which has tools of its own"
          )
        )
      }
      if (isBusy) {
        return Effect.fail(
          new UnavailableError("Another backup is in progress: try again when it has ended", {
            code: "SERVER_BUSY"
          })
        )
      }
      isBusy = true
      const file = `${filename}.download`
      const deleteFile = (): void => {
        isBusy = false
        rmSync(file, { force: true })
      }
      // the file may be left by a process that was killed
      rmSync(file, { force: true })
      return Effect.map(engine.backup(file), () => replyWith(file, deleteFile, giveUpAfter(PIECE_MS))).pipe(
        Effect.onExit((exit) => (exit._tag === "Failure" ? Effect.sync(deleteFile) : Effect.void))
      )
    })
  )
}

const replyWith = (file: string, finish: () => void, giveUp: GiveUp): Reply => {
  const source = createReadStream(file, { highWaterMark: PIECE_BYTES })
  const failUnread = (): void => void source.destroy(new Error("The client does not read the backup"))
  let stop = giveUp(() => body.destroy())
  const pieces = async function* (): AsyncGenerator<Buffer> {
    stop()
    for await (const piece of source) {
      // gives up when the next piece is not requested in time
      stop = giveUp(failUnread)
      yield piece as Buffer
      stop()
    }
  }
  const body = Readable.from(pieces(), { objectMode: false, highWaterMark: 0 })
  // The head was sent, so the client only sees that data is missing. The listener keeps the error from ending
  // the process.
  body.on("error", () => undefined)
  body.once("close", () => {
    stop()
    source.destroy()
    finish()
  })
  return {
    status: 200,
    type: "application/octet-stream",
    headers: { "content-length": String(statSync(file).size) },
    body
  }
}
