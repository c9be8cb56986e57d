/** Consumer groups as they travel in `PubSubService`: enum names, 64-bit integers as text, absent instead of empty or zero. */
import type { ConsumerGroup } from "../../Client/ConsumerGroups.ts"

/** The words of an enum by their numbers, of which 0 says nothing. */
export interface Words {
  readonly prefix: string
  readonly words: ReadonlyArray<string>
}

export const ackModeWords: Words = { prefix: "ACK_MODE", words: ["unspecified", "auto", "manual"] }
export const backpressureWords: Words = {
  prefix: "BACKPRESSURE_MODE",
  words: ["unspecified", "drop", "block", "buffer"]
}
export const statusWords: Words = {
  prefix: "CONSUMER_GROUP_STATUS",
  words: ["unspecified", "active", "paused", "deleted"]
}

export const encodeWord = ({ prefix }: Words, word: string): string => `${prefix}_${word.toUpperCase()}`

/**
 * The word in any spelling: `manual`, `MANUAL`, `ACK_MODE_MANUAL` or its number. `undefined` when nothing is said; what is none
 * of the words comes back as it is.
 */
export const decodeWord = ({ prefix, words }: Words, said: unknown): unknown => {
  if (said === undefined || said === null || said === "") return undefined
  const word =
    typeof said === "string" && !/^\d+$/.test(said)
      ? said.toLowerCase().replace(`${prefix.toLowerCase()}_`, "")
      : typeof said === "object"
        ? undefined
        : words[Number(said)]
  if (word === "unspecified") return undefined
  return word !== undefined && words.includes(word) ? word : said
}

/** The group as it is sent. What other servers do not know comes under names of its own. */
export const encodeGroup = (group: ConsumerGroup): { readonly [field: string]: unknown } => {
  const { ackMode, backpressure, filter, lag, members, position, status, ...rest } = group
  return {
    // zero is not sent
    ...Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== 0)),
    ...(filter === undefined ? {} : { filterExpr: filter }),
    ackMode: encodeWord(ackModeWords, ackMode),
    backpressure: encodeWord(backpressureWords, backpressure),
    status: encodeWord(statusWords, status),
    position: String(position),
    lag: String(lag),
    ...(members.length === 0 ? {} : { members })
  }
}
