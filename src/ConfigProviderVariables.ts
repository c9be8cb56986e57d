/**
 * Reads the environment variables of this package in Effect code: from the `ConfigProvider` in context, or from the
 * process if the context has none.
 */
import type { ConfigProvider } from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { readEnvironmentVariable, type Variables } from "./EnvironmentVariables.ts"
import { ValidationError } from "./Errors.ts"

/**
 * Effect's own reference to the provider, found by its key. Effect's module of the provider is not imported: it would
 * load file systems and streams, which most programs do not need.
 */
const Provider = Context.Reference<Pick<ConfigProvider, "load"> | undefined>("effect/ConfigProvider", {
  defaultValue: () => undefined
})

const variableNames = [
  "IRONFLOW_SERVER_URL",
  "IRONFLOW_URL",
  "IRONFLOW_API_KEY",
  "IRONFLOW_ENV",
  "IRONFLOW_LOG_LEVEL",
  "IRONFLOW_DEBUG",
  "IRONFLOW_SIGNING_KEY",
  "IRONFLOW_SIGNING_KEY_PREVIOUS",
  "IRONFLOW_MASTER_KEY",
  "IRONFLOW_BOOTSTRAP_KEY"
]

/** The variables in context. Fails with `ValidationError` when the provider cannot be read. */
export const currentVariables: Effect.Effect<Variables, ValidationError> = Effect.gen(function* () {
  const provider = yield* Provider
  if (provider === undefined) return readEnvironmentVariable
  const values = new Map<string, string>()
  for (const name of variableNames) {
    const node = yield* Effect.mapError(
      provider.load([name]),
      (cause) =>
        new ValidationError(`${name} could not be read from the ConfigProvider: ${cause.message}`, { cause })
    )
    if (node?.value !== undefined && node.value !== "") values.set(name, node.value)
  }
  return (name) => values.get(name)
})

/** The value of the reference in context; if none is provided, the result of `fromVariables`. */
export const providedOr = <A>(
  reference: Context.Reference<A>,
  fromVariables: (variables: Variables) => A
): Effect.Effect<A, ValidationError> =>
  Effect.flatMap(Effect.context<never>(), (context) =>
    context.mapUnsafe.has(reference.key)
      ? Effect.succeed(Context.get(context, reference))
      : Effect.map(currentVariables, fromVariables)
  )
