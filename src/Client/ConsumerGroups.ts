/**
 * Consumer groups as those see them who look after them: what a group has, why it gets nothing, and steering it.
 *
 * {@link ConsumerGroupsApi} is written once and read twice: as Effects by the {@link ConsumerGroups} service, as Promises by
 * `client.consumerGroups`. Members join by subscribing.
 */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { ConsumerGroupExistsError, ConsumerGroupNotFoundError, InvalidStateError } from "../Errors.ts"
import type {
  ConsumerGroup,
  ConsumerGroupConfig,
  ConsumerGroupDeadLetter,
  ConsumerGroupStatus,
  ConsumerGroupUpdate
} from "../Protocol/ConsumerGroups.ts"
import type { CallArgs, ClientError, EffectKind, Kind, Options, PromiseKind } from "./Client.ts"
import type { Keys } from "../OptionKeys.ts"
import type { BufferConfig } from "../Protocol/Subscriptions.ts"
import { call, type Methods } from "./Methods.ts"

export type {
  ConsumerGroup,
  ConsumerGroupConfig,
  ConsumerGroupDeadLetter,
  ConsumerGroupMember,
  ConsumerGroupStatus,
  ConsumerGroupUpdate
} from "../Protocol/ConsumerGroups.ts"

/** Which group, where a name alone does not say. */
export interface ConsumerGroupOptions {
  /** `default` by default. */
  readonly namespace?: string
  /** Needed when the name stands for several patterns. */
  readonly pattern?: string
}

/** Options of `listDeadLetters`. */
export interface ListConsumerGroupDeadLettersOptions extends ConsumerGroupOptions {
  /** 100 by default, 1000 at most. */
  readonly limit?: number
  /** Position after which to begin: that of the last one of the page before. */
  readonly after?: number
}

/** Options of `pause`. */
export interface PauseConsumerGroupOptions extends ConsumerGroupOptions {
  /** Who pauses it, for those who see it paused; "a client" by default. */
  readonly by?: string
  /** Why, for those who see it paused; none by default. */
  readonly reason?: string
}

/** Which groups to list: those for which all of this is so. */
export interface ListConsumerGroupsOptions {
  /** Of all namespaces by default. */
  readonly namespace?: string
  /** The name of the group. */
  readonly name?: string
  /** The status that they are in. */
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
  /** A group by its name: how far it is, and why it gets what it gets. */
  get(name: string, options?: Options<F, ConsumerGroupOptions>): Kind<F, ConsumerGroup, ConsumerGroupError>
  /** In the order in which they came into being. */
  list(options?: Options<F, ListConsumerGroupsOptions>): Kind<F, Array<ConsumerGroup>, ClientError>
  /**
   * Changes settings, for members that are connected as well; `ackMode` for those that join from now on. A new filter is for
   * what has not been handed out yet. The group is kept until it is deleted, from then on.
   *
   * ```ts
   * await client.consumerGroups.update("audit", { maxRedeliveries: 10 }, { signal: AbortSignal.timeout(5000) })
   * ```
   */
  update(
    name: string,
    change: ConsumerGroupUpdate,
    options?: Options<F, ConsumerGroupOptions>
  ): Kind<F, ConsumerGroup, ConsumerGroupError>
  /**
   * Hands out nothing more, also after a restart; what members hold they may still settle. One that is paused already has the newer
   * reason, if one is given.
   */
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
  /**
   * Hands a dead letter out again, as if it had never failed. `INVALID_STATE` when there is no such dead letter.
   *
   * ```ts
   * const deadLetters = await client.consumerGroups.deadLetters("audit")
   * for (const { position } of deadLetters) await client.consumerGroups.retryDeadLetter("audit", position)
   * ```
   */
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

const settings = {
  ackMode: true,
  backpressure: true,
  buffer: { maxBytes: true } satisfies Keys<BufferConfig>,
  maxInflight: true,
  maxRedeliveries: true,
  redeliverDelayMs: true,
  filter: true,
  metadata: true
} as const
const inGroup = { ...call, namespace: true, pattern: true } as const
const ofGroup = { ConsumerGroupNotFoundError: true } as const

/** What each method is called by, and takes. */
export const consumerGroupsMethods: Methods<ConsumerGroupsApi<PromiseKind>, ConsumerGroupsApi<EffectKind>> = {
  create: [
    [{ ...settings, name: true, pattern: true, namespace: true }, call],
    { ConsumerGroupExistsError: true }
  ],
  get: [[null, inGroup], ofGroup],
  list: [[{ ...call, namespace: true, name: true, status: true }]],
  update: [[null, settings, inGroup], ofGroup],
  pause: [[null, { ...inGroup, by: true, reason: true }], ofGroup],
  resume: [[null, inGroup], ofGroup],
  deadLetters: [[null, { ...inGroup, limit: true, after: true }], ofGroup],
  retryDeadLetter: [[null, null, inGroup], { ...ofGroup, InvalidStateError: true }],
  retryDeadLetters: [[null, inGroup], ofGroup],
  delete: [[null, inGroup], ofGroup]
}

/** Consumer groups as an Effect service. `Engine.layerClient` provides it inside the engine's process. */
export class ConsumerGroups extends Context.Service<ConsumerGroups, ConsumerGroupsApi<EffectKind>>()(
  "@ironflow/node/ConsumerGroups"
) {}

/** Characters of who pauses a group and why, and bytes of its metadata. */
export const MAX_REASON = 1024
/** Characters of JSON that the metadata of a group may have. */
export const MAX_METADATA = 16 * 1024
