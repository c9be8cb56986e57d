/** Checks the options of a push handler, and fills in defaults. */
import { resolveServer, type ResolvedServer } from "../Client/HttpOptions.ts"
import { type Duration, positiveDuration } from "../Duration.ts"
import { readEnvironmentVariable, resolveEnvironment, type Variables } from "../EnvironmentVariables.ts"
import { ValidationError } from "../Errors.ts"
import type { AnyFunction } from "../Function.ts"
import { checkName } from "../Limits.ts"
import { type Logger, resolveLogger } from "../Logger.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { show } from "../Show.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import type { IronflowWebhook } from "../Webhook.ts"
import { functionsById } from "../Worker/Options.ts"

/** How a push handler treats its requests. */
export interface HandlerOptions {
  /**
   * The key that requests are signed with; `IRONFLOW_SIGNING_KEY` by default. While a key is being replaced, give
   * both keys as a list, or the older one in `IRONFLOW_SIGNING_KEY_PREVIOUS`. Without a key, requests are not
   * verified.
   */
  readonly signingKey?: string | ReadonlyArray<string> | undefined
  /** Accepts requests without verifying them; for development only. */
  readonly skipVerification?: boolean | undefined
  /**
   * How old a signed request may be; `"5m"` by default. The age is checked if the request says when it was sent.
   */
  readonly maxRequestAge?: Duration | undefined
  /** The logger; `false` logs nothing. By default the console with the prefix `[ironflow-serve]`. */
  readonly logger?: Logger | false | undefined
  /** The environment of the handler. By default the environment in `IRONFLOW_ENV`, or else `default`. */
  readonly environment?: string | undefined
  /** Upgrades event data to the latest version before a handler receives it. */
  readonly eventDefinitions?: EventDefinitionRegistry | undefined
  /**
   * The URL of the Ironflow server. Webhook events are sent to it, and each step is reported to it as soon as the
   * step has finished. By default the URL in `IRONFLOW_URL` or `IRONFLOW_SERVER_URL`. Without a URL, steps are
   * reported with the response, and webhook events go to `http://localhost:9123`.
   */
  readonly serverUrl?: string | undefined
  /**
   * The API key, sent to the Ironflow server as a bearer token. By default the key in `IRONFLOW_API_KEY`, or else none.
   */
  readonly apiKey?: string | undefined
  /**
   * After this time a turn that has reported a step starts no further step; the run continues in the next
   * request. `"5s"` by default.
   */
  readonly turnBudget?: Duration | undefined
  /** The largest request body in bytes; 16 MiB by default. For webhooks it is at most 1 MiB. */
  readonly maxBodyBytes?: number | undefined
  /** How long `challenge`, `verify`, `parse` and `transform` of a webhook may take together; `"10s"` by default. */
  readonly webhookTimeout?: Duration | undefined
}

/**
 * The second argument with which a framework calls the handler: the response of Node.js and Express, the reply of Fastify, or the
 * context of a Next.js route. Hono passes its `next` function, which is not called.
 */
// oxlint-disable-next-line typescript/no-explicit-any -- each framework has a type of its own for it
export type HandlerContext = any

/**
 * Answers a request of any framework. If the framework has a response object, the answer is written to this
 * object; if not, the handler resolves to a `Response`.
 */
export type ServeHandler = (
  // oxlint-disable-next-line typescript/no-explicit-any -- a Request, an IncomingMessage, or the context of a framework
  request: any,
  responseOrContext?: HandlerContext
  // oxlint-disable-next-line typescript/no-explicit-any -- a `Response`, or what the framework expects
) => Promise<any>

interface ProjectionName {
  readonly name: string
}

const nameOf = (projection: ProjectionName | { readonly config: ProjectionName }): string =>
  "config" in projection ? projection.config.name : projection.name

/** The options of `serve()`. */
export interface ServeOptions<
  Functions extends ReadonlyArray<AnyFunction> = ReadonlyArray<AnyFunction>
> extends HandlerOptions {
  /** The functions to run, in either style. Their ids must differ. */
  readonly functions: Functions
  /** Projections are not run here, since they need a worker: they only cause a warning. */
  readonly projections?: ReadonlyArray<ProjectionName | { readonly config: ProjectionName }> | undefined
  /** Webhooks: requests of other services that become events. */
  readonly webhooks?: ReadonlyArray<IronflowWebhook> | undefined
}

const serveKeys = {
  functions: true,
  projections: true,
  webhooks: true,
  signingKey: true,
  skipVerification: true,
  maxRequestAge: true,
  logger: true,
  environment: true,
  eventDefinitions: true,
  serverUrl: true,
  apiKey: true,
  turnBudget: true,
  maxBodyBytes: true,
  webhookTimeout: true
} satisfies Keys<ServeOptions>

