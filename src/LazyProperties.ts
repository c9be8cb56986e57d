/**
 * Properties that are made when somebody asks for them.
 *
 * With `get` in an object literal each object has functions of its own, for which V8 makes a shape of its own. Shapes are kept until
 * all of the heap is collected, and with them what those functions see: of a run, all of its turn. Here objects share their getters.
 */

/** What the getters of an object make their values of. Not enumerable: copies of the object have the values. */
const source = Symbol("ironflow.source")

interface HasSource<Source> {
  readonly [source]: Source
}

/** Adds properties, each made of `source` whenever it is asked for. */
export const lazyProperties = <Source, Parts extends object>(makers: {
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
    // they have just been defined
    return object as A & Parts
  }
}
