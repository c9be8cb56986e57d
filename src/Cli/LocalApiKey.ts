/** Creates an API key in a database file that no engine has open. */
import * as Effect from "effect/Effect"
import type { APIKeyWithSecret, CreateAPIKeyInput } from "../Protocol/Access.ts"
import { make as makeAccess } from "../Engine/Access/Access.ts"
import * as Management from "../Engine/Access/Management.ts"
import * as SqliteStore from "../Engine/SqliteStore.ts"
import { refuseNonFile } from "../Engine/Store/Files.ts"
import { checked } from "../CheckAsEffect.ts"
import { resolveEnvironment } from "../EnvironmentVariables.ts"
import { type IronflowError, isIronflowError } from "../Errors.ts"

/** Creates the key in the file. Fails with code `STORE_LOCKED` when an engine has the file open. */
export const createApiKey = (
  filename: string,
  input: CreateAPIKeyInput
): Effect.Effect<APIKeyWithSecret, IronflowError> =>
  Effect.scoped(
    Effect.gen(function* () {
      yield* checked(() => refuseNonFile(filename))
      const store = yield* SqliteStore.make({ filename })
      const access = yield* makeAccess(store)
      const environment = resolveEnvironment()
      return yield* Management.make({ store, access }, environment).apiKeys.create(input)
    })
  ).pipe(
    // the type also has errors that cannot occur here: an error that is not an `IronflowError` is a defect
    Effect.catch((error) => (isIronflowError(error) ? Effect.fail(error) : Effect.die(error)))
  )
