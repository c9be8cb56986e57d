/** JSON text to embed in larger JSON. */
export class JsonFragment {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** A value, or its JSON. */
export type Jsonable<A> = A | JsonFragment

/**
 * The JSON of an object. Its members may be fragments, or arrays that begin with a fragment. Fragments at other
 * places are not recognized.
 */
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
