/**
 * Consumer groups as those see them who look after them: what a group has, why it gets nothing, and steering it.
 *
 * {@link ConsumerGroupsApi} is written once and read twice: as Effects by the {@link ConsumerGroups} service, as Promises by
 * `client.consumerGroups`. Members join by subscribing.
 */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { ConsumerGroupExistsError, ConsumerGroupNotFoundError, InvalidStateError } from "../Errors.ts"
import type { AckMode, GroupSettings } from "../Protocol/Subscriptions.ts"
import type { CallArgs, ClientError, EffectKind, Kind, Options } from "./Client.ts"

/** A paused group hands out nothing. */
export type ConsumerGroupStatus = "active" | "paused"

/** A group to be created. Whoever joins gets what it does not ask for itself. */
export interface ConsumerGroupConfig extends Partial<GroupSettings> {
  /** What members name as `consumerGroup`. */
  readonly name: string
  /** What they subscribe to: `events:order.*`, `topic:news`, or without a prefix for both. */
  readonly pattern: string
  /** Groups of one name in different namespaces are different; `default` by default. */
  readonly namespace?: string
  /** A CEL expression over `event`. A member may not ask for another one. */
  readonly filter?: string
  /** For people: the engine only keeps it. 16 KiB as JSON at most. */
  readonly metadata?: { readonly [name: string]: unknown }
}

/** What can be changed of a group: what is left out stays, `null` stands for the default. */
export type ConsumerGroupUpdate = {
  readonly [Name in Exclude<keyof ConsumerGroupConfig, "name" | "namespace" | "pattern">]?:
    ConsumerGroupConfig[Name] | null
}

/** Somebody who is connected and gets events of the group. */
export interface ConsumerGroupMember {
  /** Of its connection and subscription; another one after each reconnect. */
  readonly id: string
  readonly ackMode: AckMode
  /** Events that it holds. */
  readonly inFlight: number
  /** Its connection does not keep up, and it gets no more until it does. */
  readonly isSlow: boolean
  /** ISO string. */
  readonly joinedAt: string
}

/** A group: how far it is, what it waits for, and what it goes by. Times are ISO strings. */
export interface ConsumerGroup extends GroupSettings {
  readonly id: string
  readonly namespace: string
  readonly name: string
  readonly pattern: string
  readonly filter?: string
  readonly status: ConsumerGroupStatus
  /** Why it gets what it gets, or gets nothing: a sentence for a person. */
  readonly message: string
  /** Position in the log: everything up to here has been handed out or passed over. */
  readonly position: number
  /** Events after that which fit the pattern; the filter may yet leave some out. */
  readonly lag: number
  /** Events that were handed out and are not settled. */
  readonly inFlight: number
  /** Events that have failed, or whose holder is gone, and that wait to be handed out again. */
  readonly retrying: number
  /** When the first of those is due. */
  readonly nextRetryAt?: string
  /** Events that have failed too often or were settled by `term`, since the group began. */
  readonly givenUp: number
  /** Those of them that are kept, and can be tried again: the newest 1000 at most. */
  readonly deadLetters: number
  /** Members that are connected now. */
  readonly memberCount: number
  readonly members: ReadonlyArray<ConsumerGroupMember>
  readonly metadata?: { readonly [name: string]: unknown }
  readonly pausedBy?: string
  readonly pausedAt?: string
  readonly pauseReason?: string
  readonly createdAt: string
  /** When somebody has last created, updated, paused or resumed it. */
  readonly updatedAt: string
  /** When a member has last joined, or was seen: members are looked for once an hour. */
  readonly usedAt: string
  /** When it will be deleted if nobody joins. Groups that were created, updated or are paused are kept. */
  readonly expiresAt?: string
}

/** An event that a group has given up. */
export interface ConsumerGroupDeadLetter {
  /** Position of the event in the log; what `retryDeadLetter` takes. */
  readonly position: number
  readonly event: {
    readonly id: string
    readonly name: string
    readonly version: number
    readonly data: unknown
    readonly timestamp: string
  }
  /** Why, as the member said that had it last; absent when it did not. */
  readonly reason?: string
  /** How often it was handed out. */
  readonly attempts: number
  /** ISO string. */
  readonly failedAt: string
}

/** Which group, where a name alone does not say. */
export interface ConsumerGroupOptions {
  /** `default` by default. */
  readonly namespace?: string
  /** Needed when the name stands for several patterns. */
  readonly pattern?: string
}

