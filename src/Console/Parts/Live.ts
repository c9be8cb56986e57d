/**
 * Keeps what is shown up to date. Once a second, while the page is visible, everything on it is requested
 * again at the same moment. Slow requests, and data that does not change, are requested less often. A page in a
 * background tab requests nothing.
 */
import { useEffect, useRef, useState } from "preact/hooks"
import { askAnew, CallError, isSignedOut, repeating } from "./Calls.ts"
import { environment } from "./Router.ts"

export interface Live<A> {
  /** The last answer; `undefined` before the first one. */
  readonly value: A | undefined
  /** The error of the last call, if it failed. The value before it is kept. */
  readonly error: CallError | undefined
  /** Requests the data again now. */
  readonly refresh: () => void
}

const TICK_MS = 1000
/** After this many answers without a change, the interval is doubled until something changes. */
const QUIET = 5
/** After a call, the next one waits for this many times as long as the call took. */
const REST = 4

const listeners = new Set<(force: boolean) => void>()

/** Requests everything that is shown again, since something was changed. */
export const refreshAll = (): void => {
  askAnew()
  for (const listener of listeners) listener(true)
}

/** Starts the clock that requests everything again. Called once. */
export const startLive = (): void => {
  setInterval(() => {
    if (document.hidden || isSignedOut.peek()) return
    for (const listener of listeners) listener(false)
  }, TICK_MS)
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refreshAll()
  })
}

/**
 * The result of `load`, kept up to date. `key` says what the result is of: with a new key it starts anew.
 * With `once` it is requested until there is an answer, and again only after a change.
 */
export const useLive = <A>(
  key: string,
  load: (signal: AbortSignal) => Promise<A>,
  { everyMs = TICK_MS, once = false }: { readonly everyMs?: number; readonly once?: boolean } = {}
): Live<A> => {
  const whole = `${environment.value} ${key}`
  const [state, setState] = useState<{ key: string; text: string; value?: A; error?: CallError }>({
    key: whole,
    text: ""
  })
  const latest = useRef(load)
  latest.current = load
  const refresh = useRef(() => {})

  useEffect(() => {
    const abort = new AbortController()
    let isAsking = false
    let again = false
    let notBefore = 0
    let hasAnswer = false
    let lastText = ""
    let unchanged = 0
    const request = async (force: boolean): Promise<void> => {
      if (isAsking) {
        again ||= force
        return
      }
      if (!force && ((once && hasAnswer) || performance.now() < notBefore)) return
      isAsking = true
      const begun = performance.now()
      try {
        const value = await latest.current(force || !hasAnswer ? abort.signal : repeating(abort.signal))
        if (abort.signal.aborted) return
        hasAnswer = true
        const text = JSON.stringify(value) ?? ""
        if (text !== lastText) setState({ key: whole, text, value })
        else setState((before) => (before.error === undefined ? before : { key: whole, text, value }))
        unchanged = text === lastText ? unchanged + 1 : 0
        lastText = text
      } catch (cause) {
        if (abort.signal.aborted) return
        const error = cause instanceof CallError ? cause : new CallError(String(cause), 0, "BUG")
        if (!(cause instanceof CallError)) reportError(cause)
        setState((before) => (before.key === whole ? { ...before, error } : { key: whole, text: "", error }))
      } finally {
        isAsking = false
        const now = performance.now()
        // half a tick is subtracted below, since the clock does not tick exactly
        const next = unchanged < QUIET ? everyMs : everyMs * 2
        notBefore = now + Math.max((now - begun) * REST, next - TICK_MS / 2 - (now - begun))
        if (again && !abort.signal.aborted) {
          again = false
          void request(true)
        }
      }
    }
    const listener = (force: boolean): void => void request(force)
    refresh.current = () => listener(true)
    listeners.add(listener)
    listener(true)
    return () => {
      listeners.delete(listener)
      abort.abort()
    }
  }, [whole, everyMs, once])

  const isCurrent = state.key === whole
  return {
    value: isCurrent ? state.value : undefined,
    error: isCurrent ? state.error : undefined,
    refresh: () => refresh.current()
  }
}
