/**
 * Settles the events that subscriptions hold. An event is acked when the body that handles it is done. When the
 * body fails, the event is returned (`nak`) or given up (`term`). Until then the client extends the event's
 * `ackWait` again and again.
 */
import { requestedDelayMs } from "../Backoff.ts"
import { isRetryable, SubscriptionError, toError } from "../Errors.ts"
import type { Alarm } from "../Execution/Alarm.ts"
import {
  type AckType,
  MAX_FAILURE,
  MAX_REDELIVER_MS,
  type WSClientMessage
} from "../Protocol/Subscriptions.ts"
import { showMs } from "../Show.ts"
import type { Body, EventDelivery } from "./EventDelivery.ts"
import type { SubscriptionState } from "./SubscriptionState.ts"
import type { SubscriptionErrorInfo } from "./SubscriptionCallbacks.ts"

/**
 * What {@link HeldEvents} needs of a subscription session. Promises reject with `SubscriptionError` when the
 * server refuses the message.
 */
interface HoldingSession {
  readonly alarm: Alarm
  readonly now: () => number
  readonly isPaused: () => boolean
  readonly ask: (message: (requestId: number) => WSClientMessage, onAnswered: () => void) => Promise<void>
  readonly settle: (
    subscription: SubscriptionState,
    eventId: string,
    ackType: AckType,
    more?: { readonly redeliverDelay?: number; readonly reason?: string }
  ) => Promise<void>
  readonly report: (info: SubscriptionErrorInfo, subscription: SubscriptionState) => void
}

export class HeldEvents {
  readonly #session: HoldingSession

  constructor(session: HoldingSession) {
    this.#session = session
  }

