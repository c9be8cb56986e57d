/** JSON that is text already, on its way into a larger text. */
export class JsonFragment {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** A value, or the JSON text of it. */
export type Jsonable<A> = A | JsonFragment

/** The JSON of a value whose fields may be fragments; deeper down there are none. */
export const encodeWithFragments = (fields: { readonly [name: string]: unknown }): string => {
  const parts: Array<string> = []
  for (const name in fields) {
    const value = fields[name]
    if (value === undefined) continue
    parts.push(`${JSON.stringify(name)}:${encodeValue(value)}`)
  }
  return `{${parts.join(",")}}`
}

const encodeValue = (value: unknown): string => {
  if (value instanceof JsonFragment) return value.text
  return Array.isArray(value) && value[0] instanceof JsonFragment
    ? `[${value.map(encodeValue).join(",")}]`
    : JSON.stringify(value)
}
