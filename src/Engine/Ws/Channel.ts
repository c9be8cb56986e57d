/** The engine's side of `Protocol/Http/Channel.ts`: calls come in, run side by side, and are answered as they end. */
import type { IncomingMessage } from "node:http"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { WebSocket } from "ws"
import { IronflowError } from "../../Errors.ts"
import {
  CANCEL,
  CHANNEL_PATH,
  encodeMessage,
  Frames,
  MAX_CALLS,
  MAX_FRAME_BYTES,
  NOT_TAKEN,
  readFrame
} from "../../Protocol/Http/Channel.ts"
import type { Visitor } from "../Http/Gate.ts"
import type { Reply } from "../Http/Route.ts"
import {
  closeFor,
  GOING_AWAY,
  type Hear,
  POLICY_VIOLATION,
  type SocketCall,
  type SocketRoute
} from "./Upgrades.ts"

/** A call as it came. */
export interface ChannelCall {
  readonly method: string
  /** With its query. */
  readonly url: string
  readonly body: string
  /** The request that opened the channel. */
  readonly request: IncomingMessage
  /** Who sent that. */
  readonly visitor: Visitor
}

export interface ChannelOptions {
  /** Answers a call; whatever goes wrong is an answer too. */
  readonly answer: (call: ChannelCall) => Effect.Effect<Reply>
  /** The answer to a call that cannot be taken. */
  readonly refuse: (call: ChannelCall, error: IronflowError) => Reply
  readonly run: <A>(effect: Effect.Effect<A>) => Fiber.Fiber<A>
  /** Calls `listener` when the server is about to stop. */
  readonly onClosing: (listener: () => void) => () => void
}

/** Answers that the client does not read gather here, until it is too much. */
const MAX_BUFFERED_BYTES = 64 * 1024 * 1024

/** How long calls that were taken before their key ended may go on, milliseconds; those that wait end with the key. */
const LAST_ANSWERS_MS = 30_000

const PROTOCOL_ERROR = 1002

export const channelRoute = (options: ChannelOptions): SocketRoute => ({
  path: CHANNEL_PATH,
  maxFrameBytes: MAX_FRAME_BYTES,
  leavesByItself: true,
  open: (socket, call) => serve(socket, call, options)
})

const serve = (socket: WebSocket, { request, visitor }: SocketCall, options: ChannelOptions): Hear => {
  const calls = new Map<string, Fiber.Fiber<Reply>>()
  let closing = false
  let isKeyEnded = false
  let hasLeft = false
  const frames = new Frames((frame) => {
    if (socket.readyState !== socket.OPEN) return
    if (socket.bufferedAmount > MAX_BUFFERED_BYTES) return socket.terminate()
    socket.send(frame)
    leaveWhenDone()
  })
  const leaveWhenDone = (): void => {
    if (!closing || calls.size > 0) return
    closing = false
    hasLeft = true
    frames.flush()
    if (isKeyEnded) closeFor(socket, POLICY_VIOLATION, `the API key does not work any more: ${NOT_TAKEN}`)
    else socket.close(GOING_AWAY, `the server stops: ${NOT_TAKEN}`)
  }
  const respond = (id: string, { status, text = "" }: Reply): void =>
    frames.add(encodeMessage(`${id} ${status}`, text))

  const take = (words: ReadonlyArray<string>, body: string): boolean => {
    const [id, method, url] = words
    if (id === undefined || method === undefined || url === undefined || !/^\d{1,15}$/.test(id)) return false
    if (method === CANCEL) {
      calls.get(id)?.interruptUnsafe()
      return true
    }
    if (calls.has(id)) return false
    const call: ChannelCall = { method, url, body, request, visitor }
    if (calls.size >= MAX_CALLS) {
      respond(id, options.refuse(call, tooMany()))
      return true
    }
    const fiber = options.run(options.answer(call))
    calls.set(id, fiber)
    fiber.addObserver((exit) => {
      calls.delete(id)
      // a call that was taken back has nobody who waits for its answer
      if (Exit.isSuccess(exit)) respond(id, exit.value)
      else leaveWhenDone()
    })
    return true
  }

  const stopListening = options.onClosing(() => {
    closing = true
    leaveWhenDone()
  })
  let lateness: NodeJS.Timeout | undefined
  // the call that has ended its own key is answered first: its answer may be the only one that holds the next one
  const stopWatching = visitor.caller.watch((ended) => {
    if (!ended) return
    isKeyEnded = true
    closing = true
    lateness = setTimeout(() => socket.terminate(), LAST_ANSWERS_MS).unref()
    leaveWhenDone()
  })
  socket.on("close", () => {
    stopListening()
    stopWatching()
    clearTimeout(lateness)
    for (const fiber of calls.values()) fiber.interruptUnsafe()
  })
  return (data, isBinary) => {
    if (hasLeft) return
    let wellFormed = !isBinary
    if (wellFormed) {
      wellFormed =
        readFrame(String(data), (words, text) => {
          wellFormed &&= take(words, text)
        }) && wellFormed
    }
    if (!wellFormed) socket.close(PROTOCOL_ERROR, "a frame is not well formed")
  }
}

const tooMany = (): IronflowError =>
  new IronflowError(
    `More than ${MAX_CALLS} calls of this connection wait for an answer: wait for some of them`,
    {
      code: "TOO_MANY_CALLS",
      retryable: true
    }
  )
