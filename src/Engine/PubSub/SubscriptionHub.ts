/** All subscriptions of an engine: the connections, the feeds that their subscriptions follow, and the open consumer groups. */
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { Alarm } from "../../Execution/Alarm.ts"
import { type IronflowError, type StoreError, SubscriptionError, ValidationError } from "../../Errors.ts"
import { show } from "../../Show.ts"
import type { StoreService } from "../Store/Store.ts"
import { Feed, type Item, type ItemPage, type ItemFormat } from "./Feed.ts"
import { Group, type Member } from "./Group.ts"
import type { SystemEventsService } from "../SystemEvents/SystemEvents.ts"
import type { Target } from "./Target.ts"
import * as LogRows from "../Log/LogRows.ts"
import * as GroupRows from "./GroupRows.ts"

/** How many rows of the log one read looks at. */
const PAGE = 500

/** The engine's end of a wire: a `Connection`. */
export interface HubConnection {
  readonly environment: string
  /** How many subscriptions of the connection get messages of a topic. */
  readonly consumersOf: (topic: string) => number
  /** How many open subscriptions the connection has. */
  readonly subscriptionCount: () => number
  /** The position of the slowest subscription to the log; `MAX_SAFE_INTEGER` when none is behind. */
  readonly slowestPosition: () => number
  /** Tells the client that the engine stops. */
  readonly goAway: () => void
}

export class SubscriptionHub {
  readonly store: StoreService
  readonly system: SystemEventsService
  readonly clock: Clock.Clock
  readonly alarm: Alarm
  readonly run: (effect: Effect.Effect<void>) => void
  /** Counts an ack for a delivery that the client does not hold. */
  readonly countStaleAck: () => void
  readonly #feeds = new Map<string, Feed>()
  readonly #groups = new Map<string, Deferred.Deferred<Group, IronflowError>>()
  /** The open groups, by key. */
  readonly #openGroups = new Map<number, Group>()
  readonly #connections = new Set<HubConnection>()
  /** Position of the newest row of the log. */
  #head: number
  #systemSubscriptions = 0
  #stopSteps: (() => void) | undefined
  #stateSubscriptions = 0
  #stopStates: (() => void) | undefined
  #connectionCount = 0

  constructor(options: {
    readonly store: StoreService
    readonly system: SystemEventsService
    readonly clock: Clock.Clock
    readonly alarm: Alarm
    readonly run: (effect: Effect.Effect<void>) => void
    readonly head: number
    readonly countStaleAck: () => void
  }) {
    this.store = options.store
    this.system = options.system
    this.clock = options.clock
    this.alarm = options.alarm
    this.run = options.run
    this.countStaleAck = options.countStaleAck
    this.#head = options.head
  }

  /** The id of the next connection. */
  nextConnectionId(): string {
    return `${this.system.epoch}.${++this.#connectionCount}`
  }

  addConnection(connection: HubConnection): void {
    this.#connections.add(connection)
  }

  removeConnection(connection: HubConnection): void {
    this.#connections.delete(connection)
  }

