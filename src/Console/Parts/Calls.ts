/**
 * Makes calls to the engine as any client does, by their descriptions in `src/Protocol`: encodes requests, decodes
 * responses, and explains failures to the user.
 */
import { signal } from "@preact/signals"
import { reader } from "../../Protocol/Codec.ts"
import { ENVIRONMENT_HEADER, pathOf } from "../../Protocol/Http/CallAddress.ts"
import { isReadOnly, type Operation } from "../../Protocol/CallSpec.ts"
import { noteDate } from "./Clock.ts"
import { engineBase, environment } from "./Router.ts"

export interface Input {
  /** The values of the variables in the path. */
  readonly variables?: { readonly [name: string]: string }
  /** Parameters in the query. A member that is `undefined` is left out. Each item of a list becomes one parameter. */
  readonly query?: { readonly [name: string]: string | number | ReadonlyArray<string> | undefined }
  readonly body?: object
  readonly headers?: { readonly [name: string]: string }
  readonly signal?: AbortSignal
  /** Set when the call names no environment: then the environment of the API key applies. */
  readonly usesKeyEnvironment?: true
}

/** The failure of a call. `status` is 0 when there was no response. */
export class CallError extends Error {
  readonly status: number
  readonly code: string
  readonly details: unknown

  constructor(message: string, status: number, code: string, details?: unknown) {
    super(message)
    this.status = status
    this.code = code
    this.details = details
  }
}

/** Whether the engine answers; `undefined` until the first call. */
export const isConnected = signal<boolean | undefined>(undefined)
/** Whether the engine requires a key and this browser has no session. Then the sign-in page is shown. */
export const isSignedOut = signal(false)

/**
 * How long after a change the page refuses answers that the engine has made for another tab: such an answer may be
 * older than the change.
 */
const FRESH_MS = 1500
let freshUntil = 0

/** Called after a change. For {@link FRESH_MS}, the page refuses answers that the engine has made for another tab. */
export const refuseSharedAnswers = (): void => {
  freshUntil = performance.now() + FRESH_MS
}

/**
 * Signals of requests that only refresh what is shown. Only these requests accept an answer that the engine has
 * made for another tab.
 */
const refreshSignals = new WeakSet<AbortSignal>()

/**
 * The signal for a request that only refreshes what is shown: the user has neither opened nor changed anything. It
 * aborts together with `signal`.
 */
export const refreshSignal = (signal: AbortSignal): AbortSignal => {
  const refreshOnly = AbortSignal.any([signal])
  refreshSignals.add(refreshOnly)
  return refreshOnly
}

/** The timeout of a call. An engine that works answers every call of a page much sooner. */
const TIMEOUT_MS = 30_000

/** Makes a call, and returns the decoded answer. Fails with a {@link CallError}. */
export const ask = async <A>(operation: Operation<A>, input: Input = {}): Promise<A> => {
  const text = await send(operation, input)
  // status 204: the operation has no `answer`, there is no body, and `A` is `undefined`
  if (operation.answer === undefined || text === "") return undefined as A
  const value = reader<A>(operation.answer)(parse(text))
  if (value !== undefined) return value
  throw new CallError(
    "This page cannot read the answer of the engine: reload the page",
    200,
    "INVALID_ANSWER"
  )
}

/** Makes a call, and returns the body of the answer as text. Fails with a {@link CallError}. */
export const send = async (
  operation: Operation,
  { body, headers, usesKeyEnvironment, query, signal, variables }: Input
): Promise<string> => {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of Array.isArray(value) ? value : value === undefined ? [] : [value]) {
      search.append(name, String(one))
    }
  }
  const path = pathOf(operation, variables).slice(1)
  const acceptsSharedAnswer =
    isReadOnly(operation) &&
    signal !== undefined &&
    refreshSignals.has(signal) &&
    performance.now() >= freshUntil
  const sentAt = Date.now()
  let response: Response
  let text: string
  try {
    response = await fetch(`${engineBase}${path}${search.size === 0 ? "" : `?${search}`}`, {
      method: operation.method,
      headers: {
        ...(usesKeyEnvironment === true ? {} : { [ENVIRONMENT_HEADER]: environment.peek() }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...(acceptsSharedAnswer ? { "cache-control": "max-age=1" } : {}),
        ...headers
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.any([AbortSignal.timeout(TIMEOUT_MS), ...(signal === undefined ? [] : [signal])])
    })
    text = await response.text()
  } catch (cause) {
    if (signal?.aborted === true) throw new CallError("The page has moved on", 0, "ABORTED")
    isConnected.value = false
    throw new CallError(
      cause instanceof DOMException && cause.name === "TimeoutError"
        ? "The engine has not answered within 30 seconds"
        : "The engine does not answer: it may have stopped. This page tries again on its own",
      0,
      "NO_ANSWER"
    )
  }
  isConnected.value = true
  noteDate(response.headers.get("date"), sentAt)
  if (response.ok) return text
  const failure = parse(text)
  const memberOf = (name: string): string | undefined => {
    const value = isRecord(failure) ? failure[name] : undefined
    return typeof value === "string" ? value : undefined
  }
  if (response.status === 401) isSignedOut.value = true
  throw new CallError(
    memberOf("message") ?? memberOf("error") ?? `The engine has answered with status ${response.status}`,
    response.status,
    memberOf("code") ?? "UNKNOWN",
    isRecord(failure) ? failure["details"] : undefined
  )
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

export const isRecord = (value: unknown): value is { readonly [name: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value)
