/** Subscriptions over ConnectRPC, which are the default of existing browser clients: the calls of `PubSubService` that stream. */
import * as Effect from "effect/Effect"
import { isIronflowError, UnauthenticatedError, ValidationError } from "../../Errors.ts"
import { ackModeWords, backpressureWords, decodeWord } from "../../Protocol/Http/GroupJson.ts"
import { lenient } from "../../Protocol/Http/Lenient.ts"
import * as Schemas from "../../Protocol/Http/Schemas.ts"
import { show } from "../../Show.ts"
import { guardOf } from "../Access/SubscriptionGuard.ts"
import type { EngineService } from "../Engine.ts"
import type { Unread } from "../Http/Unread.ts"
import { type Call, checked, type Reply, type Route, route } from "../Http/Route.ts"
import { asksForStream, EventStream, unsupportedType } from "./EventStream.ts"
import { FilterRoom } from "./FilterRoom.ts"

export const subscribeRoutes = (
  engine: EngineService,
  unread: Unread,
  /** Calls `listener` when the server is about to stop; returns the way to stop that. */
  onClosing: (listener: () => void) => () => void
): ReadonlyArray<Route> => {
  const filters = new FilterRoom()

  /** `checkCall` throws when the call may not be made any more. */
  const open = (
    { caller, environment, request }: Call,
    pattern: string,
    options: { readonly filter?: string; readonly [name: string]: unknown },
    checkCall: () => void
  ): Reply => {
    const giveBack = filters.take(request, options.filter?.length ?? 0)
    const stream = new EventStream(unread)
    stream.onClose(giveBack)
    const { tongue, wire } = stream
    const checkAgain = engine.subscribe(environment, wire, {
      tongue,
      ...(caller === undefined ? {} : { guard: guardOf(caller, environment) })
    })
    stream.onClose(onClosing(() => stream.goAway()))
    if (caller !== undefined) {
      const stopWatching = caller.watch((ended) => {
        if (ended) return stream.end(new UnauthenticatedError("The API key does not work any more"))
        try {
          checkCall()
          checkAgain()
        } catch (error) {
          if (!isIronflowError(error)) throw error
          stream.end(error)
        }
      })
      stream.onClose(stopWatching)
    }
    stream.subscribe(pattern, options)
    return stream.reply
  }

  return [
    streaming("subscribe", (call) =>
      checked(() => {
        const { options = {}, pattern } = subscribeRequest(call.body)
        return open(call, pattern, readOptions(options), () => call.caller?.checkAction("subscription:read"))
      })
    ),
    streaming("joinConsumerGroup", (call) =>
      Effect.gen(function* () {
        const { groupName, namespace = "" } = yield* checked(() => joinRequest(call.body))
        const choice = namespace === "" ? {} : { namespace }
        const { pattern } = yield* engine.consumerGroups(call.environment).get(groupName, choice)
        return yield* checked(() =>
          open(
            call,
            pattern,
            { ...choice, consumerGroup: groupName, ackMode: "auto", includeMetadata: true },
            () => call.caller?.check("subscription:read", `group:${groupName}`, call.environment)
          )
        )
      })
    )
  ]
}

const streaming = (name: "subscribe" | "joinConsumerGroup", answer: Route["answer"]): Route =>
  route(
    name,
    (call) => (asksForStream(call.request) ? answer(call) : Effect.fail(unsupportedType(call.request))),
    { reads: "message" }
  )

const subscribeRequest = lenient(Schemas.SubscribeRequest, "Subscribe")
const joinRequest = lenient(Schemas.JoinConsumerGroupRequest, "JoinConsumerGroup")

/** As `/ws` has them; what says nothing is left out. Throws `ValidationError`. */
const readOptions = ({
  ackMode,
  backpressure,
  filter = "",
  ...options
}: NonNullable<ReturnType<typeof subscribeRequest>["options"]>) => {
  const acks = decodeWord(ackModeWords, ackMode) ?? "auto"
  if (acks !== "auto") {
    throw new ValidationError(
      `Subscribe: \`ackMode\` must be "auto", not ${show(ackMode)}: a client can ack nothing on this stream. Subscribe over the WebSocket at /ws for that`
    )
  }
  const mode = decodeWord(backpressureWords, backpressure)
  return {
    ...Object.fromEntries(Object.entries(options).filter(([, value]) => value !== "")),
    ackMode: acks,
    ...(filter === "" ? {} : { filter }),
    ...(mode === undefined ? {} : { backpressure: mode })
  }
}
