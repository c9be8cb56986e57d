/** Reads properties of unknown values and tests their class without ever throwing, and defines properties. */

export const read = (value: unknown, key: string): unknown => {
  if ((typeof value !== "object" || value === null) && typeof value !== "function") return undefined
  try {
    return (value as { readonly [key: string]: unknown })[key]
  } catch {
    // a property whose getter or proxy throws counts as absent
    return undefined
  }
}

export const define = (target: object, key: string, value: unknown, enumerable: boolean): void => {
  Object.defineProperty(target, key, { value, enumerable, writable: true, configurable: true })
}

export const isInstance = <A>(value: unknown, Class: abstract new (...args: never) => A): value is A => {
  try {
    return value instanceof Class
  } catch {
    // a revoked proxy, or a proxy whose prototype trap throws
    return false
  }
}
