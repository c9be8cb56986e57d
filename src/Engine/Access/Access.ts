/**
 * Who may do what, in memory: keys by their hash, and the policies of each, compiled. It is read once at start and changed
 * after every commit that changes it, before the caller of that change hears of it. A check asks no database.
 */
import { hash, timingSafeEqual } from "node:crypto"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { readEnvironmentVariable } from "../../Environment.ts"
import { type StoreError, UnauthenticatedError, UnauthorizedError, ValidationError } from "../../Errors.ts"
import { type Action, Permissions, type PolicyRule } from "../../Policy.ts"
import type { AccessChange, KeyRecord, OrgRecord, PolicyRecord, RoleRecord } from "../Store/AccessRecords.ts"
import type { StoreService } from "../Store/Store.ts"
import * as BuiltIn from "./BuiltIn.ts"

/** A key of the operator's choice that every server has: `IRONFLOW_BOOTSTRAP_KEY` by default. */
export const BootstrapKey = Context.Reference<Redacted.Redacted<string> | undefined>(
  "@ironflow/node/BootstrapKey",
  {
    defaultValue: () => {
      const text = readEnvironmentVariable("IRONFLOW_BOOTSTRAP_KEY")
      return text === undefined ? undefined : Redacted.make(text)
    }
  }
)

/** How late the last use of a key may be in the database, milliseconds. */
const TOUCH_MS = 5000

export const hashOf = (key: string): string => hash("sha256", key, "hex")

/**
 * Whoever calls: with a key, or before there are any. It ends when the key is deleted, rotated or expires, and those
 * without a key when the first one is made.
 */
export class Caller {
  readonly key: KeyRecord | undefined
  readonly #access: Access
  readonly #listeners = new Set<(ended: boolean) => void>()
  #permissions: Permissions | undefined
  #ended = false
  #expiry: Fiber.Fiber<void> | undefined

  constructor(access: Access, key: KeyRecord | undefined) {
    this.#access = access
    this.key = key
  }