export interface ResolvedServeOptions {
  readonly functions: ReadonlyMap<string, AnyFunction>
  readonly webhooks: ReadonlyMap<string, IronflowWebhook>
  /** The signing keys. One of them must have signed a request; `undefined` when requests are not verified. */
  readonly keys: ReadonlyArray<string> | undefined
  readonly maxRequestAgeMs: number
  readonly logger: Logger
  readonly environment: string
  readonly eventDefinitions: EventDefinitionRegistry | undefined
  readonly server: ResolvedServer
  /** Whether the user has given the URL of the Ironflow server. */
  readonly isServerKnown: boolean
  readonly turnBudgetMs: number
  readonly maxBodyBytes: number
  readonly webhookTimeoutMs: number
}

/**
 * Checks the options, fills in defaults, and warns of what is probably a mistake. Throws `ValidationError`.
 */
export const resolveServeOptions = (
  options: ServeOptions,
  variables: Variables = readEnvironmentVariable
): ResolvedServeOptions => {
  checkKeys(options, serveKeys, "serve()", options.logger)
  const { maxBodyBytes = 16 * 1024 * 1024, projections = [], webhooks = [] } = options
  if (!Number.isSafeInteger(maxBodyBytes) || maxBodyBytes <= 0) {
    throw new ValidationError(
      `serve(): \`maxBodyBytes\` must be an integer, at least 1, got ${show(maxBodyBytes)}`
    )
  }
  const serverUrl = options.serverUrl || variables("IRONFLOW_URL") || variables("IRONFLOW_SERVER_URL")
  const server = resolveServer(
    { serverUrl, apiKey: options.apiKey, environment: options.environment },
    "serve()",
    variables
  )
  const keys = options.skipVerification === true ? [] : resolveKeys(options.signingKey, variables)
  const resolved: ResolvedServeOptions = {
    functions: functionsById(options.functions, "serve()"),
    webhooks: webhooksById(webhooks),
    keys: keys.length === 0 ? undefined : keys,
    maxRequestAgeMs: positiveDuration(options.maxRequestAge ?? "5m", "`maxRequestAge` of serve()"),
    logger: resolveLogger(options.logger, "[ironflow-serve]"),
    environment: checkName("environment", resolveEnvironment(options.environment, variables)),
    eventDefinitions: options.eventDefinitions,
    server,
    isServerKnown: serverUrl !== undefined,
    turnBudgetMs: positiveDuration(options.turnBudget ?? "5s", "`turnBudget` of serve()"),
    maxBodyBytes,
    webhookTimeoutMs: positiveDuration(options.webhookTimeout ?? "10s", "`webhookTimeout` of serve()")
  }
  if (projections.length > 0) {
    resolved.logger.warn(
      `Projections (${projections.map(nameOf).join(", ")}) do not run in serve(): use createWorker() for projections`
    )
  }
  if (keys.length === 0 && options.skipVerification !== true) {
    resolved.logger.warn(
      "No signing key: requests are not verified, so whoever reaches this handler can run its functions. " +
        "Set `signingKey` or IRONFLOW_SIGNING_KEY to the same key here and on the Ironflow engine; `skipVerification: true` silences this warning"
    )
  }
  return resolved
}

const resolveKeys = (
  given: string | ReadonlyArray<string> | undefined,
  variables: Variables
): ReadonlyArray<string> => {
  if (Array.isArray(given)) {
    if (given.length > 0 && given.every((key) => typeof key === "string" && key !== "")) return given
    throw new ValidationError(
      "serve(): `signingKey` as a list must have at least one key, and each key must be a string that is not empty"
    )
  }
  if (given !== undefined && typeof given !== "string") {
    throw new ValidationError(
      `serve(): \`signingKey\` must be a string or a list of strings, got ${typeof given}`
    )
  }
  const key = given || variables("IRONFLOW_SIGNING_KEY")
  const previous = variables("IRONFLOW_SIGNING_KEY_PREVIOUS")
  return [key, previous].filter((one) => one !== undefined)
}

const webhooksById = (webhooks: ReadonlyArray<IronflowWebhook>): ReadonlyMap<string, IronflowWebhook> => {
  if (!Array.isArray(webhooks)) {
    throw new ValidationError(
      `serve(): \`webhooks\` must be an array of what createWebhook() returned, got ${show(webhooks)}`
    )
  }
  const byId = new Map<string, IronflowWebhook>()
  for (const [index, webhook] of webhooks.entries()) {
    const id: unknown = webhook?.config?.id
    if (typeof id !== "string") {
      throw new ValidationError(
        `serve(): \`webhooks[${index}]\` is not a webhook, but ${show(webhook)}: pass what createWebhook() returned`
      )
    }
    if (byId.has(id))
      throw new ValidationError(`serve(): two webhooks have the id "${id}"; give each an id of its own`)
    byId.set(id, webhook)
  }
  return byId
}
