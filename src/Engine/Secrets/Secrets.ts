/**
 * Secrets. In the database, the values are sealed: encrypted with AES-256-GCM and the master key. A value is opened only for a
 * handler whose function asks for the secret. A sealed value is bound to the environment and name of its secret, so a sealed value
 * that somebody has copied to the row of another secret cannot be opened.
 */
import * as Layer from "effect/Layer"
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { readEnvironmentVariable, type Variables } from "../../EnvironmentVariables.ts"
import { type EngineError, MasterKeyError, type StoreError, ValidationError } from "../../Errors.ts"
import * as Limits from "../../Limits.ts"
import type { SecretInfo } from "../../Protocol/Secrets.ts"
import { show } from "../../Show.ts"
import { allPages, LIST_PAGE, type Page, type PageQuery, pageByName } from "../Pages.ts"
import * as Rows from "./SecretRows.ts"
import { SystemEvents, type SystemEventsService } from "../SystemEvents/SystemEvents.ts"
import { Store, type StoreService } from "../Store/Store.ts"
import { validated } from "../../CheckAsEffect.ts"
import { providedOr } from "../../ConfigProviderVariables.ts"

/** The master key: 32 bytes as a base64 or hex string. `IRONFLOW_MASTER_KEY` by default. */
export const MasterKey = Context.Reference<Redacted.Redacted<string> | undefined>(
  "@ironflow/node/MasterKey",
  {
    defaultValue: () => masterKeyIn(readEnvironmentVariable)
  }
)

const masterKeyIn = (variables: Variables): Redacted.Redacted<string> | undefined => {
  const text = variables("IRONFLOW_MASTER_KEY")
  return text === undefined ? undefined : Redacted.make(text)
}

/** Management of the secrets of one environment. Values can be set but not read. */
export interface SecretsOfEnvironment {
  /** Stores a secret or replaces its value. */
  readonly set: (
    name: string,
    value: string
  ) => Effect.Effect<void, ValidationError | EngineError | StoreError>
  readonly list: Effect.Effect<Array<SecretInfo>, StoreError>
  readonly listPage: (page: PageQuery) => Effect.Effect<Page<SecretInfo>, StoreError>
  readonly find: (name: string) => Effect.Effect<SecretInfo | undefined, StoreError>
  /** Deletes a secret. Returns whether it existed. */
  readonly delete: (name: string) => Effect.Effect<boolean, StoreError>
}

/** The allowed names of secrets: like names of environment variables, but `.` and `-` are allowed too. */
const namePattern = /^[A-Za-z_][A-Za-z0-9_.-]{0,255}$/

export class SecretsService {
  readonly #store: StoreService
  readonly #system: SystemEventsService
  readonly #key: Buffer | undefined

  /** Throws `ValidationError` when the master key is not 32 bytes. */
  constructor(
    store: StoreService,
    system: SystemEventsService,
    masterKey: Redacted.Redacted<string> | undefined
  ) {
    this.#store = store
    this.#system = system
    this.#key = masterKey === undefined ? undefined : readMasterKey(Redacted.value(masterKey))
  }

  get hasMasterKey(): boolean {
    return this.#key !== undefined
  }

  /** Management of the secrets of one environment. */
  in(environment: string): SecretsOfEnvironment {
    const announceChange = (name: string, action: "created" | "updated" | "deleted"): void =>
      this.#system.announce(
        environment,
        `system.secret.${name}.${action}`,
        () => ({ name, action }),
        undefined,
        { action: "secret:read", resource: `secret:${name}` }
      )
    const listPage: SecretsOfEnvironment["listPage"] = (page) =>
      Effect.map(this.#store.read(Rows.listSecrets(environment, page)), (secrets) =>
        pageByName(secrets, page)
      )
    return {
      set: (name, value) =>
        Effect.suspend((): Effect.Effect<void, EngineError> => {
          const invalid = checkSecret(name, value)
          if (invalid !== undefined) return Effect.fail(invalid)
          if (this.#key === undefined) return Effect.fail(keyMissing(`Secret "${name}" cannot be stored`))
          return Effect.map(
            this.#store.write(
              Rows.putSecret(environment, name, seal(this.#key, value, `${environment}/${name}`))
            ),
            (action) => announceChange(name, action)
          )
        }),
      list: allPages((after) => listPage({ after, limit: LIST_PAGE })),
      listPage,
      find: (name) => this.#store.read(Rows.findSecret(environment, name)),
      delete: (name) =>
        Effect.tap(this.#store.write(Rows.deleteSecret(environment, name)), (existed) =>
          Effect.sync(() => existed && announceChange(name, "deleted"))
        )
    }
  }

  /**
   * The values of the secrets with these names. Missing secrets are left out. Fails with code `MASTER_KEY_MISSING` or
   * `MASTER_KEY_WRONG` when the value of a stored secret cannot be opened.
   */
  open(
    environment: string,
    names: ReadonlyArray<string>
  ): Effect.Effect<{ readonly [name: string]: string }, EngineError | StoreError> {
    return Effect.flatMap(this.#store.read(Rows.readSecrets(environment, names)), (sealed) => {
      const key = this.#key
      if (sealed.length === 0) return Effect.succeed({})
      if (key === undefined) return Effect.fail(keyMissingError(sealed[0]?.name))
      const values: Record<string, string> = {}
      for (const { name, sealed: text } of sealed) {
        const value = unseal(key, text, `${environment}/${name}`)
        if (value === undefined) {
          return Effect.fail(
            new MasterKeyError(
              `Secret "${name}" cannot be opened with the master key of this engine: the secret was stored under another master key, or its ` +
                "row in the database was changed. Set IRONFLOW_MASTER_KEY to the key under which the secret was stored, or store the secret again.",
              { code: "MASTER_KEY_WRONG" }
            )
          )
        }
        values[name] = value
      }
      return Effect.succeed(values)
    })
  }
}