  /** Throws `UnauthenticatedError` when the key does not work any more. */
  checkAlive(): void {
    const { key } = this
    if (!this.#ended && key?.expiresAt !== undefined && this.#access.now() >= key.expiresAt) this.end()
    if (this.#ended) throw key === undefined ? keyNeeded() : wrongKey()
  }

  /** Notes that the key is in use. */
  used(): void {
    if (this.key !== undefined) this.#access.used(this.key.id)
  }

  /** Whether the action may be allowed on some resource. Throws `UnauthorizedError` when it never is. */
  checkAction(action: Action): void {
    if (this.key === undefined || this.#allowed(this.key).mayEver(action)) return
    throw this.#refusal(action, undefined, "nothing allows it")
  }

  /** Throws `UnauthorizedError` naming the action when the key may not do it to the resource; for `reach` see `Permissions`. */
  check(action: Action, resource: string, environment: string, reach?: (resources: string) => boolean): void {
    const { key } = this
    if (key === undefined) return
    const context = { environment, key, now: this.#access.now }
    const denial = this.#allowed(key).denial(action, resource, context, reach)
    if (denial === undefined) return
    if (denial.reason === "a condition failed") this.#access.conditionFailures++
    const why =
      denial.policy === undefined
        ? denial.reason
        : denial.reason === "a policy denies it"
          ? `policy "${denial.policy}" denies it`
          : `the condition of policy "${denial.policy}" failed (${denial.error})`
    throw this.#refusal(action, resource, why)
  }

  /** Whether the key may do that, without a word about why not. */
  may(
    action: Action,
    resource: string,
    environment: string,
    reach?: (resources: string) => boolean
  ): boolean {
    const { key } = this
    if (key === undefined) return true
    const context = { environment, key, now: this.#access.now }
    return this.#allowed(key).denial(action, resource, context, reach) === undefined
  }

  /**
   * Calls `listener` when the key ends (`ended`), and when what it may do has perhaps changed; returns the way to stop that.
   * For what goes on without calls: an open socket, an answer that takes its time.
   */
  watch(listener: (ended: boolean) => void): () => void {
    this.#listeners.add(listener)
    const expiresAt = this.key?.expiresAt
    if (expiresAt !== undefined && this.#expiry === undefined && !this.#ended) {
      this.#expiry = this.#access.fork(
        Effect.andThen(
          Effect.sleep(Math.max(0, expiresAt - this.#access.now())),
          Effect.sync(() => this.end())
        )
      )
    }
    return () => {
      this.#listeners.delete(listener)
      if (this.#listeners.size > 0) return
      this.#expiry?.interruptUnsafe()
      this.#expiry = undefined
    }
  }

  /** Never succeeds; fails when the key ends. */
  readonly ended: Effect.Effect<never, UnauthenticatedError> = Effect.callback((resume) => {
    const stop = this.watch((ended) => {
      if (ended) resume(Effect.fail(this.key === undefined ? keyNeeded() : wrongKey()))
    })
    return Effect.sync(stop)
  })

  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#tell(true)
    this.#expiry?.interruptUnsafe()
  }

  /** Policies have changed. */
  forget(): void {
    this.#permissions = undefined
    this.#tell(false)
  }

  #tell(ended: boolean): void {
    for (const listener of this.#listeners) listener(ended)
  }

  #allowed(key: KeyRecord): Permissions {
    return (this.#permissions ??= new Permissions(this.#access.rulesOf(key.roleIds)))
  }

  #refusal(action: Action, resource: string | undefined, why: string): UnauthorizedError {
    return new UnauthorizedError(
      `The API key "${this.key?.name}" may not ${action}${resource === undefined ? "" : ` on ${resource.slice(0, 256)}`}: ${why}. ` +
        "Use a key whose roles allow it"
    )
  }
}

const keyNeeded = (): UnauthenticatedError =>
  new UnauthenticatedError(
    "This engine wants an API key: give it as `apiKey`, or set IRONFLOW_API_KEY. `ironflow apikeys create` makes one"
  )

const wrongKey = (): UnauthenticatedError =>
  new UnauthenticatedError(
    "The API key is not valid: it is wrong, was deleted or rotated, or has expired. Check `apiKey` and IRONFLOW_API_KEY"
  )

export class Access {
  readonly now: () => number
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly keys = new Map<string, KeyRecord>()
  readonly orgs = new Map<string, OrgRecord>(BuiltIn.orgs.map((org) => [org.id, org]))
  readonly roles = new Map<string, RoleRecord>(BuiltIn.roles.map((role) => [role.id, role]))
  readonly policies = new Map<string, PolicyRecord>(BuiltIn.policies.map((policy) => [policy.id, policy]))
  /** Calls that were refused because a condition could not be told. */
  conditionFailures = 0
  readonly #store: StoreService
  /** By the first half of the hash, which tells nobody anything about the key. */
  readonly #callers = new Map<string, { readonly hash: Buffer; readonly caller: Caller }>()
  readonly #uses = new Map<string, number>()
  #anybody = new Caller(this, undefined)
  #touching = false

  constructor(
    store: StoreService,
    now: () => number,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  ) {
    this.#store = store
    this.now = now
    this.fork = fork
  }

  /** Whether calls need a key: since there is one. */
  get required(): boolean {
    return this.keys.size > 0
  }

  /**
   * Who has the key; `undefined` for no key. Throws `UnauthenticatedError` when the key is not one, or is missing.
   * Before there are keys everybody is taken as they come.
   */
  authenticate(key: string | undefined): Caller {
    if (!this.required) return this.#anybody
    if (key === undefined || key === "") throw keyNeeded()
    const hashed = hashOf(key)
    const found = this.#callers.get(placeOf(hashed))
    if (found === undefined || !timingSafeEqual(found.hash, Buffer.from(hashed, "hex"))) throw wrongKey()
    found.caller.checkAlive()
    return found.caller
  }

  /** What the roles allow and deny. */
  rulesOf(roleIds: ReadonlyArray<string>): ReadonlyArray<PolicyRule> {
    const ids = new Set(roleIds.flatMap((id) => this.roles.get(id)?.policyIds ?? []))
    return [...ids].flatMap((id) => this.policies.get(id) ?? [])
  }

  /** When a key was last used. */
  lastUse(key: KeyRecord): number | undefined {
    return this.#uses.get(key.id) ?? key.lastUsedAt
  }

  /** A key is in use: noted together with others, a little later. */
  used(id: string): void {
    this.#uses.set(id, this.now())
    if (this.#touching) return
    this.#touching = true
    this.fork(Effect.andThen(Effect.sleep(TOUCH_MS), this.flush))
  }

  /** Stores when keys were used. */
  readonly flush: Effect.Effect<void> = Effect.suspend(() => {
    this.#touching = false
    const uses = [...this.#uses].map(([id, at]) => ({ id, at }))
    if (uses.length === 0) return Effect.void
    for (const { id, at } of uses) {
      const key = this.keys.get(id)
      if (key !== undefined) this.keys.set(id, { ...key, lastUsedAt: at })
    }
    this.#uses.clear()
    return Effect.catch(this.#store.touchApiKeys(uses), (error) =>
      Effect.logWarning("When API keys were last used could not be stored", error)
    )
  })

  apply(changes: ReadonlyArray<AccessChange>): void {
    let policiesChanged = false
    for (const change of changes) {
      switch (change._tag) {
        case "Key":
          this.#endKey(change.key.id)
          this.#addKey(change.key)
          break
        case "KeyDeleted":
          this.#endKey(change.id)
          break
        case "Org":
          this.orgs.set(change.org.id, change.org)
          break
        case "OrgDeleted":
          this.orgs.delete(change.id)
          break
        case "Role":
          this.roles.set(change.role.id, change.role)
          policiesChanged = true
          break
        case "RoleDeleted":
          this.roles.delete(change.id)
          break
        case "Policy":
          this.policies.set(change.policy.id, change.policy)
          policiesChanged = true
          break
        case "PolicyDeleted":
          this.policies.delete(change.id)
          break
      }
    }
    if (policiesChanged) for (const { caller } of this.#callers.values()) caller.forget()
  }

  #addKey(key: KeyRecord): void {
    const isFirst = !this.required
    this.keys.set(key.id, key)
    this.#callers.set(placeOf(key.hash), {
      hash: Buffer.from(key.hash, "hex"),
      caller: new Caller(this, key)
    })
    if (!isFirst) return
    this.#anybody.end()
    this.#anybody = new Caller(this, undefined)
  }

  #endKey(id: string): void {
    const key = this.keys.get(id)
    if (key === undefined) return
    this.keys.delete(id)
    this.#uses.delete(id)
    const place = placeOf(key.hash)
    this.#callers.get(place)?.caller.end()
    this.#callers.delete(place)
  }
}

const placeOf = (hash: string): string => hash.slice(0, 32)

/** What the store knows, kept up to date for the lifetime of the scope. */
export const make = (store: StoreService): Effect.Effect<Access, StoreError, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const scope = yield* Scope.Scope
    const run = Effect.runForkWith(yield* Effect.context<never>())
    const access = new Access(
      store,
      () => clock.currentTimeMillisUnsafe(),
      (effect) => Fiber.runIn(run(effect), scope)
    )
    const stop = store.onCommit(({ access: changes }) => {
      if (changes.length > 0) access.apply(changes)
    })
    yield* Effect.addFinalizer(() => Effect.andThen(Effect.sync(stop), access.flush))
    const { keys, orgs, roles, policies } = yield* store.readAccess()
    access.apply([
      ...orgs.map((org) => ({ _tag: "Org", org }) as const),
      ...policies.map((policy) => ({ _tag: "Policy", policy }) as const),
      ...roles.map((role) => ({ _tag: "Role", role }) as const),
      ...keys.map((key) => ({ _tag: "Key", key }) as const)
    ])
    return access
  })

/** Makes sure that the operator's key is there. */
export const putBootstrapKey = (store: StoreService): Effect.Effect<void, ValidationError | StoreError> =>
  Effect.flatMap(BootstrapKey, (redacted): Effect.Effect<void, ValidationError | StoreError> => {
    if (redacted === undefined) return Effect.void
    const key = Redacted.value(redacted)
    if (!/^[\x21-\x7e]{32,256}$/.test(key)) {
      return Effect.fail(
        new ValidationError(
          `IRONFLOW_BOOTSTRAP_KEY must be 32 to 256 printable ASCII characters without spaces, and this one has ${key.length}: ` +
            `make one with \`node -p "require('node:crypto').randomBytes(32).toString('base64url')"\`.`
        )
      )
    }
    return store.putBootstrapKey(hashOf(key))
  })
