/**
 * The engine's side of the channel: a WebSocket that carries calls (`Protocol/Http/Channel.ts`). Calls run at the same
 * time, and each call is answered when it ends.
 */
import type { IncomingMessage } from "node:http"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { WebSocket } from "ws"
import { type IronflowError, UnavailableError } from "../../Errors.ts"
import { ShortLivedMap } from "../../ShortLivedMap.ts"
import {
  CANCEL,
  encodeMessage,
  Frames,
  MAX_CALLS,
  MAX_FRAME_BYTES,
  NOT_TAKEN,
  readMessage
} from "../../Protocol/Http/Channel.ts"
import { sockets } from "../../Protocol/Server.ts"
import type { Visitor } from "../Http/AccessCheck.ts"
import type { Reply } from "../Http/Route.ts"
import { hasTime, callWhenTime } from "../../Engine/EventLoop.ts"
import { CONNECTION_UNREAD_BYTES, tooManyUnreadError } from "../Http/UnreadResponses.ts"
import {
  closeFor,
  GOING_AWAY,
  type OnFrame,
  POLICY_VIOLATION,
  type SocketCall,
  type SocketRoute
} from "./Upgrades.ts"

/** A call, as it was received. */
export interface ChannelCall {
  readonly method: string
  /** The path with its query. */
  readonly url: string
  readonly body: string
  /** The fourth word of the message, if there is one: a `traceparent`. */
  readonly trace: string | undefined
  /** The request that opened the channel. */
  readonly request: IncomingMessage
  /** Who opened the channel. */
  readonly visitor: Visitor
}

export interface ChannelOptions {
  /** Answers a call, also when it fails. */
  readonly answer: (call: ChannelCall) => Effect.Effect<Reply>
  /** The response to a call that is not taken. */
  readonly refuse: (call: ChannelCall, error: IronflowError) => Reply
  readonly run: <A>(effect: Effect.Effect<A>) => Fiber.Fiber<A>
  /** Calls `listener` when the server is about to stop. Returns a function that removes the listener. */
  readonly onClosing: (listener: () => void) => () => void
}

/** Maximum number of bytes of responses that a client may leave unread. */
const MAX_BUFFERED_BYTES = 64 * 1024 * 1024

/**
 * Maximum number of `GET` calls that are started in one turn of the event loop: a response may be large, and its size
 * is only known after the call.
 */
const GETS_PER_TURN = 16

/** A client whose messages need more turns of the event loop than this gets a lower priority. */
const FEW_TURNS = 4

/**
 * How long running calls may continue after their API key has ended, in milliseconds. Calls that wait for something
 * are ended at once, by `RequestHandler`.
 */
const LAST_ANSWERS_MS = 30_000

const PROTOCOL_ERROR = 1002

export const channelRoute = (options: ChannelOptions): SocketRoute => ({
  spec: sockets.channel,
  maxFrameBytes: MAX_FRAME_BYTES,
  closesItself: true,
  open: (socket, call) => serve(socket, call, options)
})

