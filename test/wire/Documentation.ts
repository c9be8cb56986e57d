/** The documents that are made from the contract: the OpenAPI document, and the table of calls in the docs. */
import { readFileSync } from "node:fs"
import { openApiDocument } from "../../src/Protocol/OpenApi.ts"
import {
  type Access,
  accessTo,
  failuresOf,
  isRepeatable,
  type CallSpec,
  statusOf
} from "../../src/Protocol/CallSpec.ts"
import { callsByNoun, otherCalls, upgradesByNoun } from "../../src/Protocol/AllCalls.ts"

/** All nouns, also those without calls. */
const nouns = [...new Set([...Object.keys(callsByNoun), ...Object.keys(otherCalls)])]

/** The comment above each spec, by its name. */
const summaries = (): Readonly<Record<string, string>> =>
  Object.fromEntries(
    nouns.flatMap((noun) => {
      const source = readFileSync(new URL(`../../src/Protocol/${noun}.ts`, import.meta.url), "utf8")
      return [...source.matchAll(/\/\*\* (.*) \*\/\n *(?:export const )?(\w+)(?: =|:) callSpec\(/g)].map(
        ([, text = "", name = ""]) => [name, text]
      )
    })
  )

export const openApi = (): unknown => JSON.parse(JSON.stringify(openApiDocument(summaries())))

/** In the order of the source, since the members of a module are in alphabetical order. */
const inOrder = <A>(specs: ReadonlyArray<[string, A]>, texts: object): ReadonlyArray<[string, A]> => {
  const names = Object.keys(texts)
  return specs.toSorted(([one], [other]) => names.indexOf(one) - names.indexOf(other))
}

const needs = (access: Access): string => {
  if (access === "public") return "nothing"
  if (access === "key") return "what its calls need"
  const { action, resource } = access
  switch (resource.from) {
    case "all":
      return `\`${action}\` on \`${resource.kind}:*\``
    case "each":
      return `\`${action}\`; shows what is not denied`
    case "path":
      return `\`${action}\` on \`${resource.kind}:<${resource.variable}>\``
    case "body":
      return `\`${action}\` on \`${resource.kind}:<${resource.members[0]}>\``
  }
}

/** `ConsumerGroups` as people read it. */
const headingOf = (noun: string): string =>
  noun.replaceAll(/(?<=[a-z])[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)

/** `docs/calls.md`. */
export const callsPage = (): string => {
  const texts = summaries()
  const line = (name: string, spec: CallSpec, kind: string, statuses: ReadonlyArray<number>): string =>
    `| \`${spec.method} ${spec.path}\`${kind} | ${texts[name] ?? ""} | ${needs(accessTo(spec))} | ` +
    `${statuses.join(", ")} | ${isRepeatable(spec) ? "yes" : "no"} |`
  const tables = nouns.map((noun) =>
    [
      `## ${headingOf(noun)}`,
      "",
      "| Call | What it does | What its key needs | Statuses | Again |",
      "| --- | --- | --- | --- | --- |",
      ...inOrder(specsIn(callsByNoun, noun), texts).map(([name, spec]) =>
        line(name, spec, "", [statusOf(spec), ...failuresOf(spec)])
      ),
      ...specsIn(upgradesByNoun, noun).map(([name, spec]) =>
        line(name, spec, ", a WebSocket", [101, ...failuresOf(spec)])
      ),
      ...specsIn(otherCalls, noun).map(([name, spec]) =>
        line(name, spec, "", [statusOf(spec), ...failuresOf(spec)])
      ),
      ""
    ].join("\n")
  )
  const contents = nouns.map((noun) => {
    const heading = headingOf(noun)
    return `[${heading.toLowerCase()}](#${heading.toLowerCase().replaceAll(" ", "-")})`
  })
  return `<!-- made of the specs in src/Protocol: npm run openapi -->

# HTTP calls

Every call that the port answers, for programs without a client of this package.

Contents: [try it](#try-it) · [what the tables say](#what-the-tables-say) · ${contents.join(" · ")}

## Try it

\`\`\`sh
npx ironflow serve &
curl -s http://localhost:9123/api/v1/capabilities
curl -s http://localhost:9123/ironflow.v1.IronflowService/Emit \\
  -H 'Content-Type: application/json' -d '{"event":"order.placed","data":{"orderId":"o-1"}}'
curl -s http://localhost:9123/openapi.json
\`\`\`

## What the tables say

\`/openapi.json\` has the same in full, with the bodies of requests and answers.

- **What its key needs** is an [action on a resource](auth.md#actions), once there are API keys.
- **Statuses** are those of this call. Any call may also be answered with 400 for invalid input, 401 and 403 for a key that may not make
  it, and 503 when the server is busy or stopping. [Errors](errors.md) lists the codes.
- **Again** says whether making the call twice does no harm.

A call that only reads may have the header \`Cache-Control: max-age=1\`. It may then be answered with what was read for an equal call of
the same key less than a second ago, and the header \`Age\` of the answer says so.

${tables.join("\n")}`
}

const specsIn = (
  nouns: { readonly [noun: string]: { readonly [name: string]: CallSpec } },
  noun: string
): ReadonlyArray<[string, CallSpec]> => Object.entries(nouns[noun] ?? {})
