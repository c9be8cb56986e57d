/**
 * What is shown stays what is: each thing that a page shows is asked for again once a second, all of them in one turn, as long as the
 * page is seen. What takes the engine long, or does not change, is asked for less often, and a page in a tab behind asks for nothing.
 */
import { useEffect, useRef, useState } from "preact/hooks"
import { CallError, isSignedOut } from "./Calls.ts"
import { environment } from "./Router.ts"

export interface Live<A> {
  /** The last answer; `undefined` until the first. */
  readonly value: A | undefined
  /** Why the last call has failed, while it does. What was shown before is kept. */
  readonly error: CallError | undefined
  /** Asks again now. */
  readonly refresh: () => void
}

const TICK_MS = 1000
/** Where nothing has changed for so many times, it is asked half as often until something does. */
const QUIET = 5
/** After a call that took so long nothing is asked for until so many times that is over. */
const REST = 4

const listeners = new Set<(force: boolean) => void>()

/** Asks for all that is shown now: something was changed. */
export const refreshAll = (): void => {
  for (const listener of listeners) listener(true)
}

/** Starts the clock. Called once. */
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
 * What `load` gives, kept up to date. `key` names it: with another key it is something else, and is asked for from the start. With
 * `once` it is asked for when it is first shown, and when something was changed.
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
    const look = async (force: boolean): Promise<void> => {
      if (isAsking) {
        again ||= force
        return
      }
      if (!force && ((once && hasAnswer) || performance.now() < notBefore)) return
      isAsking = true
      const begun = performance.now()
      try {
        const value = await latest.current(abort.signal)
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
        // the clock ticks as often, and not to the millisecond
        const next = unchanged < QUIET ? everyMs : everyMs * 2
        notBefore = now + Math.max((now - begun) * REST, next - TICK_MS / 2 - (now - begun))
        if (again && !abort.signal.aborted) {
          again = false
          void look(true)
        }
      }
    }
    const listener = (force: boolean): void => void look(force)
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