const serve = (
  socket: WebSocket,
  { flow, request, visitor }: SocketCall,
  options: ChannelOptions
): OnFrame => {
  const calls = new ShortLivedMap<string, Fiber.Fiber<Reply>>()
  let isClosing = false
  let isKeyEnded = false
  const outgoing = new Frames((frame) => {
    if (socket.readyState !== socket.OPEN) return
    if (socket.bufferedAmount > MAX_BUFFERED_BYTES) return socket.terminate()
    socket.send(frame)
    flow.onSent()
    closeWhenDone()
  })
  const closeWhenDone = (): void => {
    if (!isClosing || calls.size > 0) return
    isClosing = false
    outgoing.flush()
    if (isKeyEnded) closeFor(socket, POLICY_VIOLATION, `the API key does not work any more: ${NOT_TAKEN}`)
    else socket.close(GOING_AWAY, `the server stops: ${NOT_TAKEN}`)
  }
  const respond = (id: string, { status, text = "" }: Reply): void =>
    outgoing.add(encodeMessage(`${id} ${status}`, text))

  const takeMessage = (words: ReadonlyArray<string>, body: string): boolean => {
    const [id, method, url, trace] = words
    if (id === undefined || method === undefined || url === undefined || !/^\d{1,15}$/.test(id)) return false
    if (method === CANCEL) {
      calls.get(id)?.interruptUnsafe()
      return true
    }
    if (calls.has(id)) return false
    const call: ChannelCall = { method, url, body, trace, request, visitor }
    if (calls.size >= MAX_CALLS) {
      respond(id, options.refuse(call, tooManyCallsError()))
      return true
    }
    const fiber = options.run(options.answer(call))
    calls.set(id, fiber)
    fiber.addObserver((exit) => {
      calls.delete(id)
      // a call that was cancelled gets no response
      if (!Exit.isSuccess(exit)) return closeWhenDone()
      const hasRoom = flow.makeRoomFor(exit.value.text?.length ?? 0)
      respond(id, hasRoom ? exit.value : options.refuse(call, tooManyUnreadError()))
    })
    return true
  }

  const stopListening = options.onClosing(() => {
    isClosing = true
    closeWhenDone()
  })
  let deadline: NodeJS.Timeout | undefined
  // the socket does not close at once: a call may have rotated its own API key, and only the response to that call has
  // the new secret
  const stopWatching = visitor.caller.watch((ended) => {
    if (!ended) return
    isKeyEnded = true
    isClosing = true
    deadline = setTimeout(() => socket.terminate(), LAST_ANSWERS_MS).unref()
    closeWhenDone()
  })
  socket.on("close", () => {
    stopListening()
    stopWatching()
    clearTimeout(deadline)
    for (const [, fiber] of calls) fiber.interruptUnsafe()
  })

  /** Frames with messages that were not taken yet. */
  const frames: Array<string> = []
  /** Where the first message that was not taken begins in the first frame. */
  let offset = 0
  let startedGets = 0
  let turnsTaken = 0
  const closeAsMalformed = (): void => {
    socket.close(PROTOCOL_ERROR, "a frame is not well formed")
    dropMessages()
  }
  /**
   * Drops the messages of a socket that is closing. Goes on reading, since the client's answer to the close is still to
   * come.
   */
  const dropMessages = (): void => {
    frames.length = 0
    flow.resume(takeMessages)
  }
  /** Takes messages as time allows, and as the client reads their responses. */
  const takeMessages = (): void => {
    for (let frame = frames[0]; frame !== undefined; frame = frames[0]) {
      if (offset >= frame.length) {
        frames.shift()
        offset = 0
        continue
      }
      if (socket.readyState !== socket.OPEN) return dropMessages()
      if (flow.hasTooMuchUnread || outgoing.length > CONNECTION_UNREAD_BYTES) {
        outgoing.flush()
        flow.pause(takeMessages)
        if (flow.hasTooMuchUnread) return flow.whenRead(takeMessages)
      }
      if (!hasTime() || startedGets === GETS_PER_TURN) {
        startedGets = 0
        flow.pause(takeMessages)
        return callWhenTime(++turnsTaken > FEW_TURNS ? "rest" : "little", takeMessages)
      }
      const message = readMessage(frame, offset)
      if (message === undefined || !takeMessage(message.words, message.text)) return closeAsMalformed()
      if (message.words[1] === "GET") startedGets++
      offset = message.end
    }
    turnsTaken = 0
    flow.resume(takeMessages)
  }
  return (data, isBinary) => {
    if (socket.readyState !== socket.OPEN) return
    if (isBinary) return closeAsMalformed()
    // with other frames in the list, `takeMessages` is already under way and will come to this frame
    if (frames.push(String(data)) === 1) takeMessages()
  }
}

const tooManyCallsError = (): IronflowError =>
  new UnavailableError(
    `More than ${MAX_CALLS} calls of this connection wait for an answer: wait until some of them are answered`,
    {
      code: "TOO_MANY_CALLS"
    }
  )
