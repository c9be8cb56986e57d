/** Reads the JSON body of a request, in bounded memory and time. */
import { isUtf8 } from "node:buffer"
import type { IncomingMessage } from "node:http"
import * as Effect from "effect/Effect"
import { IronflowError, isIronflowError, toError, ValidationError } from "../../Errors.ts"
import { checkShape } from "../../JsonShape.ts"
import { readSealed } from "../../Protocol/Seal.ts"

export interface BodyLimits {
  readonly maxBytes: number
  readonly timeoutMs: number
  /** Whether the body may be sealed (`Protocol/Seal.ts`), and what is sealed has to be sound. */
  readonly mayBeSealed?: boolean
}

/** The body as JSON; `{}` when it is empty. */
export const readJson = (
  request: IncomingMessage,
  limits: BodyLimits
): Effect.Effect<unknown, IronflowError> =>
  Effect.flatMap(readBytes(request, limits), (bytes) => parse(bytes, limits))

/** The body as it was sent. */
export const readBytes = (
  request: IncomingMessage,
  limits: BodyLimits
): Effect.Effect<Buffer, IronflowError> =>
  Effect.suspend(() => {
    const refused = refuse(request, limits.maxBytes)
    if (refused !== undefined) return Effect.fail(refused)
    return Effect.timeoutOrElse(collect(request, limits.maxBytes), {
      duration: limits.timeoutMs,
      orElse: () => Effect.fail(tooSlow(limits.timeoutMs))
    })
  })

const refuse = (request: IncomingMessage, maxBytes: number): IronflowError | undefined => {
  const encoding = request.headers["content-encoding"]
  if (encoding !== undefined && encoding !== "identity") {
    return new IronflowError(
      `The body has content encoding "${encoding.slice(0, 64)}": send it as it is, without compression`,
      { code: "BODY_UNSUPPORTED" }
    )
  }
  const announced = Number(request.headers["content-length"] ?? 0)
  return announced > maxBytes ? tooLarge(`${announced} bytes`, maxBytes) : undefined
}

const collect = (request: IncomingMessage, maxBytes: number): Effect.Effect<Buffer, IronflowError> =>
  Effect.callback((resume) => {
    const chunks: Array<Buffer> = []
    let size = 0
    const onData = (chunk: Buffer) => {
      size += chunk.length
      if (size > maxBytes) {
        stop()
        request.pause()
        return resume(Effect.fail(tooLarge(`more than ${maxBytes} bytes`, maxBytes)))
      }
      chunks.push(chunk)
    }
    const onEnd = () => {
      stop()
      resume(Effect.succeed(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size)))
    }
    const onError = (error: Error) => {
      stop()
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
    return Effect.sync(stop)
  })

const parse = (bytes: Buffer, limits: BodyLimits): Effect.Effect<unknown, IronflowError> =>
  parseJson(bytes.toString("utf8"), limits, bytes.length === 0 || isUtf8(bytes))

/** The value of a body; `{}` when it is empty. */
export const parseJson = (
  text: string,
  { mayBeSealed }: Pick<BodyLimits, "mayBeSealed">,
  isText = true
): Effect.Effect<unknown, IronflowError> =>
  Effect.suspend(() => {
    if (text === "") return Effect.succeed({})
    const read = (text: string): unknown => {
      if (!isText) throw new ValidationError("The body is not UTF-8: JSON is sent as UTF-8")
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
  new IronflowError(`The body is too large: ${size}, and the limit is ${maxBytes} bytes`, {
    code: "BODY_TOO_LARGE",
    details: { limit: maxBytes }
  })

const tooSlow = (timeoutMs: number): IronflowError =>
  new IronflowError(`The body did not arrive within ${timeoutMs}ms`, {
    code: "BODY_TIMEOUT",
    retryable: true
  })
