/**
 * Seals: checksums that detect messages damaged in transit.
 *
 * Neither JSON nor Protocol Buffers detect a flipped bit: a list of a worker's turns, for example, may then still be
 * valid, but name other turns. A sealed message is a JSON object whose last member is `"sum"`, the CRC-32 of the JSON
 * without that member, as eight hexadecimal digits. Code that does not know seals reads the same message with one more
 * member.
 */
import { crc32 } from "node:zlib"
import * as Effect from "effect/Effect"
import { type IronflowError, isIronflowError, MessageDamagedError } from "../Errors.ts"
import { isObject, safeJsonParse } from "../Json.ts"

/** Error code for a message that was damaged in transit. The message may be sent again. */
export const MESSAGE_DAMAGED = "MESSAGE_DAMAGED"

const sumOf = (text: string, context: string): string =>
  crc32(text, crc32(context)).toString(16).padStart(8, "0")

/** Seals the JSON of an object that is not empty. The seal also covers `context`, which is sent outside of the JSON. */
export const seal = (text: string, context = ""): string =>
  `${text.slice(0, -1)}${MEMBER}${sumOf(text, context)}"}`

const MEMBER = ',"sum":"'
const SEAL = new RegExp(`${MEMBER}([0-9a-f]{8})"}$`)
const SEAL_LENGTH = `${MEMBER}00000000"}`.length

/**
 * Parses JSON that may be sealed. Throws an `IronflowError` when the seal does not match. JSON without a seal
 * is accepted: to require one, use {@link isSealed} on the result.
 */
export const readSealed = <A>(text: string, parse: (text: string) => A, context = ""): A => {
  const sum = SEAL.exec(text.slice(-SEAL_LENGTH))?.[1]
  if (sum !== undefined) {
    if (sum === sumOf(`${text.slice(0, -SEAL_LENGTH)}}`, context)) return parse(text)
    throw damagedError()
  }
  let message: A
  try {
    message = parse(text)
  } catch (error) {
    throw text.includes(MEMBER) ? damagedError() : error
  }
  // the text has a seal, but the seal itself is damaged
  if (message === undefined ? text.includes(MEMBER) : isSealed(message)) throw damagedError()
  return message
}

/**
 * Parses JSON that may be sealed, and must be sealed if `seals` is true. The result is `undefined` for invalid
 * JSON without a seal. Fails with code `MESSAGE_DAMAGED` when the seal is wrong or missing.
 */
export const parseSealed = (
  text: string,
  seals: boolean,
  context?: string
): Effect.Effect<unknown, IronflowError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(
        requireSeal(
          readSealed(text, (text) => safeJsonParse(text), context),
          seals
        )
      )
    } catch (error) {
      return isIronflowError(error) ? Effect.fail(error) : Effect.die(error)
    }
  })

/** Throws `MESSAGE_DAMAGED` when a message that {@link readSealed} has read has no seal, although `seals` requires one. */
export const requireSeal = (message: unknown, seals: boolean): unknown => {
  if (seals && !isSealed(message)) throw damagedError()
  return message
}

/** Whether a message that {@link readSealed} has read has a seal. */
export const isSealed = (message: unknown): boolean => isObject(message) && message.sum !== undefined

export const damagedError = (): IronflowError =>
  new MessageDamagedError(
    "A message was damaged on its way and had no effect. Send it again; " +
      "if this happens again, something between worker and engine changes the messages: connect them with TLS, which prevents this"
  )
