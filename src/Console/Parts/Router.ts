/** Which page is shown, and its filters. Both are in the address, so that a shared link shows the same. */
import { computed, signal } from "@preact/signals"

/** The path of the console, such as `/console/`. The engine writes it into the page. */
const base = new URL(document.baseURI).pathname

/** The path of the engine, such as `/`. */
export const engineBase = base.replace(/[^/]+\/$/, "")

interface Place {
  /** The path after the base: `runs/run_1`. */
  readonly path: string
  readonly query: URLSearchParams
}

const readAddress = (): Place => ({
  path: location.pathname.startsWith(base) ? location.pathname.slice(base.length) : "",
  query: new URLSearchParams(location.search)
})

/** The variables in the path of a page, decoded. */
export type Variables = { readonly [name: string]: string }

/** The page that is shown, and its filters. */
export const place = signal<Place>(readAddress())

/** The environment that is shown. */
export const environment = computed(() => place.value.query.get("env") ?? "default")

export type Query = { readonly [name: string]: string | ReadonlyArray<string> | undefined }

/** The address of a page, in the displayed environment unless `query` names another one. */
export const hrefOf = (path: string, query: Query = {}): string => {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries({ env: environment.value, ...query })) {
    for (const text of typeof value === "string" ? [value] : (value ?? [])) {
      if (text !== "" && !(name === "env" && text === "default")) search.append(name, text)
    }
  }
  return base + path + (search.size === 0 ? "" : `?${search}`)
}

/**
 * Opens an address of the console. With `replace`, the address replaces the current one in the history of the
 * browser.
 */
export const go = (href: string, replace = false): void => {
  history[replace ? "replaceState" : "pushState"](null, "", href)
  const before = place.peek().path
  place.value = readAddress()
  if (place.peek().path !== before) scrollTo(0, 0)
}

/** Changes filters of the page that is shown. */
export const setQuery = (changes: Query, replace = true): void => {
  const { path, query } = place.peek()
  const all: Record<string, ReadonlyArray<string>> = {}
  for (const name of query.keys()) all[name] = query.getAll(name)
  go(hrefOf(path, { ...all, ...changes }), replace)
}

/** Follows the address of the browser, and clicks on links to pages of the console. Called once. */
export const followAddress = (): void => {
  addEventListener("popstate", () => (place.value = readAddress()))
  addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
    const link = event.target instanceof Element ? event.target.closest("a") : null
    if (link === null || link.target !== "" || link.hasAttribute("download")) return
    const url = new URL(link.href)
    if (url.origin !== location.origin || !url.pathname.startsWith(base)) return
    event.preventDefault()
    go(url.pathname + url.search)
  })
}
