/**
 * Managing consumer groups: progress, status and control.
 *
 * {@link ConsumerGroupsApi} is declared once, for two kinds: the {@link ConsumerGroups} service returns
 * Effects, and `client.consumerGroups` returns Promises. Members join a group by subscribing.
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
import { callKeys, type Methods } from "./Methods.ts"

export type {
  ConsumerGroup,
  ConsumerGroupConfig,
  ConsumerGroupDeadLetter,
  ConsumerGroupMember,
  ConsumerGroupStatus,
  ConsumerGroupUpdate
} from "../Protocol/ConsumerGroups.ts"

/** Identifies a group when several groups have its name. */
export interface ConsumerGroupOptions {
  /** Namespace of the group; `default` by default. */
  readonly namespace?: string
  /** Pattern of the group; required when several groups have this name. */
  readonly pattern?: string
}

/** Options of `deadLetters`. */
export interface ListConsumerGroupDeadLettersOptions extends ConsumerGroupOptions {
  /** Dead letters per call; 100 by default, 1000 at most. */
  readonly limit?: number
  /** Lists only dead letters after this position. For the next page, give the position of the last dead letter. */
  readonly after?: number
}

/** Options of `pause`. */
export interface PauseConsumerGroupOptions extends ConsumerGroupOptions {
  /** Who pauses the group, shown with its status; "a client" by default. */
  readonly by?: string
  /** Why the group is paused, shown with its status; none by default. */
  readonly reason?: string
}

/** Filters of `list`; all of them apply. */
export interface ListConsumerGroupsOptions {
  /** Namespace of the groups; all by default. */
  readonly namespace?: string
  /** Name of the groups; all by default. */
  readonly name?: string
  /** Status of the groups; all by default. */
  readonly status?: ConsumerGroupStatus
}

/**
 * Errors of a call about one consumer group: the group does not exist. `ValidationError` has the code
 * `CONSUMER_GROUP_AMBIGUOUS` when several groups have the name.
 */
export type ConsumerGroupError = ConsumerGroupNotFoundError | ClientError

/** The methods of consumer groups, for the API kind `F`. */
export interface ConsumerGroupsApi<F extends HKT.TypeLambda> {
  /**
   * Creates a group before any member joins it. The group begins at the end of the event log, and is kept until
   * it is deleted.
   */
  create(
    config: ConsumerGroupConfig,
    ...options: CallArgs<F>
  ): Kind<F, ConsumerGroup, ConsumerGroupExistsError | ClientError>
  /** Returns a group: its position, its status and the reason for this status. */
  get(name: string, options?: Options<F, ConsumerGroupOptions>): Kind<F, ConsumerGroup, ConsumerGroupError>
  /** Lists groups in order of creation. */
  list(options?: Options<F, ListConsumerGroupsOptions>): Kind<F, Array<ConsumerGroup>, ClientError>
  /**
   * Changes settings. The changes apply to connected members too, except `ackMode`, which applies to members that
   * join later. A new filter applies to events that were not delivered yet. After an update the group is kept
   * until it is deleted.
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
   * Stops delivery until `resume`, even if the engine restarts. Members may still settle the events that they
   * hold. If the group is paused already, a new reason replaces the old one.
   */
  pause(
    name: string,
    options?: Options<F, PauseConsumerGroupOptions>
  ): Kind<F, ConsumerGroup, ConsumerGroupError>
  /** Resumes delivery where it stopped. */
  resume(name: string, options?: Options<F, ConsumerGroupOptions>): Kind<F, ConsumerGroup, ConsumerGroupError>
  /** Lists the dead letters of a group, in log order. */
  deadLetters(
    name: string,
    options?: Options<F, ListConsumerGroupDeadLettersOptions>
  ): Kind<F, Array<ConsumerGroupDeadLetter>, ConsumerGroupError>
  /**
   * Delivers a dead letter again; its attempts are counted anew. Fails with `INVALID_STATE` when there is no
   * such dead letter.
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
  /** Delivers all dead letters of a group again. Returns how many there were. */
  retryDeadLetters(
    name: string,
    options?: Options<F, ConsumerGroupOptions>
  ): Kind<F, number, ConsumerGroupError>
  /**
   * Deletes the group and its delivery state. Subscriptions of its members end with `CONSUMER_GROUP_DELETED`. A later
   * subscription creates a new group at the end of the log.
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
const groupKeys = { ...callKeys, namespace: true, pattern: true } as const
const groupErrors = { ConsumerGroupNotFoundError: true } as const

/** Names, options and errors of the methods. */
export const consumerGroupsMethods: Methods<ConsumerGroupsApi<PromiseKind>, ConsumerGroupsApi<EffectKind>> = {
  create: [
    [{ ...settings, name: true, pattern: true, namespace: true }, callKeys],
    { ConsumerGroupExistsError: true }
  ],
  get: [[null, groupKeys], groupErrors],
  list: [[{ ...callKeys, namespace: true, name: true, status: true }]],
  update: [[null, settings, groupKeys], groupErrors],
  pause: [[null, { ...groupKeys, by: true, reason: true }], groupErrors],
  resume: [[null, groupKeys], groupErrors],
  deadLetters: [[null, { ...groupKeys, limit: true, after: true }], groupErrors],
  retryDeadLetter: [[null, null, groupKeys], { ...groupErrors, InvalidStateError: true }],
  retryDeadLetters: [[null, groupKeys], groupErrors],
  delete: [[null, groupKeys], groupErrors]
}

/** Consumer groups as an Effect service. `Engine.layerClient` provides it inside the engine's process. */
export class ConsumerGroups extends Context.Service<ConsumerGroups, ConsumerGroupsApi<EffectKind>>()(
  "@ironflow/node/ConsumerGroups"
) {}

/** Maximum length, in characters, of the options `reason` and `by` of `pause`. */
export const MAX_REASON = 1024
/** Maximum length, in characters of JSON, of a group's metadata. */
export const MAX_METADATA = 16 * 1024
