/** Writes commands for a shell. */
import { engineBase, environment } from "./Router.ts"

/** The text quoted as one word of a shell. */
export const shellQuoted = (text: string): string =>
  /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`

/** Matches the server that the command uses by default. */
const isUsual = /^http:\/\/(localhost|127\.0\.0\.1):9123$/

/** The URL of the engine of this page. */
const server = `${location.origin}${engineBase}`.replace(/\/$/, "")

/** A command, with flags for the engine and the environment that are shown. */
export const command = (...words: ReadonlyArray<string>): string =>
  [
    "npx ironflow",
    ...words,
    ...(isUsual.test(server) ? [] : ["--server-url", shellQuoted(server)]),
    ...(environment.peek() === "default" ? [] : ["--environment", shellQuoted(environment.peek())])
  ].join(" ")
