/**
 * Who may do what, in memory: the API keys, and the compiled policies of each key, so that a check usually needs no query. The
 * access records (keys, organizations, roles and policies) are read at the start. They are updated after every commit that changes
 * them, before the call that made the change is answered. If they may be outdated (see `AccessFreshness.ts`), they are read again
 * before the next call is judged.
 */
import * as Layer from "effect/Layer"
import { hash, timingSafeEqual } from "node:crypto"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import {
  type IronflowError,
  isIronflowError,
  type StoreError,
  UnauthenticatedError,
  UnauthorizedError
} from "../../Errors.ts"
import { type Action, type Denial, Permissions, type PolicyRule, type ResourceKind } from "../../Policy.ts"
import type {
  AccessRecords,
  KeyRecord,
  OrgRecord,
  PolicyRecord,
  RoleRecord
} from "../Records/AccessRecords.ts"
import { changesTo } from "./AccessChanges.ts"
import { AccessFreshness } from "./AccessFreshness.ts"
import type { AccessChange } from "../Store/Changes.ts"
import * as SharedCopy from "../Store/SharedCopy.ts"
import { Store, type StoreService } from "../Store/Store.ts"
import { keyNeededError } from "./KeyErrors.ts"
import * as BuiltIn from "./BuiltIn.ts"
import * as AccessRows from "./AccessRows.ts"
import * as KeyRows from "./KeyRows.ts"

/** The time at which a key was used is stored at most this many milliseconds after the use. */
const STORE_USES_MS = 5000

export const hashOf = (key: string): string => hash("sha256", key, "hex")

/**
 * A caller of the engine: with the secret of a key, or without a key as long as there are no keys. A caller with a key ends when
 * the key is deleted or expires. It also ends when the secret was replaced, and the time for which the old secret still works is
 * over. A caller without a key ends when the first key is created.
 */
export class Caller {
  /** Counts the changes after which the caller's permissions may be different. */
  changeCount = 0
  readonly #access: AccessService
  readonly #listeners = new Set<(ended: boolean) => void>()
  #key: KeyRecord | undefined
  #endsAt: number | undefined
  #permissions: Permissions | undefined
  #isEnded = false
  #expiry: Fiber.Fiber<void> | undefined

  constructor(access: AccessService, key?: KeyRecord, endsAt?: number) {
    this.#access = access
    this.#key = key
    this.#endsAt = endsAt
  }

  get key(): KeyRecord | undefined {
    return this.#key
  }

  /**
   * When the caller ends without a further change, in epoch milliseconds; `undefined` for never. A replaced secret ends before the
   * key does.
   */
  get endsAt(): number | undefined {
    return this.#endsAt
  }

  /** The rules of the key's roles: what they allow and deny. */
  get rules(): ReadonlyArray<PolicyRule> {
    return this.#key === undefined ? [] : this.#access.rulesOf(this.#key.roleIds)
  }

