/** Secrets: their messages and calls. Requests contain the values of secrets; answers contain only their names and times. */
import { MasterKeyError, SecretNotFoundError } from "../Errors.ts"
import { fields, list, orElse, struct, text, withWireName } from "./Codec.ts"
import { inBody, operation, callSpec } from "./CallSpec.ts"

/** A secret without its value. Times are ISO strings. */
export interface SecretInfo {
  /** Name of the secret. */
  readonly name: string
  /** When it was first stored, as an ISO string. */
  readonly createdAt: string
  /** When it was last stored, as an ISO string. */
  readonly updatedAt: string
}

const timeOrEmpty = orElse(text, "")
const Secret = fields<SecretInfo>({
  name: text,
  createdAt: withWireName("created_at", timeOrEmpty),
  updatedAt: withWireName("updated_at", timeOrEmpty)
})
const SetSecret = struct({ name: text, value: text })
const UpdateSecret = struct({ value: text })

/** The error of a call that stores a secret when the engine has no master key. */
const masterKeyMissing = { 409: MasterKeyError } as const

export const listSecrets = operation("GET /api/v1/secrets", { answer: list(Secret), page: "secrets" })
export const setSecret = operation("POST /api/v1/secrets", { answer: Secret })
export const getSecret = operation("GET /api/v1/secrets/:name", {
  answer: Secret,
  notFoundError: SecretNotFoundError
})
const updateSecret = operation("PUT /api/v1/secrets/:name", { answer: Secret })
export const deleteSecret = operation("DELETE /api/v1/secrets/:name", { notFoundError: SecretNotFoundError })

export const callSpecs = {
  /** Lists the names and times of the secrets, sorted by name. */
  listSecrets: callSpec(listSecrets, "secret:read"),
  /** Creates or replaces a secret. */
  setSecret: callSpec(setSecret, inBody("secret:write", "secret", "name"), {
    body: SetSecret,
    errors: masterKeyMissing
  }),
  /** Returns the name and times of a secret. */
  getSecret: callSpec(getSecret, "secret:read"),
  /** Creates or replaces a secret. */
  updateSecret: callSpec(updateSecret, "secret:write", { body: UpdateSecret, errors: masterKeyMissing }),
  /** Deletes a secret. */
  deleteSecret: callSpec(deleteSecret, "secret:delete")
}
