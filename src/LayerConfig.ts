/** Reads options that may be Effect `Config`s, for the `layerConfig` of clients, workers and engines. */
import type { Config, ConfigError } from "effect/Config"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"

/**
 * The options `O`. The options that `K` names may be `Config`s. For an option that is a string, the `Config` may also
 * be one of a `Redacted` string.
 */
export type ConfigOptions<O, K extends keyof O> = Omit<O, K> & {
  readonly [P in K]?: O[P] | Config<NonNullable<O[P]>> | RedactedText<O[P]>
}

type RedactedText<A> = string extends A ? Config<Redacted.Redacted<string>> : never

/** Replaces each `Config` among the options in `names` by its value. Fails when a `Config` cannot be read. */
export const readConfigs = <O extends object, K extends keyof O>(
  options: ConfigOptions<O, K>,
  names: ReadonlyArray<K>
): Effect.Effect<O, ConfigError> =>
  Effect.gen(function* () {
    const values: Record<PropertyKey, unknown> = { ...options }
    for (const name of names) {
      const option = values[name]
      if (!isConfig(option)) continue
      const value = yield* option
      values[name] = Redacted.isRedacted(value) ? Redacted.value(value) : value
    }
    // each `Config` was replaced by its value
    return values as O
  })

const isConfig = (value: unknown): value is Config<unknown> => Effect.isEffect(value)
