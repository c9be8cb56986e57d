/** The connected members of a consumer group. The group's deliveries are in the store. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import type { AckMode, BackpressureMode, BufferConfig, GroupSettings } from "../../Protocol/Subscriptions.ts"
import type { GroupSetup, Redelivery } from "./GroupRecords.ts"
import type { StoreService } from "../Store/Store.ts"
import { encodeItem, type Feed, type Listener, RETRY_MS, type ItemFormat } from "./Feed.ts"
import { makeFilter } from "./Filter.ts"
import { redeliveryOf, settingsOf } from "./SubscriptionSettings.ts"
import {
  backlogLimit,
  givenUpMessage,
  type InProgressSelection,
  type ConnectionSink,
  type Settlement,
  slowConsumerMessage,
  type OpenSubscription
} from "./Subscriber.ts"
import * as GroupInspection from "./GroupInspection.ts"
import * as DeliveryRows from "./DeliveryRows.ts"
import * as GroupClaims from "./GroupClaims.ts"

export class Group implements Listener {
  readonly environment: string
  readonly key: number
  readonly name: string
  readonly #store: StoreService
  readonly #run: (effect: Effect.Effect<void>) => void
  readonly #scheduleAt: (epochMs: number, f: () => void) => () => void
  readonly #now: () => number
  readonly #feed: () => Feed
  readonly #format: ItemFormat
  readonly #onRetire: () => void
  #setup: GroupSetup
  #settings: GroupSettings
  #isRetired = false
  #isDeleted = false
  #leaveFeed: (() => void) | undefined
  readonly #members = new Map<string, Member>()
  #lastServed: string | undefined
  #isClaiming = false
  #wasWokenMeanwhile = false
  #cancelAlarm: (() => void) | undefined
  /** When the next delivery is due again, in epoch milliseconds, as far as the group knows. */
  #nextDueAt = Number.POSITIVE_INFINITY

  constructor(
    {
      environment,
      key,
      name,
      setup
    }: {
      readonly environment: string
      readonly key: number
      readonly name: string
      readonly setup: GroupSetup
    },
    format: ItemFormat,
    feed: () => Feed,
    engine: {
      readonly store: StoreService
      readonly run: (effect: Effect.Effect<void>) => void
      readonly at: (epochMs: number, f: () => void) => () => void
      readonly now: () => number
    },
    onRetire: () => void
  ) {
    this.environment = environment
    this.key = key
    this.name = name
    this.#setup = setup
    this.#settings = settingsOf(setup.settings)
    this.#onRetire = onRetire
    this.#store = engine.store
    this.#run = engine.run
    this.#scheduleAt = engine.at
    this.#now = engine.now
    this.#feed = feed
    this.#format = format
  }

  get settings(): GroupSettings {
    return this.#settings
  }

  now(): number {
    return this.#now()
  }

  redelivery(delayMs?: number): Redelivery {
    return redeliveryOf(this.#setup.settings, delayMs)
  }

  get members(): ReadonlyArray<Member> {
    return [...this.#members.values()]
  }

  /** Whether the group is configured with another filter than the one that a member requests. */
  refusesFilter(requested: string | undefined): boolean {
    return this.#setup.isConfigured && requested !== undefined && requested !== this.#setup.filter
  }

  get filter(): string | undefined {
    return this.#setup.filter
  }

  /** Reads the group again, because it was updated, paused, resumed or deleted. */
  readonly refresh: Effect.Effect<void, StoreError> = Effect.suspend(() =>
    Effect.map(this.#store.read(GroupInspection.getSetup(this.environment, this.key)), (setup) => {
      if (setup === undefined) return this.#end()
      const hasNewFilter = setup.filter !== this.#setup.filter
      this.#setup = setup
      this.#settings = settingsOf(setup.settings)
      if (hasNewFilter && this.#leaveFeed !== undefined) {
        this.#leaveFeed()
        this.#leaveFeed = this.#join()
      }
      this.wake()
    })
  )

  #join(): () => void {
    const { filter: _, ...format } = this.#format
    const { filter } = this.#setup
    return this.#feed().join(
      filter === undefined
        ? format
        : { ...format, filter: makeFilter(filter, `consumer group "${this.name}"`, this.#run) },
      this
    )
  }

  /** Tells the members that the group was deleted. A later request for its name creates another group. */
  #end(): void {
    if (this.#isDeleted) return
    this.#isDeleted = true
    if (!this.#isRetired) {
      this.#isRetired = true
      this.#onRetire()
    }
    for (const member of this.members) member.end()
  }

  /** Whether new members must open the group again instead of joining this one. */
  get isRetired(): boolean {
    return this.#isRetired
  }

  add(member: Member): void {
    // the group was deleted while the member was joining
    if (this.#isDeleted) return member.end()
    this.#leaveFeed ??= this.#join()
    this.#members.set(member.holder, member)
    this.wake()
  }

  remove(member: Member): void {
    this.#members.delete(member.holder)
    if (this.#members.size === 0) {
      this.#leaveFeed?.()
      this.#leaveFeed = undefined
      this.#cancelAlarm?.()
      this.#cancelAlarm = undefined
    }
    // the member gives its deliveries back, which can then go to members that have joined in the meantime
    this.#run(
      this.#store.write(DeliveryRows.releaseHolder(this.environment, this.key, member.holder)).pipe(
        Effect.catch((error) =>
          Effect.logWarning(
            `Consumer group "${this.name}": the events of a member that has left could not be given back; they are delivered again after their ack deadline`,
            error
          )
        ),
        Effect.andThen(Effect.sync(() => (this.#members.size === 0 ? this.retireIfEmpty() : this.wake())))
      )
    )
  }

  retireIfEmpty(): void {
    if (this.#members.size > 0 || this.#isRetired) return
    this.#isRetired = true
    this.#onRetire()
  }

  offerItem(): void {
    this.wake()
  }

  // groups follow only the log, which has no gaps
  onGap(): void {}

  /** Wakes the group, because there may be something to deliver, or room for it. */
  wake(): void {
    if (this.#isClaiming) {
      this.#wasWokenMeanwhile = true
      return
    }
    if (this.#members.size === 0 || this.#setup.isPaused || this.#isDeleted) return
    this.#isClaiming = true
    this.#run(this.#claim)
  }

  /**
   * The members, beginning after the one that was served last, so that the members get equally many events even when events come
   * one at a time.
   */
  #membersInRotation(): ReadonlyArray<Member> {
    const { members } = this
    const next = members.findIndex(({ holder }) => holder === this.#lastServed) + 1
    return [...members.slice(next), ...members.slice(0, next)]
  }

  /**
   * Notes that the group has stopped claiming. It is called in the same turn of the event loop in which nothing more was left to
   * claim, so that no `wake` in between is lost.
   */
  #stopClaiming(): void {
    this.#isClaiming = false
  }

  readonly #claim: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    while (true) {
      this.#wasWokenMeanwhile = false
      const members = this.#membersInRotation()
        .filter(({ isSlow }) => !isSlow)
        .map(({ holder, credit, isSilent, options }) => ({
          holder,
          credit,
          ackMs: options.ackWaitMs,
          isSilent,
          // a client that settles events itself also reports that it works on its events, so it gets nothing while it is silent
          reportsProgress: options.ackMode === "auto" && options.settlesItself
        }))
      // if a delivery has timed out, its member has room again
      const isDue = members.length > 0 && this.#now() >= this.#nextDueAt
      if (!isDue && members.every(({ credit }) => credit === 0)) return this.#stopClaiming()
      const claim = yield* this.#store.write(
        GroupClaims.claimDeliveries({
          environment: this.environment,
          group: this.key,
          members,
          maxRedeliveries: this.#settings.maxRedeliveries
        })
      )
      const leftHolders = new Set<string>()
      for (const holder of claim.silentHolders) this.#members.get(holder)?.markSilent()
      for (const { attempt, entry, holder } of claim.deliveries) {
        for (const member of this.#members.values()) member.forget(entry.position)
        this.#lastServed = holder
        const member = this.#members.get(holder)
        if (member === undefined) leftHolders.add(holder)
        else member.deliver(entry, attempt)
      }
      for (const { id, attempts, position } of claim.givenUp) {
        for (const member of this.#members.values()) {
          member.forget(position)
          member.warnOfGivenUp(id, attempts)
        }
      }
      // these members left during the claim
      for (const holder of leftHolders)
        yield* this.#store.write(DeliveryRows.releaseHolder(this.environment, this.key, holder))
      this.#cancelAlarm?.()
      this.#nextDueAt = claim.nextDueAt
      this.#cancelAlarm =
        claim.nextDueAt === Number.POSITIVE_INFINITY
          ? undefined
          : this.#scheduleAt(claim.nextDueAt, () => this.wake())
      if (!claim.mayFindMore && !this.#wasWokenMeanwhile && leftHolders.size === 0)
        return this.#stopClaiming()
    }
  }).pipe(
    Effect.onError(() => Effect.sync(() => this.#stopClaiming())),
    Effect.catch((error) =>
      // another engine has taken over the database, and serves its groups
      error.code === "STORE_LOCKED"
        ? Effect.void
        : Effect.andThen(
            Effect.logWarning(
              `Consumer group "${this.name}" could not claim events; trying again in a second`,
              error
            ),
            Effect.delay(
              Effect.sync(() => this.wake()),
              RETRY_MS
            )
          )
    )
  )
}

/** In milliseconds: a member that settles its deliveries within this time may hold more of them. */
const QUICK_MS = 1000

/** The options of a member. Options that the member does not set come from the group. */
export interface MemberOptions {
  readonly ackMode: AckMode
  readonly backpressure?: BackpressureMode
  readonly buffer?: BufferConfig
  /** Whether the client acks events itself in `auto` mode too. If not, the engine acks them in that mode once they are sent. */
  readonly settlesItself: boolean
  readonly ackWaitMs: number
  /** How many events the member wants to hold at once; absent for no limit. It gets more only while it settles quickly. */
  readonly capacity?: number
  /** When the member joined, in epoch milliseconds. */
  readonly joinedAt: number
}

export class Member implements OpenSubscription {
  readonly id: string
  readonly pattern: string
  readonly holder: string
  readonly options: MemberOptions
  readonly #format: ItemFormat
  readonly #sink: ConnectionSink
  readonly #group: Group
  readonly #store: StoreService
  /** The positions of the deliveries that the member holds, by handle. */
  readonly #inFlight = new Map<string, number>()
  readonly #handles = new Map<number, string>()
  /** When each delivery was received, in epoch milliseconds, by handle. Only for members with a capacity. */
  readonly #heldSince = new Map<string, number>()
  /**
   * How many deliveries the member may hold. While the member settles quickly, this is more than its capacity, so that the
   * member does not wait for round trips.
   */
  #window: number
  #isWarned = false
  #isSilent = false

  constructor(
    pattern: string,
    format: ItemFormat,
    holder: string,
    options: MemberOptions,
    sink: ConnectionSink,
    group: Group,
    store: StoreService
  ) {
    this.id = format.subscriptionId
    this.pattern = pattern
    this.holder = holder
    this.#format = format
    this.options = options
    this.#sink = sink
    this.#group = group
    this.#store = store
    this.#window = options.capacity ?? Number.POSITIVE_INFINITY
  }

  get inFlight(): number {
    return this.#inFlight.size
  }

  /** Whether the member let a delivery time out, and has sent nothing since. */
  get isSilent(): boolean {
    return this.#isSilent
  }

  markSilent(): void {
    this.#isSilent = true
  }

  noteSignOfLife(): void {
    if (!this.#isSilent) return
    this.#isSilent = false
    this.#group.wake()
  }

  get maxInflight(): number {
    return Math.min(this.#group.settings.maxInflight, this.#window)
  }

  /** Whether the member's connection does not keep up. */
  get isSlow(): boolean {
    const { backpressure, buffer } = this.#group.settings
    return (
      this.#sink.backlog >=
      backlogLimit(this.options.backpressure ?? backpressure, this.options.buffer ?? buffer)
    )
  }

  /** How many more deliveries the member can take now. */
  get credit(): number {
    return this.isSlow ? 0 : Math.max(0, this.maxInflight - this.#inFlight.size)
  }

  deliver(item: Parameters<typeof encodeItem>[1], attempt: number): void {
    const handle = this.#sink.handleFor(item, this.id)
    this.#inFlight.set(handle, item.position)
    this.#handles.set(item.position, handle)
    if (this.options.capacity !== undefined) this.#heldSince.set(handle, this.#group.now())
    this.#sink.send(encodeItem(this.#format, item, { attempt, eventId: handle }))
    this.#warn()
    if (this.options.ackMode === "auto" && !this.options.settlesItself) {
      this.#sink.run(
        Effect.catch(Effect.asVoid(this.settle(handle, { how: "ack" })), (error) =>
          Effect.logWarning(
            `Event ${item.id} was delivered, but its ack could not be stored: it will be delivered again`,
            error
          )
        )
      )
    }
  }

  #warn(): void {
    const mode = this.options.backpressure ?? this.#group.settings.backpressure
    if (this.#isWarned || mode !== "buffer" || !this.isSlow) return
    this.#isWarned = true
    this.#sink.sendError(this.id, "SLOW_CONSUMER", slowConsumerMessage(this.pattern), true)
  }

  /** Ends the member, because the group is gone. */
  end(): void {
    this.#sink.end(
      this.id,
      "CONSUMER_GROUP_DELETED",
      `Consumer group "${this.#group.name}" was deleted: subscribe again to create a new one, which begins at the end of the log unless \`replay\` is given`
    )
  }

  /** Removes a delivery that the member no longer holds. */
  forget(position: number): void {
    const handle = this.#handles.get(position)
    if (handle === undefined) return
    this.#handles.delete(position)
    this.#inFlight.delete(handle)
    this.#heldSince.delete(handle)
  }

  warnOfGivenUp(id: string, attempts: number): void {
    this.#sink.sendError(this.id, "REDELIVERIES_EXHAUSTED", givenUpMessage(id, attempts), true)
  }

  isInFlight(handle: string): boolean {
    return this.#inFlight.has(handle)
  }

  settle(handle: string, { how, reason, redeliverMs }: Settlement): Effect.Effect<boolean, StoreError> {
    const position = this.#inFlight.get(handle)
    if (position === undefined) return Effect.succeed(false)
    const { holder } = this
    const { environment, key } = this.#group
    return Effect.map(
      this.#store.write(
        DeliveryRows.settleDeliveries(environment, [
          {
            group: key,
            position,
            holder,
            ...(how === "ack"
              ? {}
              : {
                  failed: {
                    ...(how === "nak" ? { redelivery: this.#group.redelivery(redeliverMs) } : {}),
                    ...(reason === undefined ? {} : { reason })
                  }
                })
          }
        ])
      ),
      ([settled = false]) => {
        this.#adjustWindow(handle)
        this.forget(position)
        this.#isSilent = false
        this.#group.wake()
        return settled
      }
    )
  }

  #adjustWindow(handle: string): void {
    const { capacity } = this.options
    const heldSince = this.#heldSince.get(handle)
    if (capacity === undefined || heldSince === undefined) return
    const isQuick = this.#group.now() - heldSince < QUICK_MS
    this.#window = isQuick ? Math.min(this.#window + 1, this.#group.settings.maxInflight) : capacity
  }

  extend(which: InProgressSelection): Effect.Effect<number, StoreError> {
    // the member counts as heard only when the extension is stored: a delivery that is due before that goes to another member
    return Effect.tap(this.#extend(which), () => Effect.sync(() => this.noteSignOfLife()))
  }

  #extend(which: InProgressSelection): Effect.Effect<number, StoreError> {
    const { holder } = this
    const { environment } = this.#group
    const { ackWaitMs: ackMs } = this.options
    if ("only" in which) {
      const position = this.#inFlight.get(which.only)
      return position === undefined
        ? Effect.succeed(0)
        : this.#store.write(DeliveryRows.extendDeliveries({ environment, holder, ackMs, position }))
    }
    if (this.#inFlight.size === 0) return Effect.succeed(0)
    const except = which.except.flatMap((handle) => this.#inFlight.get(handle) ?? [])
    return this.#store.write(DeliveryRows.extendDeliveries({ environment, holder, ackMs, except }))
  }

  onDrain(): void {
    this.#isWarned = false
    this.#group.wake()
  }

  close(): void {
    this.#group.remove(this)
  }
}
