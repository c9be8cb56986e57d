/** Configurations: their messages and calls. The body of a write is the data itself. */
import { ConfigNotFoundError } from "../Errors.ts"
import {
  onlyLegacyMayLack,
  nonNullJson,
  camelOrSnake,
  fields,
  flag,
  lenientList,
  number,
  object,
  oneOf,
  optional,
  orElse,
  struct,
  text
} from "./Codec.ts"
import { operation, callSpec } from "./CallSpec.ts"
import { watchQuery } from "./Watch.ts"

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** A configuration. */
export interface ConfigResponse {
  /** Name of the configuration. */
  readonly name: string
  /** The data, a JSON object. */
  // oxlint-disable-next-line typescript/no-explicit-any -- only the author of a configuration knows its content
  readonly data: Record<string, any>
  /** Revision; it grows with every change of any configuration of the environment. */
  readonly revision: number
  /** When it was last changed, as an ISO string. */
  readonly updatedAt: string
}

/** A configuration in a list. */
export interface ConfigEntry extends Omit<ConfigResponse, "data"> {
  /** The data; absent from servers that list only names. */
  // oxlint-disable-next-line typescript/no-explicit-any -- as above
  readonly data?: Record<string, any>
}

/** The result of `set` and `patch`. */
export interface ConfigSetResult {
  /** Name of the configuration. */
  readonly name: string
  /** The revision of this change. */
  readonly revision: number
}

/** A change of a configuration. */
export interface ConfigWatchEvent extends Omit<ConfigResponse, "data"> {
  /** The new data; `undefined` when the configuration was deleted. */
  // oxlint-disable-next-line typescript/no-explicit-any -- as above
  readonly data?: Record<string, any>
}

const revision = orElse(number, 0)
const updatedAt = orElse(text, "")
const Configuration = camelOrSnake(
  fields<ConfigResponse>({ name: text, data: orElse(object, {}), revision, updatedAt })
)
const Configurations = struct({
  configs: orElse(
    lenientList(
      camelOrSnake(fields<ConfigEntry>({ name: text, data: onlyLegacyMayLack(object), revision, updatedAt }))
    ),
    []
  ),
  nextCursor: optional(text)
})
const Written = fields<ConfigSetResult>({ name: text, revision })
const ConfigUpdate = fields<
  Omit<ConfigResponse, "data"> & {
    readonly type: "config_update"
    readonly data?: ConfigResponse["data"] | null
    readonly deleted?: boolean
  }
>({
  type: oneOf("config_update"),
  name: text,
  data: optional(nonNullJson<ConfigResponse["data"] | null>()),
  revision,
  updatedAt,
  deleted: optional(flag)
})

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

export const listConfigs = operation("GET /api/v1/config", { answer: Configurations, page: "configs" })
export const getConfig = operation("GET /api/v1/config/:name", {
  answer: Configuration,
  notFoundError: ConfigNotFoundError
})
export const setConfig = operation("POST /api/v1/config/:name", { answer: Written })
export const patchConfig = operation("PATCH /api/v1/config/:name", {
  answer: Written,
  notFoundError: ConfigNotFoundError
})
export const deleteConfig = operation("DELETE /api/v1/config/:name", { repeats: true })
export const watchConfig = operation("GET /api/v1/config/:name/watch", {
  answer: ConfigUpdate,
  notFoundError: ConfigNotFoundError
})

export const callSpecs = {
  /** Lists the configurations, sorted by name. */
  listConfigs: callSpec(listConfigs, "config:read"),
  /** Returns a configuration. */
  getConfig: callSpec(getConfig, "config:read"),
  /** Creates or replaces a configuration. */
  setConfig: callSpec(setConfig, "config:write", { body: object }),
  /** Replaces the members of a configuration that the body names, and keeps the others. */
  patchConfig: callSpec(patchConfig, "config:write", { body: object }),
  /** Deletes a configuration, if it exists. */
  deleteConfig: callSpec(deleteConfig, "config:delete")
}

export const watches = {
  /** Watches the changes of a configuration, which need not exist yet. */
  watchConfig: callSpec(watchConfig, "config:read", { query: watchQuery })
}
