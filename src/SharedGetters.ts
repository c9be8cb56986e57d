/**
 * Adds computed properties to objects. A computed property gets its value whenever it is accessed.
 *
 * A `get` in an object literal makes new functions for each object, and with them a new V8 shape. V8 keeps shapes
 * until a full garbage collection, together with all that the functions of the shape capture: in the context of a
 * handler, the whole turn. Here all objects share their getters.
 */

/**
 * The key of the value from which an object's getters compute. It is not enumerable, so that a copy of the object does
 * not hold the value. The getters are enumerable: a copy has what they return.
 */
const sourceKey = Symbol("ironflow.source")

interface HasSource<Source> {
  readonly [sourceKey]: Source
}

/**
 * Makes a function that adds properties to an object. Each property is computed from `source` whenever it is accessed.
 */
export const sharedGetters = <Source, Parts extends object>(makers: {
  readonly [K in keyof Parts]: (source: Source) => Parts[K]
}): (<A extends object>(object: A, source: Source) => A & Parts) => {
  const properties = Object.entries<(source: Source) => unknown>(makers).map(([name, make]) => ({
    name,
    enumerable: true,
    configurable: true,
    get(this: HasSource<Source>) {
      return make(this[sourceKey])
    }
  }))
  return <A extends object>(object: A, source: Source) => {
    Object.defineProperty(object, sourceKey, { value: source })
    for (const property of properties) Object.defineProperty(object, property.name, property)
    // the object got these properties above
    return object as A & Parts
  }
}
