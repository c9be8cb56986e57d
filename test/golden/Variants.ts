/**
 * Nearly valid requests, made from a valid one: each field left out, `null` or wrong, and names in the other case (camel or
 * snake).
 */

export interface Call {
  readonly variables?: Readonly<Record<string, string>>
  readonly query?: string
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
  /** Virtual milliseconds that the engine waits before it answers. */
  readonly waitsMs?: number
}

export interface Variant {
  readonly title: string
  readonly change: (call: Call) => Call
}

export interface Variation {
  /** Fields with data of the caller, whose content stays unchanged. */
  readonly free?: ReadonlyArray<string>
  /** Paths of fields that stay unchanged. */
  readonly keep?: ReadonlyArray<string>
}

type Path = ReadonlyArray<string | number>

/** Every variant of requests like this one. */
export const variantsOf = (call: Call, { free = [], keep = [] }: Variation): ReadonlyArray<Variant> => [
  ...Object.keys(call.variables ?? {}).map((name): Variant => ({
    title: `another ${name}`,
    change: (call) => ({ ...call, variables: { ...call.variables, [name]: "nobody" } })
  })),
  ...(isRecord(call.body) ? bodiesLike(call.body, free, keep) : [])
]

const bodiesLike = (
  body: object,
  free: ReadonlyArray<string>,
  keep: ReadonlyArray<string>
): ReadonlyArray<Variant> => {
  const paths = pathsIn(body, free).filter((path) => !keep.includes(path.join(".")))
  const other = otherCase(body, free)
  const wrongOnes = paths.filter((path) => path.length === 1)
  return [
    ...(JSON.stringify(other) === JSON.stringify(body)
      ? []
      : [withBody("the other case of letters", (body) => otherCase(body, free))]),
    withBody("more fields", (body) => withMore(body, free)),
    ...(keep.length > 0
      ? []
      : [withBody("an empty object", () => ({})), withBody("no body", () => undefined)]),
    withBody("a list", () => []),
    withBody("text that is no JSON", () => '{"name": '),
    ...paths.flatMap((path) => variantsAt(body, path)),
    ...(wrongOnes.length < 2
      ? []
      : [
          withBody("all fields wrong", (body) =>
            wrongOnes.reduce((body, path) => set(body, path, wrong(get(body, path))), body)
          )
        ])
  ]
}

const variantsAt = (body: unknown, path: Path): ReadonlyArray<Variant> => {
  const name = path.join(".")
  const value = get(body, path)
  const isItem = typeof path.at(-1) === "number"
  const asNumber = typeof value === "string" && isDigits(value)
  return [
    ...(isItem ? [] : [withBody(`without ${name}`, (body) => set(body, path, undefined))]),
    withBody(`${name}: null`, (body) => set(body, path, null)),
    withBody(`${name}: ${JSON.stringify(wrong(value))}`, (body) => set(body, path, wrong(value))),
    ...(typeof value === "number"
      ? [withBody(`${name}: "${value}"`, (body) => set(body, path, String(value)))]
      : asNumber
        ? [withBody(`${name}: ${value}`, (body) => set(body, path, Number(value)))]
        : [])
  ]
}

const withBody = (title: string, change: (body: unknown) => unknown): Variant => ({
  title,
  change: (call) => ({ ...call, body: change(call.body) })
})

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isDigits = (text: string): boolean => /^-?\d+$/.test(text)

const wrong = (value: unknown): unknown =>
  typeof value === "string" ? (isDigits(value) ? "many" : 5) : typeof value === "number" ? "many" : "one"

/** The paths of all fields, and of the first item of each list. */
const pathsIn = (value: unknown, free: ReadonlyArray<string>): ReadonlyArray<Path> => {
  if (Array.isArray(value)) {
    return value.length === 0 ? [] : [[0], ...pathsIn(value[0], free).map((path) => [0, ...path])]
  }
  if (!isRecord(value)) return []
  return Object.entries(value).flatMap(([name, member]) => [
    [name],
    ...(free.includes(name) ? [] : pathsIn(member, free).map((path) => [name, ...path]))
  ])
}

const get = (value: unknown, path: Path): unknown =>
  path.reduce<unknown>((value, name) => (value as Readonly<Record<string | number, unknown>>)[name], value)

/** A copy with another member; JSON leaves `undefined` out. */
const set = (value: unknown, [name, ...rest]: Path, member: unknown): unknown => {
  const changed = (inside: unknown): unknown => (rest.length === 0 ? member : set(inside, rest, member))
  if (Array.isArray(value)) return value.map((item: unknown, i) => (i === name ? changed(item) : item))
  return { ...(value as object), [name!]: changed((value as Record<string, unknown>)[name!]) }
}

const otherName = (name: string): string =>
  /_[a-z]/.test(name)
    ? name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
    : name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

/** The same with names in snake case instead of camel case, and the reverse. */
export const otherCase = (value: unknown, free: ReadonlyArray<string>): unknown => {
  if (Array.isArray(value)) return value.map((item) => otherCase(item, free))
  if (!isRecord(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [
      otherName(name),
      free.includes(name) ? member : otherCase(member, free)
    ])
  )
}

const withMore = (value: unknown, free: ReadonlyArray<string>): unknown => {
  if (Array.isArray(value)) return value.map((item) => withMore(item, free))
  if (!isRecord(value)) return value
  return {
    ...Object.fromEntries(
      Object.entries(value).map(([name, member]) => [
        name,
        free.includes(name) ? member : withMore(member, free)
      ])
    ),
    unheardOf: { a: 1 }
  }
}
