/** Reads standard input to its end. */
import { text } from "node:stream/consumers"
import * as Effect from "effect/Effect"
import type { IronflowError } from "../Errors.ts"
import { CommandError } from "./CommandError.ts"

export const readStdin: Effect.Effect<string, IronflowError> = Effect.tryPromise({
  try: () => text(process.stdin),
  catch: (cause) =>
    new CommandError(
      `Standard input cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
      {
        code: "STDIN_UNREADABLE",
        cause
      }
    )
})
