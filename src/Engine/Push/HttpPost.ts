/**
 * One request to a push endpoint or a hook. It is limited in time and size, follows no redirects, and goes only to public
 * addresses unless configured otherwise. The memory for all answers is limited: large answers wait for each other. The address is
 * checked when the connection is made, so that the host name cannot resolve to another address after the check.
 */
import * as Dns from "node:dns"
import type * as Http from "node:http"
import * as Https from "node:https"
import { isIP, type LookupFunction } from "node:net"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { PendingInput, InputBudget } from "../InputBudget.ts"
import { request as requestPlain } from "../../NodeHttp.ts"
import { isPublicAddress } from "./PublicAddress.ts"
import { showMs } from "../../Show.ts"

export interface Post {
  readonly url: string
  readonly body: string
  readonly headers: { readonly [name: string]: string }
  readonly timeoutMs: number
  readonly maxResponseBytes: number
  readonly allowPrivateNetworks: boolean
  /** The limit for the memory of answers. */
  readonly inputBudget: InputBudget
  /** Completes when the request is to be aborted. */
  readonly hangUp?: Effect.Effect<void>
}

export interface PostAnswer {
  readonly status: number
  readonly text: string
}

/**
 * The error when there is no complete answer. `unreachable`: the request did not arrive. `reached`: the endpoint may have begun the
 * request. `refused`: the engine does not call this address.
 */
export class PostError extends Data.TaggedError("PostError")<{
  readonly reason: "unreachable" | "reached" | "refused"
  readonly message: string
}> {}

class NotPublicAddress extends Error {}

/** Looks up names for connections, and accepts only public addresses. */
const lookupPublic: LookupFunction = (hostname, options, callback) => {
  Dns.lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) return callback(error, "", 4)
    // a single address that is not public is enough to refuse
    const privateAddress = addresses.find(({ address }) => !isPublicAddress(address))
    const [first] = addresses
    if (privateAddress !== undefined || first === undefined)
      return callback(new NotPublicAddress(privateAddress?.address ?? hostname), "", 4)
    if (options.all === true) callback(null, addresses)
    else callback(null, first.address, first.family)
  })
}

/** How long to wait for the other side to close the connection when a request is aborted, in milliseconds. */
const HANG_UP_MS = 30_000

/** An answer up to this many bytes needs no reservation of memory. */
const UNRESERVED_BYTES = 64 * 1024

/**
 * Sends the request, and passes the answer to `use`. The answer keeps its memory until `use` is done. A request that is aborted, by
 * its timeout or by `hangUp`, ends when the other side has closed the connection too: the other side then knows that the request
 * was aborted. Interrupting this effect closes the connection without waiting.
 */
export const post = <A, E>(
  call: Post,
  use: (answer: PostAnswer) => Effect.Effect<A, E>
): Effect.Effect<A, E | PostError> =>
  Effect.suspend(() => {
    let hangUp: () => void = () => undefined
    let reason: string | undefined
    let input: PendingInput | undefined
    const sent = send(
      call,
      () => reason,
      (close) => (hangUp = close),
      (begun) => (input = begun)
    )
    const tooLate = Effect.as(
      Effect.sleep(call.timeoutMs),
      `it did not answer within ${showMs(call.timeoutMs)}`
    )
    const hungUp = Effect.as(call.hangUp ?? Effect.never, "the engine gave up the request")
    const givenUp = Effect.flatMap(Effect.raceFirst(tooLate, hungUp), (message) => {
      reason = message
      hangUp()
      return Effect.andThen(
        Effect.sleep(HANG_UP_MS),
        Effect.fail(new PostError({ reason: "reached", message }))
      )
    })
    return Effect.ensuring(
      Effect.flatMap(Effect.raceFirst(sent, givenUp), use),
      Effect.sync(() => input?.end())
    )
  })

/**
 * Sends the request. `whyGivenUp` gives the reason once the request is aborted. `onHangUp` gets the function that aborts the
 * request. `onInput` gets the reservation of memory for a large answer: the caller has to end the reservation.
 */
