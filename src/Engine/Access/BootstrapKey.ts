/** The bootstrap key: an API key whose secret the operator chooses, and which exists as soon as the server starts. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { readEnvironmentVariable, type Variables } from "../../EnvironmentVariables.ts"
import { type StoreError, ValidationError } from "../../Errors.ts"
import type { StoreService } from "../Store/Store.ts"
import * as KeyRows from "./KeyRows.ts"
import { hashOf } from "./Access.ts"

/** The bootstrap key, or `undefined` for none; `IRONFLOW_BOOTSTRAP_KEY` by default. */
export const BootstrapKey = Context.Reference<Redacted.Redacted<string> | undefined>(
  "@ironflow/node/BootstrapKey",
  {
    defaultValue: () => bootstrapKeyIn(readEnvironmentVariable)
  }
)

export const bootstrapKeyIn = (variables: Variables): Redacted.Redacted<string> | undefined => {
  const text = variables("IRONFLOW_BOOTSTRAP_KEY")
  return text === undefined ? undefined : Redacted.make(text)
}

/** Stores the bootstrap key, if one is configured. */
export const putBootstrapKey = (
  store: StoreService,
  redacted: Redacted.Redacted<string> | undefined
): Effect.Effect<void, ValidationError | StoreError> => {
  if (redacted === undefined) return Effect.void
  const key = Redacted.value(redacted)
  if (!/^[\x21-\x7e]{32,256}$/.test(key)) {
    return Effect.fail(
      new ValidationError(
        `IRONFLOW_BOOTSTRAP_KEY must be 32 to 256 printable ASCII characters without spaces, and this one has ${key.length >= 32 && key.length <= 256 ? "a space or a character that is not ASCII" : `${key.length} characters`}: ` +
          `make one with \`node -p "require('node:crypto').randomBytes(32).toString('base64url')"\`.`
      )
    )
  }
  return store.write(KeyRows.putBootstrapKey(hashOf(key)))
}
