/**
 * Properties that are computed on access.
 *
 * A `get` in an object literal creates new functions, and with them a new V8 shape, for each object. Shapes are kept until a full
 * garbage collection, along with everything that those functions capture: for a run, its whole turn. Here objects share their
 * getters.
 */

/** The source of an object's getters. It is not enumerable, so that copies of the object have the values. */
const source = Symbol("ironflow.source")

interface HasSource<Source> {
  readonly [source]: Source
}

/** Adds properties, each computed from `source` on every access. */
export const sharedGetters = <Source, Parts extends object>(makers: {
  readonly [K in keyof Parts]: (from: Source) => Parts[K]
}): (<A extends object>(object: A, from: Source) => A & Parts) => {
  const properties = Object.entries<(from: Source) => unknown>(makers).map(([name, make]) => ({
    name,
    enumerable: true,
    configurable: true,
    get(this: HasSource<Source>) {
      return make(this[source])
    }
  }))
  return <A extends object>(object: A, from: Source) => {
    Object.defineProperty(object, source, { value: from })
    for (const property of properties) Object.defineProperty(object, property.name, property)
    // the properties were just defined
    return object as A & Parts
  }
}
