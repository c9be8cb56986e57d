/** Reads the body of a request, as JSON or as bytes, within limits of memory and time. */
import { isUtf8 } from "node:buffer"
import type { IncomingMessage } from "node:http"
import * as Effect from "effect/Effect"
import { BodyError, type IronflowError, isIronflowError, toError, ValidationError } from "../../Errors.ts"
import { checkShape } from "../../JsonLimits.ts"
import { readSealed } from "../../Protocol/Seal.ts"
import { ByteCollector } from "./ByteCollector.ts"
import type { PendingInput, InputBudget } from "../../Engine/InputBudget.ts"
import { callWhenTime } from "../../Engine/EventLoop.ts"
import { showMs } from "../../Show.ts"

export interface BodyLimits {
  readonly maxBytes: number
  readonly timeoutMs: number
  /** Whether the body may be sealed (`Protocol/Seal.ts`). If it is, the seal must be valid. */
  readonly mayBeSealed?: boolean
}

/** The memory that all bodies share. */
export interface BodyBudget {
  readonly inputBudget: InputBudget
  /** An object that all requests of one connection share. */
  readonly connection: object
  /**
   * Called with the body's share of the memory. The share must be ended when the body is no longer needed. Not called
   * for a small body that arrives at once, since such a body takes no share.
   */
  readonly onInput: (input: PendingInput) => void
}

/** Reads the body as JSON; `{}` when it is empty. */
export const readJson = (
  request: IncomingMessage,
  limits: BodyLimits,
  budget: BodyBudget
): Effect.Effect<unknown, IronflowError> =>
  Effect.flatMap(readBytes(request, limits, budget), (bytes) => parse(bytes, limits))

/** Reads the bytes of the body as they were sent. */
export const readBytes = (
  request: IncomingMessage,
  limits: BodyLimits,
  budget: BodyBudget
): Effect.Effect<Buffer, IronflowError> =>
  Effect.suspend(() => {
    const refusal = refusalOf(request, limits.maxBytes)
    if (refusal !== undefined) return Effect.fail(refusal)
    return Effect.timeoutOrElse(collect(request, limits.maxBytes, budget), {
      duration: limits.timeoutMs,
      orElse: () => Effect.fail(tooSlow(limits.timeoutMs))
    })
  })

const refusalOf = (request: IncomingMessage, maxBytes: number): IronflowError | undefined => {
  const encoding = request.headers["content-encoding"]
  if (encoding !== undefined && encoding !== "identity") {
    return new BodyError(`The body has content encoding "${encoding.slice(0, 64)}": send it uncompressed`, {
      code: "BODY_UNSUPPORTED"
    })
  }
  const announcedBytes = Number(request.headers["content-length"] ?? 0)
  return announcedBytes > maxBytes
    ? tooLarge(`${announcedBytes} bytes, and the limit is ${maxBytes} bytes`, maxBytes)
    : undefined
}

/** A body of at most this many bytes that arrives at once does not count against the shared memory. */
const SMALL_BYTES = 64 * 1024

const collect = (
  request: IncomingMessage,
  maxBytes: number,
  { connection, inputBudget, onInput }: BodyBudget
): Effect.Effect<Buffer, IronflowError> =>
  Effect.callback((resume) => {
    const announcedBytes = Number(request.headers["content-length"] ?? Number.NaN)
    const body = new ByteCollector()
    let input: PendingInput | undefined
    const begin = (): PendingInput => {
      const pending = inputBudget.begin(connection, {
        pause: () => request.pause(),
        resume: () => request.resume(),
        refuse: (error) => {
          stop()
          request.pause()
          resume(Effect.fail(error))
        }
      })
      onInput(pending)
      return pending
    }
    const onData = (chunk: Buffer) => {
      const size = body.length + chunk.length
      if (size > maxBytes) {
        stop()
        input?.end()
        request.pause()
        return resume(Effect.fail(tooLarge(`more bytes than the limit of ${maxBytes}`, maxBytes)))
      }
      body.add(chunk)
      if (input === undefined && announcedBytes === size && size <= SMALL_BYTES) return
      input ??= begin()
      input.setHeld(body.length)
    }
    const onEnd = () => {
      stop()
      const succeed = () => resume(Effect.succeed(body.bytes))
      if (input === undefined) succeed()
      // parsing a large body takes long, so other requests run first
      else input.complete(() => callWhenTime("body", succeed))
    }
    const onError = (error: Error) => {
      stop()
      input?.end()
      resume(
        Effect.fail(
          new ValidationError(`The body ended before it was complete: ${error.message}`, { cause: error })
        )
      )
    }
    const stop = () => {
      request.off("data", onData)
      request.off("end", onEnd)
      request.off("error", onError)
    }
    request.on("data", onData)
    request.on("end", onEnd)
    request.on("error", onError)
    return Effect.sync(() => {
      stop()
      input?.end()
    })
  })

/**
 * In bytes, or in characters of text: a longer body takes long to parse and to process, so other requests run in between.
 */
const LARGE = 128 * 1024

const letOthersRun: Effect.Effect<void> = Effect.callback((resume) =>
  callWhenTime("body", () => resume(Effect.void))
)

const parse = (bytes: Buffer, limits: BodyLimits): Effect.Effect<unknown, IronflowError> => {
  const value = parseNow(bytes.toString("utf8"), limits, bytes.length === 0 || isUtf8(bytes))
  return bytes.length > LARGE ? Effect.tap(value, letOthersRun) : value
}

/** Parses a body that came as text over another transport; `{}` when the text is empty. */
export const parseJson = (
  text: string,
  limits: Pick<BodyLimits, "mayBeSealed">
): Effect.Effect<unknown, IronflowError> => {
  const value = parseNow(text, limits, true)
  return text.length > LARGE ? Effect.tap(Effect.andThen(letOthersRun, value), letOthersRun) : value
}

const parseNow = (
  text: string,
  { mayBeSealed }: Pick<BodyLimits, "mayBeSealed">,
  isValidUtf8: boolean
): Effect.Effect<unknown, IronflowError> =>
  Effect.suspend(() => {
    if (text === "") return Effect.succeed({})
    const read = (text: string): unknown => {
      if (!isValidUtf8) throw new ValidationError("The body is not valid UTF-8: send JSON encoded as UTF-8")
      return JSON.parse(checkShape("the body", text))
    }
    try {
      return Effect.succeed(mayBeSealed === true ? readSealed(text, read) : read(text))
    } catch (error) {
      if (isIronflowError(error)) return Effect.fail(error)
      return Effect.fail(
        new ValidationError(`The body is not valid JSON: ${toError(error).message}`, { cause: error })
      )
    }
  })

const tooLarge = (size: string, maxBytes: number): IronflowError =>
  new BodyError(`The body is too large: ${size}`, {
    code: "BODY_TOO_LARGE",
    details: { limit: maxBytes }
  })

const tooSlow = (timeoutMs: number): IronflowError =>
  new BodyError(`The body did not arrive within ${showMs(timeoutMs)}`, {
    code: "BODY_TIMEOUT",
    retryable: true
  })
