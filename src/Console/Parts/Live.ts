/**
 * Keeps what is shown up to date. Once a second, while the page is visible, all data on the page is requested
 * again at the same moment. Data is requested less often if its requests are slow, or if it does not change. A page
 * in a background tab requests nothing.
 */
import { useEffect, useRef, useState } from "preact/hooks"
import { refuseSharedAnswers, CallError, isSignedOut, refreshSignal } from "./Calls.ts"
import { environment } from "./Router.ts"

export interface Live<A> {
  /** The last answer; `undefined` before the first one. */
  readonly value: A | undefined
  /** The error of the last call, if it failed. `value` is then still the last answer. */
  readonly error: CallError | undefined
  /** Requests the data again now. */
  readonly refresh: () => void
}

const TICK_MS = 1000
/** After this many equal answers in a row, the interval is doubled, until an answer differs. */
const UNCHANGED_ANSWERS = 5
/** The pause after a call is at least this many times as long as the call took. */
const PAUSE_FACTOR = 4

const listeners = new Set<(force: boolean) => void>()

/** Requests again everything that is shown: after a change, or when the tab becomes visible. */
export const refreshAll = (): void => {
  refuseSharedAnswers()
  for (const listener of listeners) listener(true)
}

/** Starts the clock at whose ticks everything is requested again. Called once. */
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
 * The result of `load`, kept up to date. `key` names the data: when the key changes, the hook starts anew. With `once`,
 * the data is requested until there is an answer, and after that only by {@link refreshAll} or `refresh`.
 */
export const useLive = <A>(
  key: string,
  load: (signal: AbortSignal) => Promise<A>,
  { everyMs = TICK_MS, once = false }: { readonly everyMs?: number; readonly once?: boolean } = {}
): Live<A> => {
  const fullKey = `${environment.value} ${key}`
  const [state, setState] = useState<{ key: string; text: string; value?: A; error?: CallError }>({
    key: fullKey,
    text: ""
  })
  const latestLoad = useRef(load)
  latestLoad.current = load
  const refresh = useRef(() => {})

  useEffect(() => {
    const abort = new AbortController()
    let isAsking = false
    let isForcedAgain = false
    let notBefore = 0
    let hasAnswer = false
    let lastText = ""
    let unchangedCount = 0
    const request = async (force: boolean): Promise<void> => {
      if (isAsking) {
        isForcedAgain ||= force
        return
      }
      if (!force && ((once && hasAnswer) || performance.now() < notBefore)) return
      isAsking = true
      const begunMs = performance.now()
      try {
        const value = await latestLoad.current(
          force || !hasAnswer ? abort.signal : refreshSignal(abort.signal)
        )
        if (abort.signal.aborted) return
        hasAnswer = true
        const text = JSON.stringify(value) ?? ""
        if (text !== lastText) setState({ key: fullKey, text, value })
        else setState((before) => (before.error === undefined ? before : { key: fullKey, text, value }))
        unchangedCount = text === lastText ? unchangedCount + 1 : 0
        lastText = text
      } catch (cause) {
        if (abort.signal.aborted) return
        const error = cause instanceof CallError ? cause : new CallError(String(cause), 0, "BUG")
        if (!(cause instanceof CallError)) reportError(cause)
        setState((before) =>
          before.key === fullKey ? { ...before, error } : { key: fullKey, text: "", error }
        )
      } finally {
        isAsking = false
        const now = performance.now()
        const intervalMs = unchangedCount < UNCHANGED_ANSWERS ? everyMs : everyMs * 2
        // half a tick is subtracted, since the ticks of the clock are not exact
        notBefore = now + Math.max((now - begunMs) * PAUSE_FACTOR, intervalMs - TICK_MS / 2 - (now - begunMs))
        if (isForcedAgain && !abort.signal.aborted) {
          isForcedAgain = false
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
  }, [fullKey, everyMs, once])

  const isCurrent = state.key === fullKey
  return {
    value: isCurrent ? state.value : undefined,
    error: isCurrent ? state.error : undefined,
    refresh: () => refresh.current()
  }
}
