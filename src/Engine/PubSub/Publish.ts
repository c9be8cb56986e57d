/** Appends topic messages to the log. They start no runs and satisfy no waits. */
import { inEnvironment, type Program } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { NewMessage, AppendedMessage } from "./TopicRecords.ts"
import { fingerprint, recall, remember } from "../Log/Idempotency.ts"
import { insertLogRow } from "../Log/LogRows.ts"
import { LogKind } from "../Log/LogRecords.ts"
import { countMessage } from "./TopicRows.ts"

/** Stores a message of a topic. */
export const appendMessage = inEnvironment(
  "appendMessage",
  function* (tx: Transaction, input: NewMessage): Program<AppendedMessage> {
    const environment = tx.environment(input.environment)
    const { data, idempotencyKey, topic } = input
    if (idempotencyKey === undefined)
      return { ...(yield* storeMessage(tx, environment, input)), ...FIRST_USE }
    const print = fingerprint([], [{ name: topic, data }])
    const scope = `publish ${topic}`
    const earlier = yield* recall<StoredMessage>(tx, environment, scope, idempotencyKey, print)
    if (earlier !== undefined) return { ...earlier.result, duplicate: true, conflicting: earlier.conflicting }

    const stored = yield* storeMessage(tx, environment, input)
    yield* remember(tx, environment, scope, idempotencyKey, print, stored)
    return { ...stored, ...FIRST_USE }
  },
  (message) => `store a message of topic "${message.topic}"`
)

const FIRST_USE = { duplicate: false, conflicting: false }

export type StoredMessage = Pick<AppendedMessage, "eventId" | "sequence">

function* storeMessage(tx: Transaction, environment: number, input: NewMessage): Program<StoredMessage> {
  const { id, position } = yield* insertLogRow(tx, environment, LogKind.message, {
    name: input.topic,
    version: 1,
    data: input.data,
    ...(input.idempotencyKey === undefined ? {} : { idempotencyKey: input.idempotencyKey }),
    ...(input.trace === undefined ? {} : { trace: input.trace })
  })
  yield* countMessage(environment, input, position)
  return { eventId: id, sequence: position }
}
