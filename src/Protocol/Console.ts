/** The console: its files and its session. For everything else, its pages make the same calls as any client. */
import { fields, flag, optional, struct, text } from "./Codec.ts"
import { operation, callSpec } from "./CallSpec.ts"

/** The session of a browser in the console. */
export interface ConsoleSession {
  /** Whether calls need an API key. */
  readonly keysRequired: boolean
  /** The API key of the session; absent while no key is needed. */
  readonly key?: { readonly id: string; readonly name: string; readonly environment?: string }
  /**
   * When the session expires, as an ISO string. Absent when there is no session cookie, because every call
   * contains the key or because the server has no keys.
   */
  readonly expiresAt?: string
  /** Version of the engine. */
  readonly version: string
}

const Session = fields<ConsoleSession>({
  keysRequired: flag,
  key: optional(struct({ id: text, name: text, environment: optional(text) })),
  expiresAt: optional(text),
  version: text
})

export const getSession = operation("GET /console/session", { answer: Session, onlyOurEngine: true })
export const startSession = operation("POST /console/session", { answer: Session, onlyOurEngine: true })
export const endSession = operation("DELETE /console/session", { onlyOurEngine: true, repeats: true })

/** Path of the console. */
export const CONSOLE_PATH = "/console/"

export const sessions = {
  /** Returns the session of the browser. */
  getSession: callSpec(getSession, "key"),
  /** Exchanges the key in `Authorization` for a session cookie, valid for 12 hours at most and only while the key works. */
  startSession: callSpec(startSession, "key"),
  /** Deletes the session cookie. */
  endSession: callSpec(endSession, "public")
}

export const pages = {
  /** Redirects browsers to the console. */
  root: callSpec("GET /", "public", { answer: text, type: "text/html" }),
  /** Serves the page of the console. */
  consoleRoot: callSpec("GET /console", "public", { answer: text, type: "text/html" }),
  /** Serves the files of the console, and its page at every other path. */
  console: callSpec("GET /console/:path*", "public", { answer: text, type: "text/html" })
}
