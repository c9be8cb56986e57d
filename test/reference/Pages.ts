/**
 * The pages of docs/reference: one for each entry of the package, made from its docstrings. `npm run reference` writes them.
 */
import { type Declaration, type Entry, type Export, type Member, readEntries } from "./Surface.ts"

interface Section {
  /** Its heading: `Step.run` in a namespace. */
  readonly heading: string
  readonly declaration: Declaration
}

/** Where a declaration is described. */
interface Place {
  readonly page: string
  readonly heading: string
}

/** The pages by their file names, in `docs/reference`. */
export const referencePages = (): ReadonlyMap<string, string> => {
  const entries = readEntries()
  const places = placesOf(entries)
  const pages = new Map([["README.md", contents(entries)]])
  for (const entry of entries) pages.set(pageOf(entry), page(entry, places))
  return pages
}

const pageOf = ({ name }: Entry): string =>
  `${name === "@ironflow/node" ? "node" : name.slice("@ironflow/node/".length).replaceAll("/", "-")}.md`

const notice = "<!-- made of the docstrings in src: npm run reference -->"

const keyOf = ({ file, name, start }: Declaration): string => `${file}:${start}:${name}`

/** Each declaration has one place: the page of the first entry that exports it, and there the first name. */
const placesOf = (entries: ReadonlyArray<Entry>): ReadonlyMap<string, Place> => {
  const places = new Map<string, Place>()
  for (const entry of entries) {
    for (const { declaration, heading } of sectionsOf(entry)) {
      const key = keyOf(declaration)
      if (!places.has(key)) places.set(key, { page: pageOf(entry), heading })
    }
  }
  return places
}

const sectionsOf = ({ exports, namespaces }: Entry): ReadonlyArray<Section> => [
  ...exports.map(({ declaration, name }) => ({ declaration, heading: name })),
  ...namespaces.flatMap((namespace) =>
    namespace.exports.map(({ declaration, name }) => ({ declaration, heading: `${namespace.name}.${name}` }))
  )
]

const contents = (entries: ReadonlyArray<Entry>): string =>
  [
    notice,
    "",
    "# Reference",
    "",
    "Every export of the package, as its docstring says. What is told with examples from the beginning is in [the other pages](../../README.md#what-there-is).",
    "",
    "| Import from | What is in it |",
    "| --- | --- |",
    ...entries.map(
      (entry) =>
        `| [\`${entry.name}\`](${pageOf(entry)}) | ${inOneLine(entry.doc ?? "")
          .split("```")[0]
          ?.trim()} |`
    ),
    ""
  ].join("\n")

const page = (entry: Entry, places: ReadonlyMap<string, Place>): string => {
  const file = pageOf(entry)
  const here = (heading: string, { declaration }: Export): boolean => {
    const place = places.get(keyOf(declaration))
    return place?.page === file && place.heading === heading
  }
  const block = (exports: ReadonlyArray<Export>, prefix: string, level: string): ReadonlyArray<string> => {
    const own = exports.filter((one) => here(prefix + one.name, one))
    const others = exports.filter((one) => !own.includes(one))
    return [
      ...kinds.flatMap(({ kind, title }) => {
        const sections = own.filter(({ declaration }) => declaration.kind === kind)
        return sections.length === 0
          ? []
          : [
              `${level} ${prefix === "" ? title : `${prefix.slice(0, -1)}: ${title.toLowerCase()}`}`,
              "",
              ...sections.flatMap(({ declaration, name }) =>
                section(prefix + name, declaration, `${level}#`, file, places)
              )
            ]
      }),
      ...(others.length === 0
        ? []
        : [
            `${level} ${prefix === "" ? "Also here" : `${prefix.slice(0, -1)}: also here`}`,
            "",
            others.map((one) => linkTo(one, places)).join(" · "),
            ""
          ])
    ]
  }
  return (
    [
      notice,
      "",
      `# \`${entry.name}\``,
      "",
      ...(entry.doc === undefined ? [] : [prose(entry.doc), ""]),
      ...block(entry.exports, "", "##"),
      ...entry.namespaces.flatMap((namespace) => [
        `## ${namespace.name}`,
        "",
        ...(namespace.doc === undefined ? [] : [prose(namespace.doc), ""]),
        ...block(namespace.exports, `${namespace.name}.`, "###")
      ])
    ]
      .join("\n")
      .trim() + "\n"
  )
}

const kinds = [
  { kind: "function", title: "Functions" },
  { kind: "class", title: "Classes" },
  { kind: "interface", title: "Interfaces" },
  { kind: "type", title: "Types" },
  { kind: "const", title: "Values" }
] as const

const linkTo = ({ declaration, name }: Export, places: ReadonlyMap<string, Place>): string => {
  const place = places.get(keyOf(declaration))
  return place === undefined ? `\`${name}\`` : `[\`${name}\`](${place.page}#${anchorOf(place.heading)})`
}

const anchorOf = (heading: string): string => heading.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "")

const section = (
  heading: string,
  declaration: Declaration,
  level: string,
  page: string,
  places: ReadonlyMap<string, Place>
): ReadonlyArray<string> => [
  `${level} ${heading}`,
  "",
  ...(declaration.doc === undefined ? [] : [prose(declaration.doc), ""]),
  "```ts signature",
  declaration.signature,
  "```",
  "",
  ...members(declaration),
  ...inherited(declaration, page, places)
]

const members = ({ members: own }: Declaration): ReadonlyArray<string> =>
  own.length === 0 ? [] : [...own.map(item), ""]

/** Inherited members: a link to each parent that is described on this page, or else its members. */
const inherited = (
  declaration: Declaration,
  page: string,
  places: ReadonlyMap<string, Place>
): ReadonlyArray<string> => {
  const linked = new Set<Declaration>()
  const written = new Set<Declaration>()
  const visit = ({ parents }: Declaration): void => {
    for (const parent of parents) {
      if (linked.has(parent) || written.has(parent)) continue
      if (places.get(keyOf(parent))?.page === page) linked.add(parent)
      else {
        written.add(parent)
        visit(parent)
      }
    }
  }
  visit(declaration)
  return [
    ...[...written].flatMap(members),
    ...(linked.size === 0
      ? []
      : [
          `See also ${[...linked].map((one) => linkTo({ name: one.name, declaration: one }, places)).join(", ")}.`,
          ""
        ])
  ]
}

const item = ({ doc, signature }: Member): string => {
  const [first = "", ...code] = prose(doc ?? "").split("\n\n```")
  return [
    `- \`${inOneLine(signature).replace(/^readonly /, "")}\`  `,
    ...indented(inOneLine(first)),
    ...code.flatMap((block) => ["", ...indented(`\`\`\`${block}`)])
  ].join("\n")
}

const indented = (text: string): ReadonlyArray<string> =>
  text.split("\n").map((line) => (line === "" ? "" : `  ${line}`))

/** Turns `{@link X}`, which is for editors, into code, and `@deprecated` into words. */
const prose = (doc: string): string =>
  doc.replaceAll(/\{@link ([^}]+)\}/g, "`$1`").replaceAll(/@deprecated\s*/g, "**Deprecated.** ")

const inOneLine = (text: string): string => text.replaceAll(/\s+/g, " ").trim()
