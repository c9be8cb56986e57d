/** A table that renders only the rows in view. So a hundred thousand rows scroll as fast as ten. */
import type { ComponentChildren } from "preact"
import { useEffect, useRef, useState } from "preact/hooks"

export interface Column<A> {
  readonly title: string
  /** The width in a grid: `1fr` or `8rem`. */
  readonly width: string
  /** Whether the column is hidden on narrow screens. */
  readonly isExtra?: boolean
  /** Whether the column is only shown on narrow screens. */
  readonly isShort?: boolean
  /** The width on narrow screens. Without it, `width` applies, with a smaller minimum. */
  readonly narrow?: string
  readonly cell: (item: A) => ComponentChildren
}

const ROW_PX = 36
/** How many rows are rendered above and below the visible rows, for fast scrolling. */
const EXTRA_ROWS = 12

/**
 * The table. `onEnd` is called when the user has scrolled close to the last row, to load more rows. `onTop` is told
 * whether the first row can be seen.
 */
export const VirtualList = <A,>({
  columns,
  items,
  keyOf,
  label,
  onEnd,
  onTop,
  total
}: {
  readonly label: string
  readonly items: ReadonlyArray<A>
  readonly keyOf: (item: A) => string
  readonly columns: ReadonlyArray<Column<A>>
  /** The number of all rows, if it is known. */
  readonly total?: number | undefined
  readonly onEnd?: () => void
  readonly onTop?: (isTop: boolean) => void
}) => {
  const ref = useRef<HTMLDivElement>(null)
  const [{ height, top }, setView] = useState({ top: 0, height: 800 })
  const callbacks = useRef({ onEnd, onTop })
  callbacks.current = { onEnd, onTop }

  useEffect(() => {
    const element = ref.current
    if (element === null) return
    let frame = 0
    const measure = (): void => {
      frame = 0
      setView({ top: element.scrollTop, height: element.clientHeight })
      callbacks.current.onTop?.(element.scrollTop < ROW_PX)
    }
    const measureSoon = (): void => {
      if (frame === 0) frame = requestAnimationFrame(measure)
    }
    element.addEventListener("scroll", measureSoon, { passive: true })
    const observer = new ResizeObserver(measureSoon)
    observer.observe(element)
    measure()
    return () => {
      element.removeEventListener("scroll", measureSoon)
      observer.disconnect()
      cancelAnimationFrame(frame)
    }
  }, [])

  const first = Math.max(0, Math.floor(top / ROW_PX) - EXTRA_ROWS)
  const last = Math.min(items.length, Math.ceil((top + height) / ROW_PX) + EXTRA_ROWS)
  useEffect(() => {
    if (last >= items.length - EXTRA_ROWS) callbacks.current.onEnd?.()
  }, [last, items.length])

  const wideColumns = columns.flatMap(({ isShort, width }) => (isShort === true ? [] : [width])).join(" ")
  // on narrow screens the list is no wider than the screen; a text that is cut can be read on the page of the
  // row
  const narrowColumns = columns
    .flatMap(({ isExtra, narrow: narrowWidth, width }) =>
      isExtra === true ? [] : [narrowWidth ?? width.replace(/minmax\(([^,]+),/, "minmax(min($1, 22vw),")]
    )
    .join(" ")
  return (
    <div class="list" style={{ "--columns": wideColumns, "--columns-narrow": narrowColumns }}>
      <div
        class="rows"
        role="table"
        aria-label={label}
        aria-rowcount={(total ?? items.length) + 1}
        ref={ref}
        tabIndex={0}
      >
        <div class="row head" role="row">
          {columns.map(({ title, ...column }) => (
            <span role="columnheader" key={title} class={visibilityClass(column)}>
              {title === "" ? <span class="unseen">Choose</span> : title}
            </span>
          ))}
        </div>
        <div style={{ height: `${items.length * ROW_PX}px` }} role="rowgroup">
          <div role="presentation" style={{ transform: `translateY(${first * ROW_PX}px)` }}>
            {items.slice(first, last).map((item, i) => (
              <div class="row" role="row" key={keyOf(item)} aria-rowindex={first + i + 2}>
                {columns.map(({ cell, title, ...column }) => (
                  <span role="cell" key={title} class={visibilityClass(column)}>
                    {cell(item)}
                  </span>
                ))}
              </div>
            ))}
          </div>
        </div>
      </div>
    </div>
  )
}

/** The class of cells that are shown only on wide screens, or only on narrow screens. */
export const visibilityClass = ({
  isExtra,
  isShort
}: {
  readonly isExtra?: boolean
  readonly isShort?: boolean
}): string => (isExtra === true ? "extra" : isShort === true ? "short" : "")
