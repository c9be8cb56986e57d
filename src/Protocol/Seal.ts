/**
 * Seals: how a message shows that it has come as it was sent.
 *
 * JSON says nothing about what happened to it on the way, and neither do protocol buffers: with one bit turned over, the list of
 * the turns that a worker holds is still a list, of other turns. A sealed message is a JSON object whose last member is
 * `"sum"`, the CRC-32 of the text without that member, as eight hexadecimal digits. Whoever does not know seals reads the
 * same message with a member more.
 */
import { crc32 } from "node:zlib"
import * as Effect from "effect/Effect"
import { type IronflowError, isIronflowError, MessageDamagedError } from "../Errors.ts"
import { isObject, safeJsonParse } from "../Json.ts"

/** Code of the error for a message that has not come as it was sent. It may be sent again. */
export const MESSAGE_DAMAGED = "MESSAGE_DAMAGED"

const sumOf = (text: string, about: string): string => crc32(text, crc32(about)).toString(16).padStart(8, "0")

/** Seals the text of a JSON object that is not empty. `about` is what stands beside the text, and is to have come soundly too. */
export const seal = (text: string, about = ""): string =>
  `${text.slice(0, -1)}${MEMBER}${sumOf(text, about)}"}`

const MEMBER = ',"sum":"'
const SEAL = new RegExp(`${MEMBER}([0-9a-f]{8})"}$`)
const SEAL_LENGTH = `${MEMBER}00000000"}`.length

/**
 * What `parse` makes of a text that may be sealed. Throws an `IronflowError` for one that is not as it was sealed; a text without
 * a seal passes, so whoever expects one asks {@link isSealed} of the result.
 */
export const readSealed = <A>(text: string, parse: (text: string) => A, about = ""): A => {
  const sum = SEAL.exec(text.slice(-SEAL_LENGTH))?.[1]
  if (sum !== undefined) {
    if (sum === sumOf(`${text.slice(0, -SEAL_LENGTH)}}`, about)) return parse(text)
    throw damaged()
  }
  let message: A
  try {
    message = parse(text)
  } catch (error) {
    throw text.includes(MEMBER) ? damaged() : error
  }
  // there is a seal, and it is damaged itself
  if (message === undefined ? text.includes(MEMBER) : isSealed(message)) throw damaged()
  return message
}

/**
 * The value of a JSON text that may be sealed, and has to be if `seals`; `undefined` for one that is none. Fails with
 * `MESSAGE_DAMAGED`.
 */
export const parseSealed = (
  text: string,
  seals: boolean,
  about?: string
): Effect.Effect<unknown, IronflowError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(
        mustBeSealed(
          readSealed(text, (text) => safeJsonParse(text), about),
          seals
        )
      )
    } catch (error) {
      return isIronflowError(error) ? Effect.fail(error) : Effect.die(error)
    }
  })

/** Throws `MESSAGE_DAMAGED` for a message that was read by {@link readSealed} and has no seal, if it has to have one. */
export const mustBeSealed = (message: unknown, seals: boolean): unknown => {
  if (seals && !isSealed(message)) throw damaged()
  return message
}

/** Whether a message that was read by {@link readSealed} has a seal. */
export const isSealed = (message: unknown): boolean => isObject(message) && message.sum !== undefined

export const damaged = (): IronflowError =>
  new MessageDamagedError(
    "A message was damaged on its way: it has not come as it was sent, and has had no effect. Send it again; " +
      "if this goes on, something between the two changes what it carries, which TLS would keep it from"
  )
