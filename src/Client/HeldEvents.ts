/**
 * The events that subscriptions hold. An event is acked when its body is done; until then the client extends
 * its `ackWait` again and again.
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
 * What this needs of the session. Promises reject with `SubscriptionError` when the server has refused
 * something.
 */
interface HoldingSession {
  readonly alarm: Alarm
  readonly now: () => number
  readonly isPaused: () => boolean
  readonly ask: (message: (requestId: number) => WSClientMessage, done: () => void) => Promise<void>
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

  /** The body of a delivery. It settles the event, by how the handling ended. */
  bodyOf(subscription: SubscriptionState, delivery: EventDelivery): Body {
    const end = (failure?: { readonly error: unknown }): void => {
      if (!subscription.acksItself || delivery.isSettled) {
        delivery.phase = "done"
        delivery.leftAt = this.#session.now()
        if (delivery.isSettled || delivery.isLost) subscription.release(delivery)
        return
      }
      if (failure === undefined) return this.ackItself(subscription, delivery)
      subscription.release(delivery)
      if (delivery.isLost) return
      const { error } = failure
      // servers that send no `ackWait` have no dead letters
      const ackType = subscription.ackWaitMs !== undefined && !isRetryable(error) ? "term" : "nak"
      const reason = toError(error).message.slice(0, MAX_FAILURE)
      const asked = ackType === "nak" ? requestedDelayMs(error, this.#session.now()) : undefined
      this.#session
        .settle(subscription, delivery.eventId, ackType, {
          reason,
          // an invalid delay is ignored
          ...(asked === undefined || Number.isNaN(asked)
            ? {}
            : { redeliverDelay: Math.min(asked, MAX_REDELIVER_MS) })
        })
        .catch((problem) => this.#reportRefused(subscription, problem))
    }
    return {
      take: () => {
        if (this.#isLate(subscription, delivery)) this.#dropLate(subscription)
        if (delivery.isLost) return false
        delivery.phase = "running"
        return true
      },
      done: () => end(),
      failed: (error) => end({ error })
    }
  }

  /** Acks an event whose body is done. */
  ackItself(subscription: SubscriptionState, delivery: EventDelivery): void {
    delivery.phase = "acking"
    // not sent now: the ack is sent when the event is delivered again
    if (delivery.isLost) return
    this.#session.settle(subscription, delivery.eventId, "ack").then(
      () => subscription.release(delivery),
      (problem) => this.#reportRefused(subscription, problem, delivery)
    )
  }

  /**
   * Reports that the server has refused to settle events, or to restart their `ackWait`. A lost connection was
   * reported already, and its events are delivered again.
   */
  #reportRefused(subscription: SubscriptionState, problem: unknown, delivery?: EventDelivery): void {
    if (!(problem instanceof SubscriptionError)) return
    if (delivery !== undefined) subscription.release(delivery)
    const { code, message } = problem
    this.#session.report({ code, message, subscriptionId: subscription.id, retrying: true }, subscription)
  }

  /**
   * Tells the server at intervals that the held events are in progress, as long as any of them is being
   * handled.
   */
  keep(subscription: SubscriptionState): void {
    const { ackWaitMs, deliveries } = subscription
    if (ackWaitMs === undefined || subscription.cancelKeeping !== undefined) return
    subscription.cancelKeeping = this.#session.alarm.at(
      this.#session.now() + Math.floor(ackWaitMs / 3),
      () => {
        subscription.cancelKeeping = undefined
        this.#dropLate(subscription)
        const left = [...deliveries.values()].filter(({ phase }) => phase === "left")
        if (left.length < deliveries.size || this.#session.isPaused()) {
          this.#extend(
            subscription,
            left.map(({ eventId }) => eventId)
          )
          this.keep(subscription)
        }
        // after this time the server has delivered them again
        const before = this.#session.now() - 2 * ackWaitMs
        for (const delivery of left) if (delivery.leftAt < before) subscription.release(delivery)
      }
    )
  }

  /** Restarts the `ackWait` of all held events except `except`. */
  #extend(subscription: SubscriptionState, except: ReadonlyArray<string>): void {
    const now = this.#session.now()
    const extended = [...subscription.deliveries.values()].filter(({ phase }) => phase !== "left")
    const done = (): void => {
      for (const delivery of extended) delivery.heldSince = now
    }
    // its body has ended since the last report, and this report gives its event a whole `ackWait` once more
    for (const delivery of extended) if (delivery.phase === "done") delivery.phase = "left"
    // the answer to this report cannot arrive while the connection is paused
    if (this.#session.isPaused()) done()
    this.#session
      .ask(
        (requestId) => ({
          type: "in_progress",
          subscriptionId: subscription.id,
          ...(except.length === 0 ? {} : { except }),
          requestId
        }),
        done
      )
      .catch((problem) => this.#reportRefused(subscription, problem))
  }

  /**
   * Whether the event has waited here for a whole `ackWait` without a report to the server. It may have been
   * delivered again by then.
   */
  #isLate({ ackWaitMs }: SubscriptionState, { heldSince, phase }: EventDelivery): boolean {
    return phase === "waiting" && ackWaitMs !== undefined && this.#session.now() - heldSince >= ackWaitMs
  }

  #dropLate(subscription: SubscriptionState): void {
    const { ackWaitMs, deliveries, id, options, pattern } = subscription
    const late = [...deliveries.values()].filter((delivery) => this.#isLate(subscription, delivery))
    if (late.length === 0) return
    for (const delivery of late) {
      delivery.isLost = true
      // the event is given up here; if the server still counts it as held, its `ackWait` runs out
      delivery.phase = "left"
      delivery.leftAt = this.#session.now()
    }
    this.#session.report(
      {
        code: "NOT_HELD",
        message:
          `Dropped ${late.length} events of "${pattern}" that waited in this process; the server delivers them again` +
          `${options.consumerGroup === undefined ? "" : " to a member of the group"}. ` +
          `The server was not reached within the ${showMs(ackWaitMs ?? 0)} of their ackWait: ` +
          "this process was frozen or busy, or the connection stalled",
        subscriptionId: id,
        retrying: true
      },
      subscription
    )
  }

  stopKeeping(subscription: SubscriptionState): void {
    subscription.cancelKeeping?.()
    subscription.cancelKeeping = undefined
  }
}
