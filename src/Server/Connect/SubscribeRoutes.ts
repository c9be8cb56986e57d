/** Subscriptions over ConnectRPC, the default of legacy browser clients: the streaming calls of `PubSubService`. */
import * as Effect from "effect/Effect"
import { type IronflowError, isIronflowError, UnauthenticatedError, ValidationError } from "../../Errors.ts"
import { readWord } from "../../Protocol/Codec.ts"
import { AckModeWord, BackpressureWord } from "../../Protocol/ConsumerGroups.ts"
import type { CallSpec } from "../../Protocol/CallSpec.ts"
import { callSpecs, type StreamOptions } from "../../Protocol/Subscriptions.ts"
import { show } from "../../Show.ts"
import { guardOf } from "../../Engine/Access/SubscriptionGuard.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import type { UnreadMemory } from "../Http/UnreadResponses.ts"
import type { Call, Reply, Route } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"
import { replyRoute, withBody } from "../Routes/CallRoute.ts"
import { asksForStream, EventStream, unsupportedType } from "./EventStream.ts"
import { FilterBudget } from "./FilterBudget.ts"

export const subscribeRoutes = (
  engine: EngineService,
  unread: UnreadMemory,
  /** Calls `listener` when the server is about to stop. Returns a function that removes the listener. */
  onClosing: (listener: () => void) => () => void
): ReadonlyArray<Route> => {
  const filters = new FilterBudget()

  /** Opens a subscription. `checkCall` throws when the caller may no longer make the call. */
  const open = (
    { caller, environment, request }: Call,
    pattern: string,
    options: { readonly filter?: string; readonly [name: string]: unknown },
    checkCall: () => void
  ): Reply => {
    const releaseFilter = filters.take(request, options.filter?.length ?? 0)
    const stream = new EventStream(unread)
    stream.onClose(releaseFilter)
    const { wireFormat, wire } = stream
    const checkAgain = engine.subscriptions.connect(environment, wire, {
      wireFormat,
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
    streamRoute(callSpecs.subscribe, "Subscribe", ({ options = {}, pattern }, call) =>
      checked(() =>
        open(call, pattern, readOptions(options), () => call.caller?.checkAction("subscription:read"))
      )
    ),
    streamRoute(callSpecs.joinConsumerGroup, "JoinConsumerGroup", ({ groupName, namespace = "" }, call) =>
      Effect.gen(function* () {
        const choice = namespace === "" ? {} : { namespace }
        const { pattern } = yield* engine.consumerGroups.in(call.environment).get(groupName, choice)
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

const streamRoute = <B>(
  spec: CallSpec<unknown, B>,
  what: string,
  handle: (body: B, call: Call) => Effect.Effect<Reply, IronflowError>
): Route => {
  const answer = withBody(spec, what, handle)
  return replyRoute(
    spec,
    (call) => (asksForStream(call.request) ? answer(call) : Effect.fail(unsupportedType(call.request))),
    { bodyForm: "message" }
  )
}

/** Converts the options to the form that they have at `/ws`, without the empty ones. Throws `ValidationError`. */
const readOptions = ({ ackMode, backpressure, filter = "", ...options }: StreamOptions) => {
  const acks = readWord(AckModeWord, ackMode) ?? "auto"
  if (acks !== "auto") {
    throw new ValidationError(
      `Subscribe: \`ackMode\` must be "auto", got ${show(ackMode)}: this stream cannot carry acks. To ack events, subscribe over the WebSocket at /ws`
    )
  }
  const mode = readWord(BackpressureWord, backpressure)
  return {
    ...Object.fromEntries(Object.entries(options).filter(([, value]) => value !== "")),
    ackMode: acks,
    ...(filter === "" ? {} : { filter }),
    ...(mode === undefined ? {} : { backpressure: mode })
  }
}
