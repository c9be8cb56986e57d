/** The members of a consumer group that are connected now. What the group has handed out is in the store. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import {
  ACK_DEADLINE_MS,
  type AckMode,
  MAX_IN_FLIGHT,
  MAX_REDELIVERIES,
  REDELIVER_MS
} from "../../Protocol/Subscriptions.ts"
import type { StoreService } from "../Store/Store.ts"
import { encodeItem, type Feed, type Listener, RETRY_MS, type Shape } from "./Feed.ts"
import { backlogOf, givenUp, type Outlet, type Subscribed } from "./Subscriber.ts"

export class Group implements Listener {
  readonly key: number
  readonly #store: StoreService
  readonly #run: (effect: Effect.Effect<void>) => void
  readonly #at: (epochMs: number, f: () => void) => () => void
  readonly #join: () => () => void
  readonly #onRetire: () => void
  #retired = false
  #leave: (() => void) | undefined
  readonly #members = new Map<string, Member>()
  #claiming = false
  #again = false
  #cancelAlarm: (() => void) | undefined

  constructor(
    key: number,
    shape: Shape,
    feed: Feed,
    engine: {
      readonly store: StoreService
      readonly run: (effect: Effect.Effect<void>) => void
      readonly at: (epochMs: number, f: () => void) => () => void
    },
    onRetire: () => void
  ) {
    this.key = key
    this.#onRetire = onRetire
    this.#store = engine.store
    this.#run = engine.run
    this.#at = engine.at
    this.#join = () => feed.join(shape, this)
  }

  /** Nobody joins it any more: who comes now opens the group anew. */
  get isRetired(): boolean {
    return this.#retired
  }

  add(member: Member): void {
    this.#leave ??= this.#join()
    this.#members.set(member.holder, member)
    this.wake()
  }

  remove(member: Member): void {
    this.#members.delete(member.holder)
    if (this.#members.size === 0) {
      this.#leave?.()
      this.#leave = undefined
      this.#cancelAlarm?.()
      this.#cancelAlarm = undefined
    }
    // whoever has joined by then is told of what was given back
    this.#run(
      this.#store.releaseHolder(member.holder).pipe(
        Effect.catch((error) =>
          Effect.logWarning("Deliveries could not be given back; they are due at their deadline", error)
        ),
        Effect.andThen(Effect.sync(() => (this.#members.size === 0 ? this.retireIfEmpty() : this.wake())))
      )
    )
  }

  retireIfEmpty(): void {
    if (this.#members.size > 0 || this.#retired) return
    this.#retired = true
    this.#onRetire()
  }

  offer(): void {
    this.wake()
  }

  onGap(): void {}

  /** There may be something to hand out, or room for it. */
  wake(): void {
    if (this.#claiming) {
      this.#again = true
      return
    }
    if (this.#members.size === 0) return
    this.#claiming = true
    this.#run(this.#claim)
  }

  /** In the same turn in which there was nothing more to do, so that no wake is lost between the two. */
  #rest(): void {
    this.#claiming = false
  }

  readonly #claim: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    while (true) {
      this.#again = false
      const members = [...this.#members.values()]
        .map(({ holder, credit }) => ({ holder, credit, ackMs: ACK_DEADLINE_MS }))
        .filter(({ credit }) => credit > 0)
      if (members.length === 0) return this.#rest()
      const claim = yield* this.#store.claimDeliveries({
        group: this.key,
        members,
        maxRedeliveries: MAX_REDELIVERIES
      })
      const gone = new Set<string>()
      for (const { attempt, entry, holder } of claim.deliveries) {
        for (const member of this.#members.values()) member.forget(entry.position)
        const member = this.#members.get(holder)
        if (member === undefined) gone.add(holder)
        else member.deliver(entry, attempt)
      }
      for (const { id, attempts } of claim.exhausted) {
        for (const member of this.#members.values()) member.tellGivenUp(id, attempts)
      }
      // they left while the claim was on its way to the database
      for (const holder of gone) yield* this.#store.releaseHolder(holder)
      this.#cancelAlarm?.()
      this.#cancelAlarm =
        claim.nextDueAt === Number.POSITIVE_INFINITY
          ? undefined
          : this.#at(claim.nextDueAt, () => this.wake())
      if (!claim.more && !this.#again && gone.size === 0) return this.#rest()
    }
  }).pipe(
    Effect.onError(() => Effect.sync(() => this.#rest())),
    Effect.catch((error) =>
      Effect.andThen(
        Effect.logWarning("A consumer group gets nothing for now; trying again in a second", error),
        Effect.delay(
          Effect.sync(() => this.wake()),
          RETRY_MS
        )
      )
    )
  )
}

export class Member implements Subscribed {
  readonly id: string
  readonly pattern: string
  readonly holder: string
  readonly #shape: Shape
  readonly #options: { readonly ackMode: AckMode; readonly settlesItself: boolean }
  readonly #outlet: Outlet
  readonly #group: Group
  readonly #store: StoreService
  /** Positions by handle. */
  readonly #inFlight = new Map<string, number>()
  readonly #handles = new Map<number, string>()

  constructor(
    pattern: string,
    shape: Shape,
    holder: string,
    options: {
      readonly ackMode: AckMode
      /** The client acks what it has handled in `auto` mode too. */
      readonly settlesItself: boolean
    },
    outlet: Outlet,
    group: Group,
    store: StoreService
  ) {
    this.id = shape.subscriptionId
    this.pattern = pattern
    this.holder = holder
    this.#shape = shape
    this.#options = options
    this.#outlet = outlet
    this.#group = group
    this.#store = store
  }

  get credit(): number {
    return this.#outlet.backlog >= backlogOf("block") ? 0 : MAX_IN_FLIGHT - this.#inFlight.size
  }

  deliver(item: Parameters<typeof encodeItem>[1], attempt: number): void {
    const handle = this.#outlet.handleFor(item, this.id)
    this.#inFlight.set(handle, item.position)
    this.#handles.set(item.position, handle)
    this.#outlet.send(encodeItem(this.#shape, item, { attempt, eventId: handle }))
    if (this.#options.ackMode === "auto" && !this.#options.settlesItself) {
      this.#outlet.run(
        Effect.catch(Effect.asVoid(this.settle(handle, true)), (error) =>
          Effect.logWarning(`Delivery of ${item.id} could not be settled: it comes again`, error)
        )
      )
    }
  }

  /** Somebody else has it now. */
  forget(position: number): void {
    const handle = this.#handles.get(position)
    if (handle === undefined) return
    this.#handles.delete(position)
    this.#inFlight.delete(handle)
  }

  tellGivenUp(id: string, attempts: number): void {
    this.#outlet.tell(this.id, "REDELIVERIES_EXHAUSTED", givenUp(id, attempts), true)
  }

  holds(handle: string): boolean {
    return this.#inFlight.has(handle)
  }

  settle(handle: string, done: boolean, redeliverMs = REDELIVER_MS): Effect.Effect<boolean, StoreError> {
    const position = this.#inFlight.get(handle)
    if (position === undefined) return Effect.succeed(false)
    const { holder } = this
    const { key } = this.#group
    return Effect.map(
      this.#store.settleDeliveries([
        done ? { group: key, position, holder } : { group: key, position, holder, redeliverMs }
      ]),
      ([settled = false]) => {
        this.forget(position)
        this.#group.wake()
        return settled
      }
    )
  }

  onDrain(): void {
    this.#group.wake()
  }

  close(): void {
    this.#group.remove(this)
  }
}
