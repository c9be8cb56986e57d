/** Who may do what: API keys, organizations, roles, policies and secrets. */
import { show } from "../Show.ts"
import { type CauseOption, IronflowError, NotFoundError } from "./Base.ts"

/** The engine wants an API key and got none, or one that it does not know. */
export class UnauthenticatedError extends IronflowError {
  declare readonly _tag: "UnauthenticatedError"
  constructor(message = "Not authenticated: give a valid API key as `apiKey`, or set IRONFLOW_API_KEY") {
    super(message, { code: "UNAUTHENTICATED" })
  }
}

/** The server answered that this needs a licence. */
export class EnterpriseRequiredError extends IronflowError {
  declare readonly _tag: "EnterpriseRequiredError"
  constructor(message = "The server says that this feature needs an enterprise license") {
    super(message, { code: "ENTERPRISE_REQUIRED" })
  }
}

/** The API key is known and may not do this. */
export class UnauthorizedError extends IronflowError {
  declare readonly _tag: "UnauthorizedError"
  constructor(message = "Not permitted: the role of the API key does not allow this") {
    super(message, { code: "UNAUTHORIZED" })
  }
}

/** Why an engine will have nothing to do with a worker: its API key is missing or wrong, or does not allow it. */
export type AccessError = UnauthenticatedError | UnauthorizedError

/** What is wrong with the signature: it does not fit, is not there, is too old, or was used before. */
export type SignatureErrorCode =
  "SIGNATURE_INVALID" | "SIGNATURE_MISSING" | "SIGNATURE_EXPIRED" | "SIGNATURE_REPLAYED"

/** A signed request does not carry a valid signature. */
export class SignatureError extends IronflowError {
  declare readonly _tag: "SignatureError"
  /** Which of these it is. */
  declare readonly code: SignatureErrorCode
  constructor(
    message: string,
    options: CauseOption & {
      /** `SIGNATURE_INVALID` by default. */
      readonly code?: SignatureErrorCode
    } = {}
  ) {
    super(message, { ...options, code: options.code ?? "SIGNATURE_INVALID", retryable: false })
  }
}

/** There is no API key of this id, or the key that asks may not see it. */
export class ApiKeyNotFoundError extends NotFoundError {
  declare readonly _tag: "ApiKeyNotFoundError"
  /** The id that nothing has. */
  readonly id: string
  constructor(id: string) {
    super(`There is no API key ${show(id)}`, { code: "API_KEY_NOT_FOUND", details: { id } })
    this.id = id
  }
}

/** There is no organization of this id, or the key that asks may not see it. */
export class OrgNotFoundError extends NotFoundError {
  declare readonly _tag: "OrgNotFoundError"
  /** The id that nothing has. */
  readonly id: string
  constructor(id: string) {
    super(`There is no organization ${show(id)}`, { code: "ORG_NOT_FOUND", details: { id } })
    this.id = id
  }
}

/** There is no role of this id, or the key that asks may not see it. */
export class RoleNotFoundError extends NotFoundError {
  declare readonly _tag: "RoleNotFoundError"
  /** The id that nothing has. */
  readonly id: string
  constructor(id: string) {
    super(`There is no role ${show(id)}`, { code: "ROLE_NOT_FOUND", details: { id } })
    this.id = id
  }
}

/** There is no policy of this id, or the key that asks may not see it. */
export class PolicyNotFoundError extends NotFoundError {
  declare readonly _tag: "PolicyNotFoundError"
  /** The id that nothing has. */
  readonly id: string
  constructor(id: string) {
    super(`There is no policy ${show(id)}`, { code: "POLICY_NOT_FOUND", details: { id } })
    this.id = id
  }
}

/** There is no secret of this name in the environment. */
export class SecretNotFoundError extends NotFoundError {
  declare readonly _tag: "SecretNotFoundError"
  /** Name of the secret. */
  readonly secretName: string
  constructor(secretName: string) {
    super(`There is no secret ${show(secretName)} in this environment`, {
      code: "SECRET_NOT_FOUND",
      details: { secretName }
    })
    this.secretName = secretName
  }
}

/** There is no master key, or another one than the secret was stored under. */
export type MasterKeyErrorCode = "MASTER_KEY_MISSING" | "MASTER_KEY_WRONG"

/** The engine cannot seal or open a secret: it has no master key, or another one than the secret was sealed with. */
export class MasterKeyError extends IronflowError {
  declare readonly _tag: "MasterKeyError"
  /** Which of these it is. */
  declare readonly code: MasterKeyErrorCode
  constructor(message: string, options: CauseOption & { readonly code: MasterKeyErrorCode }) {
    super(message, options)
  }
}
