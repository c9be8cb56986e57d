/** The console: the files that a browser gets, and its session. All else that its pages ask for are the calls of any client. */
import { fields, flag, optional, struct, text } from "./Codec.ts"
import { operation, row } from "./Row.ts"

/** Whoever the browser is taken for. */
export interface ConsoleSession {
  /** Whether calls need a key. */
  readonly keysRequired: boolean
  /** The key that was traded for the session; absent as long as none is needed. */
  readonly key?: { readonly id: string; readonly name: string; readonly environment?: string }
  /** ISO string: when the session ends by itself. Absent for a key that comes with every call, and without keys. */
  readonly expiresAt?: string
  /** Of the engine. */
  readonly version: string
}

const Session = fields<ConsoleSession>({
  keysRequired: flag,
  key: optional(struct({ id: text, name: text, environment: optional(text) })),
  expiresAt: optional(text),
  version: text
})

export const getSession = operation("GET /console/session", { answer: Session, ours: true })
export const startSession = operation("POST /console/session", { answer: Session, ours: true })
export const endSession = operation("DELETE /console/session", { ours: true, repeats: true })

/** Where people are sent. */
export const CONSOLE_PATH = "/console/"

export const sessions = {
  /** Who a browser is taken for. */
  getSession: row(getSession, "key"),
  /** Trades the key in `Authorization` for a cookie, which stands for it in this browser for 12 hours, and no longer than the key works. */
  startSession: row(startSession, "key"),
  /** Takes the cookie back. */
  endSession: row(endSession, "public")
}

export const pages = {
  /** Sends browsers to the console. */
  root: row("GET /", "public", { answer: text, type: "text/html" }),
  /** The same. */
  consoleRoot: row("GET /console", "public", { answer: text, type: "text/html" }),
  /** The console: its files, and its page under every other path. */
  console: row("GET /console/:path*", "public", { answer: text, type: "text/html" })
}