export class Secrets extends Context.Service<Secrets, SecretsService>()("@ironflow/node/Engine/Secrets") {}

/** The layer of {@link Secrets}, with the {@link MasterKey}. Fails when the master key is invalid. */
export const layer: Layer.Layer<Secrets, ValidationError, Store | SystemEvents> = Layer.effect(
  Secrets,
  Effect.gen(function* () {
    const store = yield* Store
    const system = yield* SystemEvents
    const masterKey = yield* providedOr(MasterKey, masterKeyIn)
    return yield* validated(() => new SecretsService(store, system, masterKey))
  })
)

const keyMissing = (what: string): EngineError =>
  new MasterKeyError(
    `${what}: the engine has no master key. Set IRONFLOW_MASTER_KEY to 32 random bytes in base64, for example from ` +
      `\`node -p "require('node:crypto').randomBytes(32).toString('base64')"\`.`,
    { code: "MASTER_KEY_MISSING" }
  )

/**
 * The error when a stored secret is needed and there is no master key. It asks for the old master key, because a new key cannot
 * open the secret.
 */
const keyMissingError = (name: string | undefined): EngineError =>
  new MasterKeyError(
    `Secret "${name}" cannot be opened: the engine has no master key. Set IRONFLOW_MASTER_KEY to the key under which the secret was stored.`,
    { code: "MASTER_KEY_MISSING" }
  )

const checkSecret = (name: string, value: string): ValidationError | undefined => {
  if (typeof name !== "string" || !namePattern.test(name)) {
    return new ValidationError(
      `${show(name)} cannot be the name of a secret: use at most 256 letters, digits, "_", "." and "-", and begin with a letter or "_"`
    )
  }
  if (typeof value !== "string" || value === "") {
    return new ValidationError(`The value of secret "${name}" must be a string that is not empty`)
  }
  if (value.length > Limits.secretLength) {
    return new ValidationError(
      `The value of secret "${name}" has ${value.length} characters, and at most ${Limits.secretLength} are allowed`
    )
  }
  // checked here, because the message of the usual check would show the value
  if (Limits.hasLoneSurrogate(value)) {
    return new ValidationError(
      `The value of secret "${name}" must not contain a lone surrogate (half a character)`
    )
  }
  return undefined
}

const readMasterKey = (text: string): Buffer => {
  const key = /^[0-9a-fA-F]{64}$/.test(text) ? Buffer.from(text, "hex") : Buffer.from(text, "base64")
  if (key.length === 32) return key
  throw new ValidationError(
    `The master key must be 32 bytes in base64 or hex, and the given key has ${key.length} bytes: ` +
      `make one with \`node -p "require('node:crypto').randomBytes(32).toString('base64')"\`.`
  )
}

const VERSION = "v1"

const seal = (key: Buffer, value: string, boundTo: string): string => {
  const iv = randomBytes(12)
  const cipher = createCipheriv("aes-256-gcm", key, iv).setAAD(Buffer.from(boundTo))
  const sealed = Buffer.concat([cipher.update(value, "utf8"), cipher.final()])
  return [
    VERSION,
    iv.toString("base64"),
    cipher.getAuthTag().toString("base64"),
    sealed.toString("base64")
  ].join(".")
}

const unseal = (key: Buffer, text: string, boundTo: string): string | undefined => {
  const [version, iv, tag, sealed] = text.split(".")
  if (version !== VERSION || iv === undefined || tag === undefined || sealed === undefined) return undefined
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, Buffer.from(iv, "base64"))
      .setAAD(Buffer.from(boundTo))
      .setAuthTag(Buffer.from(tag, "base64"))
    return Buffer.concat([decipher.update(Buffer.from(sealed, "base64")), decipher.final()]).toString("utf8")
  } catch {
    // the authentication tag does not match: the value was sealed with another key, or the row was changed. The caller reports this
    return undefined
  }
}
