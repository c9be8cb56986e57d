/**
 * A list that is read page by page. The first page is kept up to date. The other pages are loaded when the user
 * scrolls to them.
 */
import { useEffect, useRef, useState } from "preact/hooks"
import { CallError } from "./Calls.ts"
import { useLive } from "./Live.ts"

export interface ListPage<A> {
  readonly items: ReadonlyArray<A>
  /** The cursor of the next page; absent on the last page. */
  readonly next?: string | undefined
}

interface List<A> extends ListPage<A> {
  readonly key: string
}

/**
 * The list and its state. `key` names the list, as in `useLive`; `read` returns the page at a cursor, or the
 * first page without a cursor.
 */
export const usePagedList = <A>(
  key: string,
  read: (cursor: string | undefined, signal?: AbortSignal) => Promise<ListPage<A>>,
  keyOf: (item: A) => string
) => {
  const [list, setList] = useState<List<A> | undefined>(undefined)
  const [newer, setNewer] = useState(0)
  const [moreError, setMoreError] = useState<CallError | undefined>(undefined)
  const isTop = useRef(true)
  const isReading = useRef(false)
  const first = useLive(key, (signal) => read(undefined, signal))
  const current = list?.key === key ? list : undefined

  useEffect(() => {
    const page = first.value
    if (page === undefined) return
    const before = current?.items ?? []
    const lastKey = page.items.length === 0 ? undefined : keyOf(page.items.at(-1)!)
    const at = lastKey === undefined ? -1 : before.findIndex((item) => keyOf(item) === lastKey)
    if (isTop.current || current === undefined || before.length === 0) {
      // keeps the items after the first page; when the last item of that page is not in the list, the list starts anew
      // with that page
      const olderItems = at === -1 ? [] : before.slice(at + 1)
      setList({
        key,
        items: [...page.items, ...olderItems],
        next: olderItems.length === 0 ? page.next : current?.next
      })
      return setNewer(0)
    }
    const knownKeys = new Set(before.map(keyOf))
    setNewer(page.items.filter((item) => !knownKeys.has(keyOf(item))).length)
  }, [first.value, key])

  const more = async (): Promise<void> => {
    const cursor = current?.next
    if (cursor === undefined || isReading.current) return
    isReading.current = true
    try {
      const page = await read(cursor)
      setMoreError(undefined)
      setList((before) => {
        if (before === undefined || before.key !== key || before.next !== cursor) return before
        const knownKeys = new Set(before.items.map(keyOf))
        return {
          key,
          items: [...before.items, ...page.items.filter((item) => !knownKeys.has(keyOf(item)))],
          next: page.next
        }
      })
    } catch (cause) {
      setMoreError(cause instanceof CallError ? cause : new CallError(String(cause), 0, "BUG"))
    } finally {
      isReading.current = false
    }
  }

  return {
    items: current?.items,
    hasMore: current?.next !== undefined,
    /** How many items have arrived at the top since the user scrolled away from it. */
    newer,
    error: first.error ?? moreError,
    refresh: first.refresh,
    more: () => void more(),
    setTop: (top: boolean) => {
      isTop.current = top
    },
    showNewer: () => {
      setList(undefined)
      setNewer(0)
      isTop.current = true
      first.refresh()
    }
  }
}
