/** A text field for a parameter in the query of the address. */
import { useLayoutEffect, useRef } from "preact/hooks"
import { place } from "./Router.ts"

export interface AddressInputProps {
  /** The parameter in the query of the address. */
  readonly name: string
  readonly placeholder: string
  /** Called with the text when the user has finished it: at Enter, or when the field loses the focus. */
  readonly onFinish: (text: string) => void
  readonly size?: number
  /** The id of a list of suggestions. */
  readonly list?: string
  /** Whether the key `/` moves the focus to this field. */
  readonly isSearch?: boolean
}

/**
 * Shows the parameter. What the user is typing is kept while the page is refreshed: if the input had the attribute `value`, each
 * refresh would put the old text back.
 */
export const AddressInput = ({
  isSearch = false,
  list,
  name,
  onFinish,
  placeholder,
  size
}: AddressInputProps) => {
  const ref = useRef<HTMLInputElement>(null)
  const text = place.value.query.get(name) ?? ""
  useLayoutEffect(() => {
    if (ref.current !== null) ref.current.value = text
  }, [text])
  return (
    <input
      ref={ref}
      name={name}
      type="search"
      placeholder={placeholder}
      onChange={(event) => onFinish(event.currentTarget.value)}
      {...(size === undefined ? {} : { size })}
      {...(list === undefined ? {} : { list })}
      {...(isSearch ? { "data-search": "" } : {})}
    />
  )
}
