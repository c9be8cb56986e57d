/**
 * The calls of `TurnStream.ts` as effect/rpc, between a worker and an engine of this package over a WebSocket: JSON, one
 * message in each frame.
 *
 * The schemas accept any value: the code that uses the content of a call checks it, as over HTTP. Values that are already JSON
 * are sent unchanged.
 */
import * as Schema from "effect/Schema"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import type { FromClientEncoded, FromServerEncoded } from "effect/rpc/RpcMessage"
import type { LateRequest, RegisterTurnsRequest, ReportsRequest, ReportsResponse } from "./Http/Turns.ts"
import { encodeWithFragments, JsonFragment, type Jsonable } from "./JsonFragment.ts"
import { seal } from "./Seal.ts"
import type { CallFailure, RoomRequest, Push } from "./TurnStream.ts"

/** The name of this transport in the list of transports that an engine supports. */
export const RPC_TRANSPORT = "rpc"

/** A schema that accepts every value. `A` is the type that both sides expect. */
const unchecked = <A>(): Schema.Codec<Jsonable<A>> => Schema.Any as Schema.Codec<Jsonable<A>>

const failure = unchecked<CallFailure>()

export const workerRpcs = RpcGroup.make(
  Rpc.make("work", {
    payload: unchecked<RegisterTurnsRequest>(),
    success: unchecked<Push>(),
    error: failure,
    stream: true
  }),
  Rpc.make("report", {
    payload: unchecked<ReportsRequest>(),
    success: unchecked<ReportsResponse>(),
    error: failure
  }),
  Rpc.make("room", { payload: unchecked<RoomRequest>(), success: unchecked<unknown>(), error: failure }),
  Rpc.make("late", { payload: unchecked<LateRequest>(), success: unchecked<unknown>(), error: failure }),
  Rpc.make("leave", {
    payload: unchecked<{ readonly session: string }>(),
    success: unchecked<unknown>(),
    error: failure
  })
)

/** The frame of a message to the engine, sealed. */
export const encodeFromClient = (message: FromClientEncoded): string =>
  seal(
    message._tag === "Request" && message.payload instanceof JsonFragment
      ? encodeWithFragments({ ...message })
      : JSON.stringify(message)
  )

/** The frame of a message to a worker, sealed if the worker seals its own messages. */
export const encodeFromServer = (message: FromServerEncoded, seals: boolean): string =>
  seals ? seal(textFromServer(message)) : textFromServer(message)

const textFromServer = (message: FromServerEncoded): string => {
  if (message._tag === "Chunk") return encodeWithFragments({ ...message })
  if (message._tag !== "Exit" || message.exit._tag !== "Success") return JSON.stringify(message)
  const { exit, ...rest } = message
  return encodeWithFragments({ ...rest, exit: new JsonFragment(encodeWithFragments({ ...exit })) })
}