export interface ListConsumerGroupDeadLettersOptions extends ConsumerGroupOptions {
  /** 100 by default, 1000 at most. */
  readonly limit?: number
  /** Position after which to begin: that of the last one of the page before. */
  readonly after?: number
}

export interface PauseConsumerGroupOptions extends ConsumerGroupOptions {
  /** Who pauses it, for those who see it paused; "a client" by default. */
  readonly by?: string
  readonly reason?: string
}

export interface ListConsumerGroupsOptions {
  /** Of all namespaces by default. */
  readonly namespace?: string
  readonly name?: string
  readonly status?: ConsumerGroupStatus
}

/** `ValidationError` has code `CONSUMER_GROUP_AMBIGUOUS` when the name stands for several patterns. */
/** What may go wrong with one consumer group: there is none of this name. */
export type ConsumerGroupError = ConsumerGroupNotFoundError | ClientError

/** The methods about consumer groups, in the reading `F`. */
export interface ConsumerGroupsApi<F extends HKT.TypeLambda> {
  /** Begins a group at the end of the log, before anybody has joined it. It is kept until it is deleted. */
  create(
    config: ConsumerGroupConfig,
    ...options: CallArgs<F>
  ): Kind<F, ConsumerGroup, ConsumerGroupExistsError | ClientError>
  get(name: string, options?: Options<F, ConsumerGroupOptions>): Kind<F, ConsumerGroup, ConsumerGroupError>
  /** In the order in which they came into being. */
  list(options?: Options<F, ListConsumerGroupsOptions>): Kind<F, Array<ConsumerGroup>, ClientError>
  /**
   * Changes settings, for members that are connected as well; `ackMode` for those that join from now on. A new filter is for
   * what has not been handed out yet. The group is kept until it is deleted, from then on.
   */
  update(
    name: string,
    change: ConsumerGroupUpdate,
    options?: Options<F, ConsumerGroupOptions>
  ): Kind<F, ConsumerGroup, ConsumerGroupError>
  /** Hands out nothing more, also after a restart; what members hold they may still settle. */
  pause(
    name: string,
    options?: Options<F, PauseConsumerGroupOptions>
  ): Kind<F, ConsumerGroup, ConsumerGroupError>
  /** Goes on where it was. */
  resume(name: string, options?: Options<F, ConsumerGroupOptions>): Kind<F, ConsumerGroup, ConsumerGroupError>
  /** What it has given up, in the order of the log. */
  deadLetters(
    name: string,
    options?: Options<F, ListConsumerGroupDeadLettersOptions>
  ): Kind<F, Array<ConsumerGroupDeadLetter>, ConsumerGroupError>
  /** Hands a dead letter out again, as if it had never failed. `INVALID_STATE` when there is no such dead letter. */
  retryDeadLetter(
    name: string,
    position: number,
    options?: Options<F, ConsumerGroupOptions>
  ): Kind<F, void, InvalidStateError | ConsumerGroupError>
  /** The same for all of them; returns how many there are. */
  retryDeadLetters(
    name: string,
    options?: Options<F, ConsumerGroupOptions>
  ): Kind<F, number, ConsumerGroupError>
  /**
   * Deletes the group with all that it has handed out. Members hear `CONSUMER_GROUP_DELETED`, and their subscriptions end; who
   * subscribes afterwards begins another group at the end of the log.
   */
  delete(name: string, options?: Options<F, ConsumerGroupOptions>): Kind<F, void, ConsumerGroupError>
}

/** Every method of {@link ConsumerGroupsApi} by name; what the Promise face is derived from. */
export const consumerGroupsMethods = [
  "create",
  "get",
  "list",
  "update",
  "pause",
  "resume",
  "deadLetters",
  "retryDeadLetter",
  "retryDeadLetters",
  "delete"
] as const satisfies ReadonlyArray<keyof ConsumerGroupsApi<EffectKind>>

/** Consumer groups as an Effect service. `Engine.layerClient` provides it inside the engine's process. */
export class ConsumerGroups extends Context.Service<ConsumerGroups, ConsumerGroupsApi<EffectKind>>()(
  "@ironflow/node/ConsumerGroups"
) {}

/** Characters of who pauses a group and why, and bytes of its metadata. */
export const MAX_REASON = 1024
export const MAX_METADATA = 16 * 1024