  /** Notes that the log reaches at least to `head`. */
  advanceHead(head: number): void {
    if (head <= this.#head) return
    this.#head = head
    for (const feed of this.#feeds.values()) feed.wake()
  }

  closeAll(): void {
    for (const connection of this.#connections) connection.goAway()
  }

  /** How many open subscriptions get messages of a topic. */
  consumersOf(environment: string, topic: string): number {
    let count = 0
    for (const connection of this.#connections) {
      if (connection.environment === environment) count += connection.consumersOf(topic)
    }
    return count
  }

  /** How many open subscriptions there are. */
  get subscriptionCount(): number {
    let count = 0
    for (const connection of this.#connections) count += connection.subscriptionCount()
    return count
  }

  /** Keys of the groups with members, by environment. */
  get activeGroups(): ReadonlyMap<string, ReadonlyArray<number>> {
    const groups = new Map<string, Array<number>>()
    for (const { environment, key } of this.#openGroups.values()) {
      groups.set(environment, [...(groups.get(environment) ?? []), key])
    }
    return groups
  }

  /** The position up to which every subscription to the log has got its items, by environment. */
  get deliveredPositions(): { readonly [environment: string]: number } {
    const positions: { [environment: string]: number } = {}
    for (const connection of this.#connections) {
      const { environment } = connection
      const feed = this.#feeds.get(JSON.stringify(["log", environment]))
      const position = Math.min(connection.slowestPosition(), feed?.position ?? this.#head)
      positions[environment] = Math.min(positions[environment] ?? position, position)
    }
    return positions
  }

  /** The newest position of the source (the log or the system events) of a target. */
  endOf({ source }: Target): number {
    return source === "log" ? this.#head : this.system.end
  }

  /** The feed of a target. The caller must join the feed at once, since a feed is only dropped when its last listener leaves. */
  feedFor(environment: string, target: Target): Feed {
    const key = JSON.stringify([target.source, environment])
    const existing = this.#feeds.get(key)
    if (existing !== undefined) return existing
    const feed = new Feed(this.endOf(target), this.reader(environment, target.source), this.run, () => {
      this.#feeds.delete(key)
      stop?.()
    })
    this.#feeds.set(key, feed)
    const stop = target.source === "system" ? this.system.listen(environment, () => feed.wake()) : undefined
    return feed
  }

  /**
   * Counts a subscription to system events that begins (1) or ends (-1). While there are any, the store announces steps too. While
   * there are some whose pattern may match states of projections, the store announces these states too.
   */
  countSystemSubscription(change: 1 | -1, { mayMatchStates, source }: Target): void {
    if (source !== "system") return
    if (mayMatchStates === true) {
      this.#stateSubscriptions += change
      this.system.listensToNewest = this.#stateSubscriptions > 0
      if (this.#stateSubscriptions > 0)
        this.#stopStates ??= this.store.onCommit(() => undefined, { states: true })
      else {
        this.#stopStates?.()
        this.#stopStates = undefined
      }
    }
    this.#systemSubscriptions += change
    if (this.#systemSubscriptions > 0) {
      this.#stopSteps ??= this.store.onCommit(() => undefined, { activity: "steps" })
      return
    }
    this.#stopSteps?.()
    this.#stopSteps = undefined
  }

  reader(
    environment: string,
    source: Target["source"]
  ): (after: number) => Effect.Effect<ItemPage, StoreError> {
    if (source === "log") {
      return (after) =>
        Effect.map(
          this.store.read(LogRows.readLog({ environment, after, limit: PAGE })),
          ({ entries, position, atEnd }) => ({ items: entries, position, atEnd })
        )
    }
    return (after) =>
      Effect.sync(() => ({
        items: this.systemItems(environment, after),
        position: this.system.end,
        atEnd: true,
        gap: after < this.system.completeSince(environment),
        stateGap: after < this.system.newestCompleteSince(environment)
      }))
  }

  /** The system events after a position. */
  systemItems(environment: string, after: number): ReadonlyArray<Item> {
    return this.system.eventsAfter(environment, after).map((event) => ({
      kind: "system",
      position: event.sequence,
      id: event.id,
      name: event.topic,
      version: 1,
      get data() {
        return event.data
      },
      timestamp: event.timestamp,
      access: event.access
    }))
  }

  /** The connected members of a group. */
  membersOf(key: number): ReadonlyArray<Member> {
    return this.#openGroups.get(key)?.members ?? []
  }

  /**
   * Reads the groups with these keys again, because they were updated, paused, resumed or deleted, or got a delivery back. Without
   * `keys`, reads all open groups again.
   */
  refreshGroups(keys?: ReadonlyArray<number>): void {
    if (keys?.length === 0) return
    for (const opening of this.#groups.values()) {
      this.run(
        Effect.matchEffect(Deferred.await(opening), {
          // the caller that opens the group gets the error
          onFailure: () => Effect.void,
          onSuccess: (group) =>
            keys === undefined || keys.includes(group.key)
              ? Effect.catch(group.refresh, (error) =>
                  Effect.logWarning(
                    `The changed settings of consumer group "${group.name}" could not be read: the group continues with the previous ones`,
                    error
                  )
                )
              : Effect.void
        })
      )
    }
  }

  /**
   * Opens the group of a member. A group that does not exist is created: it begins after the position `after`; by default at the
   * end of the log. Fails with code `CONSUMER_GROUP_CONFLICT` when the group is configured with another filter than the one that
   * the member requests. Fails with `CONSUMER_GROUP_DELETED` when the member `continues` with a group that does not exist any more.
   */
  openGroup(
    environment: string,
    group: { readonly namespace: string; readonly name: string; readonly pattern: string },
    format: ItemFormat,
    after: number | undefined,
    continues: boolean
  ): Effect.Effect<Group, IronflowError> {
    return Effect.flatMap(this.#openGroup(environment, group, format, after, continues), (opened) => {
      if (!opened.refusesFilter(format.filter?.text)) return Effect.succeed(opened)
      opened.retireIfEmpty()
      return Effect.fail(
        new ValidationError(
          `Consumer group "${group.name}" ${
            opened.filter === undefined ? "has no filter" : `has the filter ${show(opened.filter)}`
          }, and this member asks for the filter ${show(format.filter?.text)}: subscribe without a filter, or update the filter of the group`,
          { code: "CONSUMER_GROUP_CONFLICT" }
        )
      )
    })
  }

  #openGroup(
    environment: string,
    group: { readonly namespace: string; readonly name: string; readonly pattern: string },
    format: ItemFormat,
    after: number | undefined,
    continues: boolean
  ): Effect.Effect<Group, IronflowError> {
    const identity = JSON.stringify([environment, group.namespace, group.name, group.pattern])
    const existing = this.#groups.get(identity)
    if (existing !== undefined) {
      const openAgain = Effect.suspend(() => this.#openGroup(environment, group, format, after, continues))
      return Deferred.await(existing).pipe(
        // the last member of the group may have left before the callers that wait for the group have got the group
        Effect.flatMap((opened) => (opened.isRetired ? openAgain : Effect.succeed(opened))),
        // a member that continues would miss events if the group were created again; any other member may create it
        Effect.catchIf(
          ({ code }) => code === DELETED && !continues,
          () => openAgain
        )
      )
    }
    const opened = Deferred.makeUnsafe<Group, IronflowError>()
    this.#groups.set(identity, opened)
    const request = {
      environment,
      ...group,
      ...(format.target.kind === undefined ? {} : { kind: format.target.kind }),
      names: format.target.names,
      ...(format.filter === undefined ? {} : { filter: format.filter.text }),
      ...(after === undefined ? {} : { after })
    }
    return (
      continues
        ? this.store.write(GroupRows.reopenGroup(request))
        : this.store.write(GroupRows.openGroup(request))
    ).pipe(
      Effect.flatMap((state): Effect.Effect<Group, IronflowError> => {
        if (state === undefined) return Effect.fail(deletedMeanwhileError(group.name))
        const newGroup = new Group(
          { environment, key: state.key, name: group.name, setup: state },
          format,
          () => this.feedFor(environment, format.target),
          {
            store: this.store,
            run: this.run,
            at: this.alarm.at,
            now: () => this.clock.currentTimeMillisUnsafe()
          },
          () => {
            this.#groups.delete(identity)
            if (this.#openGroups.get(newGroup.key) === newGroup) this.#openGroups.delete(newGroup.key)
          }
        )
        this.#openGroups.set(newGroup.key, newGroup)
        return Effect.succeed(newGroup)
      }),
      Effect.tapError(() => Effect.sync(() => this.#groups.delete(identity))),
      Effect.onExit((exit) => Effect.sync(() => Deferred.doneUnsafe(opened, exit)))
    )
  }
}

const DELETED = "CONSUMER_GROUP_DELETED"

const deletedMeanwhileError = (name: string): IronflowError =>
  new SubscriptionError(
    `Consumer group "${name}" was deleted while this client was away: subscribe again to create a new one, which begins at the end of the log unless \`replay\` is given`,
    { code: DELETED, retryable: false }
  )
