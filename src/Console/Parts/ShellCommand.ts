/** Writes commands for a shell. */
import { engineBase, environment } from "./Router.ts"

/** The text quoted as one word of a shell. */
export const quoteForShell = (text: string): string =>
  /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`

/** Matches the URL of the server that the `ironflow` command uses by default. */
const defaultServer = /^http:\/\/(localhost|127\.0\.0\.1):9123$/

/** The URL of the engine of this page. */
const server = `${location.origin}${engineBase}`.replace(/\/$/, "")

/** An `ironflow` command, with flags for the engine and the environment that this page shows. */
export const command = (...words: ReadonlyArray<string>): string =>
  [
    "npx ironflow",
    ...words,
    ...(defaultServer.test(server) ? [] : ["--server-url", quoteForShell(server)]),
    ...(environment.peek() === "default" ? [] : ["--environment", quoteForShell(environment.peek())])
  ].join(" ")
