/** Errors of access: API keys, organizations, roles, policies and secrets. */
import { show } from "../Show.ts"
import { type CauseOption, IronflowError, NotFoundError } from "./Base.ts"

/** The engine requires an API key, and received none or an unknown one. */
export class UnauthenticatedError extends IronflowError {
  declare readonly _tag: "UnauthenticatedError"
  constructor(message = "Not authenticated: give a valid API key as `apiKey`, or set IRONFLOW_API_KEY") {
    super(message, { code: "UNAUTHENTICATED" })
  }
}

/** The server answered that the call requires a licence. */
export class EnterpriseRequiredError extends IronflowError {
  declare readonly _tag: "EnterpriseRequiredError"
  constructor(message = "The server says that this feature needs an enterprise license") {
    super(message, { code: "ENTERPRISE_REQUIRED" })
  }
}

/** The API key is known, but does not allow the call. */
export class UnauthorizedError extends IronflowError {
  declare readonly _tag: "UnauthorizedError"
  constructor(message = "Not permitted: the role of the API key does not allow this") {
    super(message, { code: "UNAUTHORIZED" })
  }
}

/** Why an engine refuses a worker: its API key is missing or unknown, or does not allow the work. */
export type AccessError = UnauthenticatedError | UnauthorizedError

/** What is wrong with the signature: it is invalid, missing, too old, or was used before. */
export type SignatureErrorCode =
  "SIGNATURE_INVALID" | "SIGNATURE_MISSING" | "SIGNATURE_EXPIRED" | "SIGNATURE_REPLAYED"

/** A request that must be signed has no valid signature. */
export class SignatureError extends IronflowError {
  declare readonly _tag: "SignatureError"
  /** The codes of this class. */
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

/** No API key has this id, or the caller's key may not see it. */
export class ApiKeyNotFoundError extends NotFoundError {
  declare readonly _tag: "ApiKeyNotFoundError"
  /** The unknown id. */
  readonly id: string
  constructor(id: string) {
    super(`There is no API key ${show(id)}`, { code: "API_KEY_NOT_FOUND", details: { id } })
    this.id = id
  }
}

/** No organization has this id, or the caller's key may not see it. */
export class OrgNotFoundError extends NotFoundError {
  declare readonly _tag: "OrgNotFoundError"
  /** The unknown id. */
  readonly id: string
  constructor(id: string) {
    super(`There is no organization ${show(id)}`, { code: "ORG_NOT_FOUND", details: { id } })
    this.id = id
  }
}

/** No role has this id, or the caller's key may not see it. */
export class RoleNotFoundError extends NotFoundError {
  declare readonly _tag: "RoleNotFoundError"
  /** The unknown id. */
  readonly id: string
  constructor(id: string) {
    super(`There is no role ${show(id)}`, { code: "ROLE_NOT_FOUND", details: { id } })
    this.id = id
  }
}

/** No policy has this id, or the caller's key may not see it. */
export class PolicyNotFoundError extends NotFoundError {
  declare readonly _tag: "PolicyNotFoundError"
  /** The unknown id. */
  readonly id: string
  constructor(id: string) {
    super(`There is no policy ${show(id)}`, { code: "POLICY_NOT_FOUND", details: { id } })
    this.id = id
  }
}

/** The environment has no secret of this name. */
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

/** What is wrong with the master key: it is missing, or it differs from the key that the secret was encrypted with. */
export type MasterKeyErrorCode = "MASTER_KEY_MISSING" | "MASTER_KEY_WRONG"

/**
 * The engine cannot encrypt or decrypt a secret: the master key is missing, or differs from the key that the secret
 * was encrypted with.
 */
export class MasterKeyError extends IronflowError {
  declare readonly _tag: "MasterKeyError"
  /** The codes of this class. */
  declare readonly code: MasterKeyErrorCode
  constructor(message: string, options: CauseOption & { readonly code: MasterKeyErrorCode }) {
    super(message, options)
  }
}
