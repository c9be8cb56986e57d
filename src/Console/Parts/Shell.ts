/** Text for a shell. */
import { environment } from "./Router.ts"

/** The text quoted as one word of a shell. */
export const shellQuoted = (text: string): string =>
  /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`

/** A command for the displayed environment. */
export const command = (...words: ReadonlyArray<string>): string =>
  [
    "npx ironflow",
    ...words,
    ...(environment.peek() === "default" ? [] : ["--environment", shellQuoted(environment.peek())])
  ].join(" ")
