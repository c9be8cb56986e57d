/** Reads and checks the subscribe request of a client. */
import { createHash } from "node:crypto"
import type * as Effect from "effect/Effect"
import { ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import * as Limits from "../../Limits.ts"
import {
  ACK_WAIT_MS,
  type AckMode,
  ackModes,
  type BackpressureMode,
  backpressureModes,
  type BufferConfig,
  MAX_REPLAY
} from "../../Protocol/Subscriptions.ts"
import { show } from "../../Show.ts"
import type { ItemEncoding, ItemFormat } from "./Feed.ts"
import { makeFilter } from "./Filter.ts"
import { readPosition, writePosition } from "./StartPosition.ts"
import { oneOf, readAckWait, readBuffer, readCapacity } from "./SubscriptionSettings.ts"
import { checkGroupTarget, readTarget, type Target } from "./Target.ts"

/** A checked `subscribe` message. */
export interface SubscribeRequest {
  readonly pattern: string
  readonly format: ItemFormat
  readonly ackMode?: AckMode
  readonly backpressure?: BackpressureMode
  readonly buffer?: BufferConfig
  readonly ackWaitMs: number
  /** How many events the client wants to hold at once, as a member of a group. */
  readonly capacity?: number
  /** How many past events to deliver first, at most `MAX_REPLAY`. */
  readonly replay: number
  readonly group?: { readonly namespace: string; readonly name: string; readonly pattern: string }
  /** The position after which to begin, if the client gives one. */
  readonly after?: number
  /** Whether the client wants positions, so that it can resume after a lost connection. */
  readonly resumes: boolean
}

interface RequestContext {
  readonly environment: string
  /** Identifies the start of the engine, for positions of system events: see `StartPosition.ts`. */
  readonly epoch: string
  /** Whether other engines use the same database. */
  readonly isShared: boolean
  readonly encoding?: ItemEncoding | undefined
  /** Runs an effect in the background, such as a log line of the filter. */
  readonly run: (effect: Effect.Effect<void>) => void
}

/** Parses a `subscribe` message. Throws `ValidationError`, with code `INVALID_PATTERN` if the pattern is invalid. */
export const readRequest = (
  input: unknown,
  { environment, epoch, encoding, isShared, run }: RequestContext
): SubscribeRequest => {
  if (!isObject(input))
    throw new ValidationError(
      `The \`subscription\` of a subscribe message must be an object, got ${show(input)}`
    )
  const { capacity, options: given = {}, pattern, resume } = input
  const options = isObject(given) ? given : {}
  const { ackMode, ackWait, backpressure, buffer } = options
  const replay = options.replay ?? 0
  if (typeof replay !== "number" || !Number.isInteger(replay) || replay < 0) {
    throw new ValidationError(
      `\`replay\` must be a number of events: an integer, at least 0, got ${show(replay)}`
    )
  }
  const { consumerGroup, filter, namespace = "default" } = options
  const target = readTargetOfRequest(pattern, consumerGroup !== undefined)
  // `readTargetOfRequest` has refused everything that is not a string
  const text = String(pattern)
  const resumes = isObject(resume)
  const origin = { source: target.source, epoch, isShared }
  const format: ItemFormat = {
    target,
    subscriptionId: idOf(environment, text),
    includeMetadata: options.includeMetadata === true,
    ...(filter === undefined ? {} : { filter: makeFilter(filter, `subscription to "${text}"`, run) }),
    ...(resumes ? { writePosition: (position: number) => writePosition(position, origin) } : {}),
    ...(encoding === undefined ? {} : { encoding })
  }
  const after = resumes ? readPosition(resume.after, origin) : undefined
  return {
    pattern: text,
    format,
    resumes,
    replay: Math.min(replay, MAX_REPLAY),
    ackWaitMs: ackWait == null ? ACK_WAIT_MS : readAckWait(ackWait),
    ...(capacity == null ? {} : { capacity: readCapacity(capacity) }),
    ...(ackMode == null ? {} : { ackMode: oneOf("ackMode", ackModes, ackMode) }),
    ...(backpressure == null ? {} : { backpressure: oneOf("backpressure", backpressureModes, backpressure) }),
    ...(buffer == null ? {} : { buffer: readBuffer(buffer) }),
    ...(consumerGroup === undefined
      ? {}
      : {
          group: {
            namespace: Limits.checkName("namespace", namespace),
            name: Limits.checkName("consumer group", consumerGroup),
            pattern: text
          }
        }),
    ...(after === undefined ? {} : { after })
  }
}

/** The target of a pattern. Throws `ValidationError` with code `INVALID_PATTERN`. */
const readTargetOfRequest = (pattern: unknown, isOfGroup: boolean): Target => {
  try {
    const target = readTarget(pattern)
    return isOfGroup ? checkGroupTarget(target) : target
  } catch (error) {
    if (!(error instanceof ValidationError)) throw error
    throw new ValidationError(error.message, { code: "INVALID_PATTERN" })
  }
}

/** The id of the subscription. It is the same on every connection, so it stays valid after a reconnect. */
const idOf = (environment: string, pattern: string): string =>
  `sub_${createHash("sha256")
    .update(JSON.stringify([environment, pattern]))
    .digest("hex")
    .slice(0, 24)}`