  /** The body of a delivery. Unless acks are manual, the body settles the event when the handling has ended. */
  bodyOf(subscription: SubscriptionState, delivery: EventDelivery): Body {
    const end = (failure?: { readonly error: unknown }): void => {
      if (!subscription.acksAutomatically || delivery.isSettled) {
        delivery.phase = "handled"
        delivery.unattendedSince = this.#session.now()
        if (delivery.isSettled || delivery.isLost) subscription.release(delivery)
        return
      }
      if (failure === undefined) return this.ack(subscription, delivery)
      subscription.release(delivery)
      if (delivery.isLost) return
      const { error } = failure
      // `term` makes a dead letter; servers that send no `ackWait` have no dead letters
      const ackType = subscription.ackWaitMs !== undefined && !isRetryable(error) ? "term" : "nak"
      const reason = toError(error).message.slice(0, MAX_FAILURE)
      const requestedMs = ackType === "nak" ? requestedDelayMs(error, this.#session.now()) : undefined
      this.#session
        .settle(subscription, delivery.eventId, ackType, {
          reason,
          // an invalid delay is ignored
          ...(requestedMs === undefined || Number.isNaN(requestedMs)
            ? {}
            : { redeliverDelay: Math.min(requestedMs, MAX_REDELIVER_MS) })
        })
        .catch((problem) => this.#reportRefused(subscription, problem))
    }
    return {
      take: () => {
        if (this.#isOverdue(subscription, delivery)) this.#dropOverdue(subscription)
        if (delivery.isLost) return false
        delivery.phase = "running"
        return true
      },
      onDone: () => end(),
      onFailed: (error) => end({ error })
    }
  }

  /** Acks an event whose body is done. */
  ack(subscription: SubscriptionState, delivery: EventDelivery): void {
    delivery.phase = "acking"
    // the server does not accept the ack now; the client sends it when the event is delivered again
    if (delivery.isLost) return
    this.#session.settle(subscription, delivery.eventId, "ack").then(
      () => subscription.release(delivery),
      (problem) => this.#reportRefused(subscription, problem, delivery)
    )
  }

  /**
   * Reports that the server has refused to settle events, or to restart their `ackWait`. Ignores the error of a
   * lost connection, which the session reports; the server delivers the events of that connection again.
   */
  #reportRefused(subscription: SubscriptionState, problem: unknown, delivery?: EventDelivery): void {
    if (!(problem instanceof SubscriptionError)) return
    if (delivery !== undefined) subscription.release(delivery)
    const { code, message } = problem
    this.#session.report({ code, message, subscriptionId: subscription.id, retrying: true }, subscription)
  }

  /**
   * Tells the server at intervals that the held events are in progress, as long as any of them is not `unattended`, or
   * the session is paused.
   */
  startExtending(subscription: SubscriptionState): void {
    const { ackWaitMs, deliveries } = subscription
    if (ackWaitMs === undefined || subscription.cancelExtending !== undefined) return
    subscription.cancelExtending = this.#session.alarm.at(
      this.#session.now() + Math.floor(ackWaitMs / 3),
      () => {
        subscription.cancelExtending = undefined
        this.#dropOverdue(subscription)
        const unattended = [...deliveries.values()].filter(({ phase }) => phase === "unattended")
        if (unattended.length < deliveries.size || this.#session.isPaused()) {
          this.#extend(
            subscription,
            unattended.map(({ eventId }) => eventId)
          )
          this.startExtending(subscription)
        }
        // an event that has been unattended since before this time was delivered again by the server
        const unattendedBefore = this.#session.now() - 2 * ackWaitMs
        for (const delivery of unattended)
          if (delivery.unattendedSince < unattendedBefore) subscription.release(delivery)
      }
    )
  }

  /** Restarts the `ackWait` of all held events, except those with the `excludedIds`. */
  #extend(subscription: SubscriptionState, excludedIds: ReadonlyArray<string>): void {
    const now = this.#session.now()
    const extended = [...subscription.deliveries.values()].filter(({ phase }) => phase !== "unattended")
    const onAnswered = (): void => {
      for (const delivery of extended) delivery.heldSince = now
    }
    // the body of a `handled` delivery has ended since the last report: this report extends its event for the last time
    for (const delivery of extended) if (delivery.phase === "handled") delivery.phase = "unattended"
    // the answer to this report cannot arrive while the connection is paused, so the report counts as answered
    if (this.#session.isPaused()) onAnswered()
    this.#session
      .ask(
        (requestId) => ({
          type: "in_progress",
          subscriptionId: subscription.id,
          ...(excludedIds.length === 0 ? {} : { except: excludedIds }),
          requestId
        }),
        onAnswered
      )
      .catch((problem) => this.#reportRefused(subscription, problem))
  }

  /**
   * Whether the event has waited here for a whole `ackWait` without a report to the server. Then the server may have
   * delivered it again.
   */
  #isOverdue({ ackWaitMs }: SubscriptionState, { heldSince, phase }: EventDelivery): boolean {
    return phase === "waiting" && ackWaitMs !== undefined && this.#session.now() - heldSince >= ackWaitMs
  }

  #dropOverdue(subscription: SubscriptionState): void {
    const { ackWaitMs, deliveries, id, options, pattern } = subscription
    const overdue = [...deliveries.values()].filter((delivery) => this.#isOverdue(subscription, delivery))
    if (overdue.length === 0) return
    for (const delivery of overdue) {
      delivery.isLost = true
      // the event is given up here; if the server still counts it as held, its `ackWait` runs out
      delivery.phase = "unattended"
      delivery.unattendedSince = this.#session.now()
    }
    this.#session.report(
      {
        code: "NOT_HELD",
        message:
          `Dropped ${overdue.length === 1 ? "1 event" : `${overdue.length} events`} of "${pattern}" that waited in this process; ` +
          `the server delivers ${overdue.length === 1 ? "it" : "them"} again` +
          `${options.consumerGroup === undefined ? "" : " to a member of the group"}. ` +
          `The server was not reached within \`ackWait\` (${showMs(ackWaitMs ?? 0)}): ` +
          "this process was frozen or busy, or the connection stalled",
        subscriptionId: id,
        retrying: true
      },
      subscription
    )
  }

  stopExtending(subscription: SubscriptionState): void {
    subscription.cancelExtending?.()
    subscription.cancelExtending = undefined
  }
}