const send = (
  call: Post,
  whyGivenUp: () => string | undefined,
  onHangUp: (hangUp: () => void) => void,
  onInput: (input: PendingInput) => void
): Effect.Effect<PostAnswer, PostError> =>
  Effect.callback<PostAnswer, PostError>((resume) => {
    const url = new URL(call.url)
    const host = url.hostname.replace(/^\[|\]$/g, "")
    const fail = (reason: PostError["reason"], message: string) => {
      resume(Effect.fail(new PostError({ reason, message })))
      request?.destroy()
    }
    let request: Http.ClientRequest | undefined = undefined
    if (!call.allowPrivateNetworks && isIP(host) !== 0 && !isPublicAddress(host)) {
      fail("refused", whyNotAllowed(url.host, host))
      return
    }
    let connected = false
    request = (url.protocol === "https:" ? Https.request : requestPlain)(url, {
      method: "POST",
      // uses a new connection: on a connection that was kept open, it would be unknown whether the other side has read the
      // request
      agent: false,
      headers: {
        ...call.headers,
        "content-type": "application/json",
        "content-length": Buffer.byteLength(call.body)
      },
      ...(call.allowPrivateNetworks ? {} : { lookup: lookupPublic })
    })
    request.on("socket", (socket) => {
      socket.once(url.protocol === "https:" ? "secureConnect" : "connect", () => (connected = true))
    })
    onHangUp(() => {
      // when this side closes the connection, the other side aborts its work and closes the connection too
      if (connected) request?.socket?.end()
      else request?.destroy()
    })
    request.on("error", (error: NodeJS.ErrnoException) => {
      const why = whyGivenUp()
      if (why !== undefined) return fail("reached", why)
      if (error instanceof NotPublicAddress) return fail("refused", whyNotAllowed(url.host, error.message))
      fail(connected ? "reached" : "unreachable", reasonOf(error, connected))
    })
    request.on("response", (response) => {
      const chunks: Array<Buffer> = []
      let size = 0
      let input: PendingInput | undefined
      const beginInput = (): PendingInput => {
        const newInput = call.inputBudget.begin(response, {
          pause: () => response.pause(),
          resume: () => response.resume(),
          refuse: () =>
            fail(
              "reached",
              "there is no memory left for its answer, because the engine is reading too many large answers at once"
            )
        })
        onInput(newInput)
        return newInput
      }
      response.on("data", (chunk: Buffer) => {
        size += chunk.length
        if (size > call.maxResponseBytes)
          return fail("reached", `its answer has more than ${call.maxResponseBytes} bytes`)
        chunks.push(chunk)
        if (size <= UNRESERVED_BYTES) return
        input ??= beginInput()
        input.setHeld(size)
      })
      response.on("end", () => {
        const succeed = (): void =>
          resume(
            Effect.succeed({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString("utf8") })
          )
        if (input === undefined) succeed()
        else input.complete(succeed)
      })
      response.on("error", () => fail("reached", "it closed the connection in the middle of its answer"))
    })
    request.end(call.body)
    return Effect.sync(() => request?.destroy())
  })

/** Why the engine does not call `host` at an address, and how to allow that. */
export const whyNotAllowed = (host: string, address: string): string =>
  `${host} ${host.startsWith(address) || host.startsWith("[") ? "is" : `resolves to ${address}, which is`} not a public address. Allow endpoints and hooks in private networks ` +
  "with `push: { allowPrivateNetworks: true }` or `ironflow serve --allow-private-endpoints`"

const reasonOf = (error: NodeJS.ErrnoException, connected: boolean): string => {
  if (connected) return `it closed the connection before it had answered (${error.code ?? error.message})`
  switch (error.code) {
    case "ECONNREFUSED":
      return "it refuses connections"
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `its name does not resolve (${error.code})`
    default:
      return `it cannot be reached (${error.code ?? error.message})`
  }
}
