/** Encodes messages to workers that exchange turns, and seals them: a seal is a checksum (`Protocol/Seal.ts`). */
import type { DeliveredBatch, WorkerConnection } from "../../Engine/Workers/WorkerConnection.ts"
import type { JsonText } from "../../Json.ts"
import type { Delivery } from "../../Protocol/Http/Turns.ts"
import { damagedError, seal } from "../../Protocol/Seal.ts"

/** The JSON of a delivery. */
export const encodeDelivery = (delivery: Delivery): JsonText =>
  "job" in delivery
    ? `{"seq":${delivery.seq},"job":${JSON.stringify(delivery.job)}}`
    : `{"seq":${delivery.seq},"notice":${JSON.stringify(delivery.notice)}}`

/** The JSON of a `PollResponse`. */
export const encodeDelivered = ({ deliveries, isClosing }: DeliveredBatch): JsonText =>
  `{"deliveries":[${deliveries.join(",")}]${isClosing ? ',"closing":true' : ""}}`

/** Throws an `IronflowError` when a message has no seal although its worker seals all messages. */
export const checkSeal = ({ seals }: WorkerConnection, isSealed: boolean): void => {
  if (seals && !isSealed) throw damagedError()
}

/** The response, with a seal if the worker seals its messages. */
export const sealAnswer = ({ seals }: WorkerConnection, answer: JsonText, sealContext?: string): JsonText =>
  seals ? seal(answer, sealContext) : answer
