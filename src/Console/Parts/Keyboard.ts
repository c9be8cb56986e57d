/**
 * Keyboard shortcuts: `/` searches, `g r` opens the runs, and `?` shows all shortcuts. They do nothing while the
 * user types.
 */
import { signal } from "@preact/signals"

export interface Shortcut {
  readonly keys: string
  readonly what: string
}

export const isHelpShown = signal(false)

const actions = new Map<string, { readonly what: string; readonly act: () => void }>()

/** The shortcuts that exist now, for the dialog that `?` opens. */
export const shortcuts = (): ReadonlyArray<Shortcut> => [
  { keys: "?", what: "show these keys" },
  { keys: "/", what: "find, on this page or anywhere" },
  ...[...actions].map(([keys, { what }]) => ({ keys, what }))
]

/** Adds a shortcut, such as `g r`. Returns a function that removes it. */
export const addShortcut = (keys: string, what: string, act: () => void): (() => void) => {
  actions.set(keys, { what, act })
  return () => actions.delete(keys)
}

/** The longest time between the two keys of a shortcut. */
const SECOND_KEY_MS = 1500

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement &&
  (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))

/** Starts to listen for keys. Called once. */
export const listenToKeys = (): void => {
  let firstKey = ""
  let firstAt = 0
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      isHelpShown.value = false
      if (isTyping(event.target)) (event.target as HTMLElement).blur()
      return
    }
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return
    if (document.querySelector("dialog[open]") !== null && event.key !== "?") return
    if (event.key === "?") return void (isHelpShown.value = !isHelpShown.peek())
    if (event.key === "/") {
      const search =
        document.querySelector<HTMLElement>("main [data-search]") ??
        document.querySelector<HTMLElement>("[data-search]")
      if (search === null) return
      event.preventDefault()
      return search.focus()
    }
    const isSecond = firstKey !== "" && event.timeStamp - firstAt < SECOND_KEY_MS
    const keys = isSecond ? `${firstKey} ${event.key}` : event.key
    const action = actions.get(keys)
    firstKey = isSecond ? "" : event.key
    firstAt = event.timeStamp
    if (action === undefined) return
    firstKey = ""
    event.preventDefault()
    action.act()
  })
}
