/**
 * Shows several items: as short tables, as lists that are loaded at once, and as facts with names. Also the paths of
 * pages, and texts that fit into a row.
 */
import type { ComponentChildren } from "preact"
import type { Live } from "./Live.ts"
import { count, Failure, Loading } from "./Elements.tsx"
import { place, setQuery } from "./Router.ts"
import { type Column, visibilityClass, VirtualList } from "./VirtualList.tsx"

/** The path of a page. The segments are encoded, since names may contain any characters. */
export const pathTo = (...segments: ReadonlyArray<string>): string =>
  segments.map(encodeURIComponent).join("/")

/** A value on one line, cut at 300 characters. */
export const oneLine = (value: unknown): string =>
  value === undefined ? "" : (typeof value === "string" ? value : JSON.stringify(value)).slice(0, 300)

/** A text that the style sheet cuts to the width of its column. The tooltip shows the whole text, or `title`. */
export const Truncated = ({ children, title }: { readonly children: string; readonly title?: string }) => (
  <span title={title ?? children}>{children}</span>
)

/** Names with their values. Names without a value are left out. */
export const Facts = ({
  facts
}: {
  readonly facts: ReadonlyArray<readonly [name: string, value: ComponentChildren]>
}) => (
  <dl class="facts">
    {facts
      .filter(([, value]) => value !== undefined && value !== "")
      .map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
  </dl>
)

/** A table of a few rows. */
export const Table = <A,>({
  columns,
  items,
  keyOf,
  label
}: {
  readonly label: string
  readonly items: ReadonlyArray<A>
  readonly keyOf: (item: A) => string
  readonly columns: ReadonlyArray<Column<A>>
}) => (
  <div class="scroll" role="region" aria-label={label} tabIndex={0}>
    <table>
      <thead>
        <tr>
          {columns.map(({ title, ...column }) => (
            <th key={title} scope="col" class={visibilityClass(column)}>
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {items.map((item) => (
          <tr key={keyOf(item)}>
            {columns.map(({ cell, title, ...column }) => (
              <td key={title} class={visibilityClass(column)}>
                {cell(item)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  </div>
)

/** Lists that are longer than this have a search field. */
const SEARCH_LENGTH = 8

/** A list that is loaded at once. A long list has a search field, whose text is in the address. */
export const Listing = <A,>({
  columns,
  empty,
  keyOf,
  label,
  live,
  name = "q",
  textOf
}: {
  readonly label: string
  readonly live: Live<ReadonlyArray<A>>
  readonly keyOf: (item: A) => string
  /** The text of an item that is searched. */
  readonly textOf: (item: A) => string
  readonly columns: ReadonlyArray<Column<A>>
  /** What is shown in place of an empty list. */
  readonly empty: ComponentChildren
  /** The parameter in the address that has the text of the search. */
  readonly name?: string
}) => {
  const all = live.value
  const words = (place.value.query.get(name) ?? "").toLowerCase().split(/\s+/).filter(Boolean)
  const items = all?.filter((item) => {
    const text = textOf(item).toLowerCase()
    return words.every((word) => text.includes(word))
  })
  return (
    <>
      {live.error !== undefined && <Failure error={live.error} retry={live.refresh} />}
      {all === undefined || items === undefined ? (
        live.error === undefined && <Loading />
      ) : all.length === 0 ? (
        empty
      ) : (
        <>
          {(all.length > SEARCH_LENGTH || words.length > 0) && (
            <form
              class="filters"
              role="search"
              aria-label={label}
              onSubmit={(event) => event.preventDefault()}
            >
              <label>
                Find
                <input
                  type="search"
                  data-search=""
                  value={place.value.query.get(name) ?? ""}
                  onInput={(event) => setQuery({ [name]: event.currentTarget.value })}
                />
              </label>
            </form>
          )}
          {items.length === 0 ? (
            <p class="quiet">None of the {count(all.length)} contains all these words.</p>
          ) : (
            <VirtualList label={label} items={items} keyOf={keyOf} columns={columns} total={items.length} />
          )}
        </>
      )}
    </>
  )
}
