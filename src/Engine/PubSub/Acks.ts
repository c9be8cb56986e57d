/**
 * Handles the acks of a subscription client. With an ack, the client says that it is done with an event, or that it still works
 * on the event.
 */
import * as Effect from "effect/Effect"
import { MAX_FAILURE, MAX_REDELIVER_MS, type WSServerMessage } from "../../Protocol/Subscriptions.ts"
import { show } from "../../Show.ts"
import type { OpenSubscription } from "./Subscriber.ts"

/** What acks need of their connection. */
interface AckSink {
  readonly sendMessage: (message: WSServerMessage) => void
  readonly run: (effect: Effect.Effect<void>) => void
  /** Counts an ack for a delivery that the client does not hold. */
  readonly countStaleAck: () => void
}

export class Acks {
  readonly #subscriptions: ReadonlyMap<string, { readonly subscription: OpenSubscription }>
  readonly #sink: AckSink

  constructor(
    /** The subscriptions of the connection, by id. */
    subscriptions: ReadonlyMap<string, { readonly subscription: OpenSubscription }>,
    sink: AckSink
  ) {
    this.#subscriptions = subscriptions
    this.#sink = sink
  }

  /** Handles an `ack`, `nak` or `term` of an event. */
  ack(message: { readonly [name: string]: unknown }): void {
    const { ackType, eventId, reason, redeliverDelay, requestId, subscriptionId } = message
    const answer = this.#answererFor(requestId)
    if (typeof eventId !== "string" || (ackType !== "ack" && ackType !== "nak" && ackType !== "term")) {
      return answer({
        code: "INVALID_MESSAGE",
        message: "An ack needs an eventId, and an ackType of ack, nak or term"
      })
    }
    if (
      redeliverDelay !== undefined &&
      !(typeof redeliverDelay === "number" && redeliverDelay >= 0 && redeliverDelay <= MAX_REDELIVER_MS)
    ) {
      return answer({
        code: "INVALID_MESSAGE",
        message: `redeliverDelay must be a number of milliseconds from 0 to ${MAX_REDELIVER_MS}, got ${show(redeliverDelay)}`
      })
    }
    const candidates = [...this.#subscriptions.values()].filter(
      ({ subscription }) => subscriptionId === undefined || subscription.id === subscriptionId
    )
    const holder = candidates.find(({ subscription }) => subscription.isInFlight(eventId))?.subscription
    const notHeld = notHeldError(eventId)
    if (holder === undefined) {
      for (const { subscription } of candidates) subscription.noteSignOfLife()
      this.#sink.countStaleAck()
      return answer(notHeld)
    }
    this.#sink.run(
      Effect.match(
        holder.settle(eventId, {
          how: ackType,
          ...(redeliverDelay === undefined ? {} : { redeliverMs: redeliverDelay }),
          ...(typeof reason === "string" ? { reason: reason.slice(0, MAX_FAILURE) } : {})
        }),
        {
          onSuccess: (settled) => answer(settled ? undefined : notHeld),
          onFailure: (error) => answer({ code: error.code, message: error.message })
        }
      )
    )
  }

  /** Handles a client's notice that it works on one event, or on all of its events except those in `except`. */
  inProgress(message: { readonly [name: string]: unknown }): void {
    const { eventId, except = [], requestId, subscriptionId } = message
    const answer = this.#answererFor(requestId)
    if (
      typeof subscriptionId !== "string" ||
      (eventId !== undefined && typeof eventId !== "string") ||
      !isArrayOfStrings(except)
    ) {
      return answer({
        code: "INVALID_MESSAGE",
        message:
          "An in-progress message needs a subscriptionId. An eventId, if there is one, must be a string, and `except` a list of event ids"
      })
    }
    const subscription = this.#subscriptions.get(subscriptionId)?.subscription
    const notHeld = eventId === undefined ? undefined : notHeldError(eventId)
    // the subscription has ended in the meantime, and so holds no deliveries
    if (subscription === undefined) return answer(notHeld)
    this.#sink.run(
      Effect.match(subscription.extend(eventId === undefined ? { except } : { only: eventId }), {
        onSuccess: (count) => answer(count > 0 ? undefined : notHeld),
        onFailure: (error) => answer({ code: error.code, message: error.message })
      })
    )
  }

  /** Returns a function that answers a message of the client. A message without a request id is answered only with problems. */
  #answererFor(requestId: unknown) {
    return (problem?: { readonly code: string; readonly message: string }): void => {
      if (typeof requestId === "number") {
        this.#sink.sendMessage({
          type: "ack_result",
          requestId,
          ...(problem === undefined ? { status: "ok" } : { status: "error", ...problem })
        })
      } else if (problem !== undefined) this.#sink.sendMessage({ type: "error", ...problem })
    }
  }
}

const isArrayOfStrings = (value: unknown): value is ReadonlyArray<string> =>
  Array.isArray(value) && value.every((one) => typeof one === "string")

const notHeldError = (eventId: string) => ({
  code: "NOT_HELD",
  message: `This connection does not hold event ${show(eventId)}: the event was settled before, its ack deadline has passed, or it was never delivered on this connection`
})
