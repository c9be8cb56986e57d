/** Secrets: how they travel, and the calls about them. Values come in, names and times go out. */
import { MasterKeyError, SecretNotFoundError } from "../Errors.ts"
import { as, fields, list, orElse, struct, text } from "./Codec.ts"
import { inBody, operation, row } from "./Row.ts"

/** A secret without its value. Times are ISO strings. */
export interface SecretInfo {
  /** Name of the secret. */
  readonly name: string
  /** When it was stored for the first time. ISO string. */
  readonly createdAt: string
  /** When it was stored last. ISO string. */
  readonly updatedAt: string
}

const time = orElse(text, "")
const Secret = fields<SecretInfo>({
  name: text,
  createdAt: as("created_at", time),
  updatedAt: as("updated_at", time)
})
const SetSecret = struct({ name: text, value: text })
const UpdateSecret = struct({ value: text })

/** There is no master key. */
const sealed = { 409: MasterKeyError } as const

export const listSecrets = operation("GET /api/v1/secrets", { answer: list(Secret), page: "secrets" })
export const setSecret = operation("POST /api/v1/secrets", { answer: Secret })
export const getSecret = operation("GET /api/v1/secrets/:name", {
  answer: Secret,
  missing: SecretNotFoundError
})
const updateSecret = operation("PUT /api/v1/secrets/:name", { answer: Secret })
export const deleteSecret = operation("DELETE /api/v1/secrets/:name", { missing: SecretNotFoundError })

export const rows = {
  /** Names and times of the secrets, by name. */
  listSecrets: row(listSecrets, "secret:read"),
  /** Stores a secret or replaces its value. */
  setSecret: row(setSecret, inBody("secret:write", "secret", "name"), { body: SetSecret, errors: sealed }),
  /** Name and times of a secret. */
  getSecret: row(getSecret, "secret:read"),
  /** Stores the secret or replaces its value. */
  updateSecret: row(updateSecret, "secret:write", { body: UpdateSecret, errors: sealed }),
  /** Deletes a secret. */
  deleteSecret: row(deleteSecret, "secret:delete")
}