  /** Throws `UnauthenticatedError` when the key no longer works. */
  checkAlive(): void {
    if (!this.#isEnded && this.#endsAt !== undefined && this.#access.now() >= this.#endsAt) this.end()
    if (this.#isEnded) throw this.#endedError()
  }

  /** Notes that the key was used. */
  noteUse(): void {
    if (this.#key !== undefined) this.#access.noteUse(this.#key.id)
  }

  /** Throws `UnauthorizedError` when there is no resource to which the key may do the action. */
  checkAction(action: Action): void {
    if (this.#key === undefined || this.#allowed(this.#key).mayEver(action)) return
    throw this.#refusal(action, undefined, "nothing allows it")
  }

  /** Throws `UnauthorizedError` when there is no resource of the kind to which the key may do the action. */
  checkAny(action: Action, kind: ResourceKind): void {
    if (this.#key === undefined || this.#allowed(this.#key).mayAny(action, kind)) return
    throw this.#refusal(action, `${kind}:*`, "nothing allows it")
  }

  /**
   * Throws `UnauthorizedError` when the key may not do the action to the resource. The error names the action. For `reach` see
   * `Permissions`.
   */
  check(action: Action, resource: string, environment: string, reach?: (resources: string) => boolean): void {
    this.#refuse(action, resource, this.#denial(action, resource, environment, reach))
  }

  /**
   * Throws `UnauthorizedError` when a policy denies the action on the resource. This check is for side effects of an allowed
   * action. For example, a caller that may append to a stream needs no policy that allows `emit:event`, but no policy may deny it.
   */
  checkNotDenied(
    action: Action,
    resource: string,
    environment: string,
    reach?: (resources: string) => boolean
  ): void {
    this.#refuse(action, resource, this.#prohibition(action, resource, environment, reach))
  }

  /** Whether the key may do the action to the resource. */
  may(
    action: Action,
    resource: string,
    environment: string,
    reach?: (resources: string) => boolean
  ): boolean {
    return this.#denial(action, resource, environment, reach) === undefined
  }

  /** Whether no policy denies the action on the resource, even if none allows it. */
  isNotDenied(
    action: Action,
    resource: string,
    environment: string,
    reach?: (resources: string) => boolean
  ): boolean {
    return this.#prohibition(action, resource, environment, reach) === undefined
  }

  /** Whether the action is allowed on everything, whatever the request is. */
  mayAll(action: Action): boolean {
    return this.#key === undefined || this.#allowed(this.#key).mayAll(action)
  }

  /** Whether a policy denies the action on something. */
  isDenied(action: Action): boolean {
    return this.#key !== undefined && this.#allowed(this.#key).isDenied(action)
  }

  /** Whether a policy denies the action on something, or allows it only on some things or under conditions. */
  isLimited(action: Action): boolean {
    if (this.#key === undefined) return false
    const permissions = this.#allowed(this.#key)
    return permissions.isDenied(action) || (permissions.mayEver(action) && !permissions.mayAll(action))
  }

  get isEnded(): boolean {
    return this.#isEnded
  }

  /**
   * Calls `listener` when the caller ends (`ended`), and when its permissions may have changed. Returns a function that removes the
   * listener. This is for work that goes on between calls: an open socket, or a long response.
   */
  watch(listener: (ended: boolean) => void): () => void {
    this.#listeners.add(listener)
    this.#awaitEnd()
    return () => {
      this.#listeners.delete(listener)
      if (this.#listeners.size > 0) return
      this.#expiry?.interruptUnsafe()
      this.#expiry = undefined
    }
  }

  /**
   * Runs the effect. Interrupts the effect and fails when the caller ends, or when `check` throws after a possible change of the
   * caller's permissions.
   */
  whileAllowed<A, E>(effect: Effect.Effect<A, E>, check: () => void): Effect.Effect<A, E | IronflowError> {
    return Effect.withFiber((parent) =>
      Effect.callback<A, E | IronflowError>((resume) => {
        // most callers do not end: one fiber costs less than a race of two fibers
        const fiber = Effect.runForkWith(parent.context)(effect)
        const failIfRefused = (ended: boolean): void => {
          try {
            if (ended) throw this.#endedError()
            check()
          } catch (error) {
            const failure = isIronflowError(error) ? Effect.fail(error) : Effect.die(error)
            resume(Effect.andThen(Fiber.interrupt(fiber), failure))
          }
        }
        const stop = this.watch(failIfRefused)
        fiber.addObserver((exit) => {
          stop()
          resume(exit)
        })
        if (this.#isEnded) failIfRefused(true)
        return Fiber.interrupt(fiber)
      })
    )
  }

  end(): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#callListeners(true)
    this.#expiry?.interruptUnsafe()
  }

  /** Drops the compiled policies, and calls the listeners. Called when the policies or the key have changed. */
  dropPermissions(): void {
    this.#permissions = undefined
    this.changeCount++
    this.#callListeners(false)
  }

  /** Replaces the record of the key. `endsAt` says until when the secret of this caller works. */
  renew(key: KeyRecord, endsAt: number | undefined): void {
    this.#key = key
    this.#endsAt = endsAt
    this.#expiry?.interruptUnsafe()
    this.#expiry = undefined
    if (this.#listeners.size > 0) this.#awaitEnd()
    this.dropPermissions()
  }

  #awaitEnd(): void {
    if (this.#endsAt === undefined || this.#expiry !== undefined || this.#isEnded) return
    this.#expiry = this.#access.fork(
      Effect.andThen(
        Effect.sleep(Math.max(0, this.#endsAt - this.#access.now())),
        Effect.sync(() => this.end())
      )
    )
  }

  #callListeners(ended: boolean): void {
    for (const listener of this.#listeners) listener(ended)
  }

  #allowed(key: KeyRecord): Permissions {
    return (this.#permissions ??= new Permissions(this.#access.rulesOf(key.roleIds)))
  }

  #denial(
    action: Action,
    resource: string,
    environment: string,
    reach?: (resources: string) => boolean
  ): Denial | undefined {
    const key = this.#key
    if (key === undefined) return undefined
    return this.#allowed(key).denial(action, resource, { environment, key, now: this.#access.now }, reach)
  }

  #prohibition(
    action: Action,
    resource: string,
    environment: string,
    reach?: (resources: string) => boolean
  ): Denial | undefined {
    const key = this.#key
    if (key === undefined) return undefined
    return this.#allowed(key).prohibition(
      action,
      resource,
      { environment, key, now: this.#access.now },
      reach
    )
  }

  #refuse(action: Action, resource: string, denial: Denial | undefined): void {
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

  #refusal(action: Action, resource: string | undefined, why: string): UnauthorizedError {
    return new UnauthorizedError(
      `The API key "${this.#key?.name}" may not ${action}${resource === undefined ? "" : ` on ${resource.slice(0, 256)}`}: ${why}. ` +
        "Use a key whose roles allow it"
    )
  }

  #endedError(): UnauthenticatedError {
    return this.#key === undefined ? keyNeededError() : wrongKeyError()
  }
}

const wrongKeyError = (): UnauthenticatedError =>
  new UnauthenticatedError(
    "The API key is not valid: it is wrong, was deleted or rotated, or has expired. Check `apiKey` and IRONFLOW_API_KEY"
  )

export class AccessService {
  readonly now: () => number
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly keys = new Map<string, KeyRecord>()
  readonly orgs = new Map<string, OrgRecord>(BuiltIn.orgs.map((org) => [org.id, org]))
  readonly roles = new Map<string, RoleRecord>(BuiltIn.roles.map((role) => [role.id, role]))
  readonly policies = new Map<string, PolicyRecord>(BuiltIn.policies.map((policy) => [policy.id, policy]))
  /** How many calls were refused because a condition could not be evaluated. */
  conditionFailures = 0
  /** Says when the records must be read again before a call is judged. Absent where no other engine changes the records. */
  freshness: AccessFreshness | undefined
  readonly #store: StoreService
  /** The callers, by the first half of the hash of their secret: see {@link placeOf}. */
  readonly #callers = new Map<string, { readonly hash: Buffer; readonly caller: Caller }>()
  /** By key id: when the key was last used, in epoch milliseconds, if that is not stored yet. */
  readonly #uses = new Map<string, number>()
  #anybody = new Caller(this)
  #willStoreUses = false

  constructor(
    store: StoreService,
    now: () => number,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  ) {
    this.#store = store
    this.now = now
    this.fork = fork
  }

  /** Whether calls need a key: `true` as long as there is any key. */
  get needsKey(): boolean {
    return this.keys.size > 0
  }

  /**
   * The caller whose API key has this secret; `secret` is `undefined` for a call without a key. Throws `UnauthenticatedError` when
   * the secret is invalid or missing. As long as there are no keys, every call is accepted.
   */
  authenticate(secret: string | undefined): Caller {
    if (!this.needsKey) return this.#anybody
    if (secret === undefined || secret === "") throw keyNeededError()
    const secretHash = hashOf(secret)
    const found = this.#callers.get(placeOf(secretHash))
    if (found === undefined || !timingSafeEqual(found.hash, Buffer.from(secretHash, "hex")))
      throw wrongKeyError()
    found.caller.checkAlive()
    return found.caller
  }

  /** Whether a key has this secret. */
  knowsSecret(secret: string): boolean {
    return this.#callers.has(placeOf(hashOf(secret)))
  }

  /**
   * A caller with the key that has this id; `undefined` when the key is gone. This caller has the permissions that the key has now,
   * and does not follow later changes: get another caller for each piece of work.
   */
  callerOf(keyId: string): Caller | undefined {
    const key = this.keys.get(keyId)
    return key === undefined ? undefined : new Caller(this, key, key.expiresAt)
  }

  /** The hash of the valid secret whose {@link placeOf} is `place`. */
  hashAt(place: string): string | undefined {
    return this.#callers.get(place)?.hash.toString("hex")
  }

  /** The rules of these roles: what they allow and deny. */
  rulesOf(roleIds: ReadonlyArray<string>): ReadonlyArray<PolicyRule> {
    const ids = new Set(roleIds.flatMap((id) => this.roles.get(id)?.policyIds ?? []))
    return [...ids].flatMap((id) => this.policies.get(id) ?? [])
  }

  /** When a key was last used, in epoch milliseconds; `undefined` for a key that was not used yet. */
  lastUseOf(key: KeyRecord): number | undefined {
    return this.#uses.get(key.id) ?? key.lastUsedAt
  }

  /** Notes the use of a key. The uses of all keys are stored together, a little later. */
  noteUse(id: string): void {
    this.#uses.set(id, this.now())
    if (this.#willStoreUses) return
    this.#willStoreUses = true
    this.fork(Effect.andThen(Effect.sleep(STORE_USES_MS), this.flush))
  }

  /** Stores when the keys were last used. */
  readonly flush: Effect.Effect<void> = Effect.suspend(() => {
    this.#willStoreUses = false
    const uses = [...this.#uses].map(([id, at]) => ({ id, at }))
    if (uses.length === 0) return Effect.void
    for (const { id, at } of uses) {
      const key = this.keys.get(id)
      if (key !== undefined) this.keys.set(id, { ...key, lastUsedAt: at })
    }
    this.#uses.clear()
    return Effect.catch(this.#store.write(KeyRows.touchApiKeys(uses)), (error) =>
      Effect.logWarning("The times at which API keys were last used could not be stored", error)
    )
  })

  /** Replaces all keys, organizations, roles and policies except the built-in ones. */
  replaceAll(records: AccessRecords): void {
    this.apply(changesTo(this, records))
  }

  apply(changes: ReadonlyArray<AccessChange>): void {
    let policiesChanged = false
    for (const change of changes) {
      switch (change._tag) {
        case "Key":
          this.#putKey(change.key)
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
          policiesChanged = true
          break
        case "Policy":
          this.policies.set(change.policy.id, change.policy)
          policiesChanged = true
          break
        case "PolicyDeleted":
          this.policies.delete(change.id)
          policiesChanged = true
          break
      }
    }
    if (policiesChanged) for (const { caller } of this.#callers.values()) caller.dropPermissions()
  }

  #putKey(key: KeyRecord): void {
    const isFirst = !this.needsKey
    const secrets = secretsOf(key)
    const oldKey = this.keys.get(key.id)
    for (const { hash } of oldKey === undefined ? [] : secretsOf(oldKey)) {
      if (!secrets.some((secret) => secret.hash === hash)) this.#endSecret(hash)
    }
    this.keys.set(key.id, key)
    for (const { endsAt, hash } of secrets) {
      const known = this.#callers.get(placeOf(hash))
      if (known !== undefined) known.caller.renew(key, endsAt)
      else {
        this.#callers.set(placeOf(hash), {
          hash: Buffer.from(hash, "hex"),
          caller: new Caller(this, key, endsAt)
        })
      }
    }
    if (!isFirst) return
    const anybody = this.#anybody
    this.#anybody = new Caller(this)
    anybody.end()
  }

  #endKey(id: string): void {
    const key = this.keys.get(id)
    if (key === undefined) return
    this.keys.delete(id)
    this.#uses.delete(id)
    for (const { hash } of secretsOf(key)) this.#endSecret(hash)
  }

  #endSecret(hash: string): void {
    const place = placeOf(hash)
    this.#callers.get(place)?.caller.end()
    this.#callers.delete(place)
  }
}

/** The secrets of a key, and for each of them, when it ends. */
const secretsOf = ({
  expiresAt,
  hash,
  previous
}: KeyRecord): ReadonlyArray<{ readonly hash: string; readonly endsAt: number | undefined }> => [
  { hash, endsAt: expiresAt },
  ...(previous === undefined
    ? []
    : [{ hash: previous.hash, endsAt: Math.min(previous.endsAt, expiresAt ?? Number.POSITIVE_INFINITY) }])
]

/** The first half of the hash of a secret, by which the hash is found. It reveals nothing about the secret. */
export const placeOf = (hash: string): string => hash.slice(0, 32)

export class Access extends Context.Service<Access, AccessService>()("@ironflow/node/Engine/Access") {}

export const layer: Layer.Layer<Access, StoreError, Store> = Layer.effect(
  Access,
  Effect.flatMap(Store, (store) => make(store))
)

/** The access records of the store, kept up to date until the scope ends. */
export const make = (store: StoreService): Effect.Effect<AccessService, StoreError, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const scope = yield* Scope.Scope
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const access = new AccessService(
      store,
      () => clock.currentTimeMillisUnsafe(),
      (effect) => Fiber.runIn(runFork(effect), scope)
    )
    const monotonicMs = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    let beganAt = monotonicMs()
    let readAt = beganAt
    const copy = yield* SharedCopy.make(
      "keys and policies",
      Effect.suspend(() => {
        beganAt = monotonicMs()
        return store.read(AccessRows.readAccess())
      }),
      (records) => {
        access.replaceAll(records)
        readAt = beganAt
      }
    )
    const { sinceCurrentMs } = store
    if (sinceCurrentMs !== undefined) {
      access.freshness = new AccessFreshness({
        copy,
        sinceCurrentMs,
        readAt: () => readAt,
        monotonicMs,
        knowsSecret: (key) => access.knowsSecret(key)
      })
      const { freshness } = access
      // as long as the records may be outdated, open streams get nothing new. Reading the records again ends the streams whose
      // callers have ended; the others go on, and leave out what their callers may no longer see
      store.setGate?.({
        isShut: () => freshness.needsRefresh(),
        open: () =>
          new Promise((resolve) => void runFork(Effect.exit(freshness.refresh)).addObserver(() => resolve()))
      })
    }
    const stop = store.onCommit(({ access: changes, stale }) => {
      if (changes.length > 0) {
        access.apply(changes)
        copy.changed()
      }
      if (stale.has("access")) copy.refresh()
    })
    yield* Effect.addFinalizer(() => Effect.andThen(Effect.sync(stop), access.flush))
    access.replaceAll(yield* store.read(AccessRows.readAccess()))
    return access
  })
