/** Reads and checks the subscribe request of a client. */
import { createHash } from "node:crypto"
import type * as Effect from "effect/Effect"
import { type IronflowError, ValidationError } from "../../Errors.ts"
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
import type { ItemEncoding, Shape } from "./Feed.ts"
import { makeFilter } from "./Filter.ts"
import { readPosition, writePosition } from "./Resume.ts"
import { oneOf, readAckWait, readBuffer, readCapacity } from "./SubscriptionSettings.ts"
import { checkGroupTarget, readTarget } from "./Target.ts"

/** A `subscribe` message. */
export interface SubscribeRequest {
  readonly pattern: string
  readonly shape: Shape
  readonly ackMode?: AckMode
  readonly backpressure?: BackpressureMode
  readonly buffer?: BufferConfig
  readonly ackWaitMs: number
  readonly capacity?: number
  readonly replay: number
  readonly group?: { readonly namespace: string; readonly name: string; readonly pattern: string }
  /** The position after which to begin, if the client knows one. */
  readonly after?: number
  /** Whether the client wants positions, so that it can resume after a lost connection. */
  readonly resumes: boolean
}

interface RequestContext {
  readonly environment: string
  /** The epoch of the system events. */
  readonly epoch: string
  readonly isShared: boolean
  readonly encoding?: ItemEncoding | undefined
  readonly run: (effect: Effect.Effect<void>) => void
}

/** Parses a `subscribe` message. Throws `ValidationError`. */
export const readRequest = (
  input: unknown,
  { environment, epoch, encoding, isShared, run }: RequestContext
): SubscribeRequest => {
  if (!isObject(input)) throw new ValidationError("A subscribe message needs a `subscription`")
  const { capacity, options: given = {}, pattern, resume } = input
  const target = readTarget(pattern)
  const options = isObject(given) ? given : {}
  const { ackMode, ackWait, backpressure, buffer } = options
  const replay = options.replay ?? 0
  if (typeof replay !== "number" || !Number.isInteger(replay) || replay < 0) {
    throw new ValidationError(`\`replay\` must be a number of events from 0 up, not ${show(replay)}`)
  }
  const { consumerGroup, filter, namespace = "default" } = options
  if (consumerGroup !== undefined) checkGroupTarget(target)
  // it was parsed as a target above
  const text = String(pattern)
  const resumes = isObject(resume)
  const of = { source: target.source, epoch, isShared }
  const shape: Shape = {
    target,
    subscriptionId: idOf(environment, text),
    includeMetadata: options.includeMetadata === true,
    ...(filter === undefined
      ? {}
      : { filter: makeFilter(filter as string, `subscription to "${text}"`, run) }),
    ...(resumes ? { writePosition: (position: number) => writePosition(position, of) } : {}),
    ...(encoding === undefined ? {} : { encoding })
  }
  const after = resumes ? readPosition(resume.after, of) : undefined
  return {
    pattern: text,
    shape,
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

/** The same for every connection, so that a client that keeps the id over a reconnect can go on with it. */
const idOf = (environment: string, pattern: string): string =>
  `sub_${createHash("sha256")
    .update(JSON.stringify([environment, pattern]))
    .digest("hex")
    .slice(0, 24)}`

/** The error code of a refused subscription. */
export const codeOf = (error: IronflowError): string =>
  error.code === "VALIDATION_ERROR" && /pattern/.test(error.message) ? "INVALID_PATTERN" : error.code
