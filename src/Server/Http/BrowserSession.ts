/**
 * The session of a browser: a cookie that stands for an API key. The cookie holds the key, encrypted with the key's
 * hash, which only the engine has. So a thief of the cookie does not get the key, and a reader of the database cannot
 * make a cookie. The server stores nothing: a session outlives the process, is valid at every engine on the same
 * database, and ends with its key.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto"
import { isObject, safeJsonParse } from "../../Json.ts"
import { type AccessService, hashOf, placeOf } from "../../Engine/Access/Access.ts"

/** How long a session lasts, in milliseconds. */
export const SESSION_MS = 12 * 3_600_000

/**
 * Prefix of the name of a session cookie. The first half of the key's hash follows, which reveals nothing. So engines
 * on the same host do not overwrite each other's cookies.
 */
const COOKIE = "ironflow_"

const CIPHER = "aes-256-gcm"
const IV_BYTES = 12
const TAG_BYTES = 16

/** The content of a cookie. */
export interface BrowserSession {
  /** The API key of the session. */
  readonly key: string
  /** When the session ends, in epoch milliseconds. */
  readonly endsAt: number
}

/** Makes and reads session cookies. */
export class BrowserSessions {
  readonly #access: AccessService

  constructor(access: AccessService) {
    this.#access = access
  }

  /** Makes a cookie for a valid key. The session expires at `endsAt`, in epoch milliseconds. */
  start(key: string, endsAt: number): { readonly name: string; readonly value: string } {
    const hash = hashOf(key)
    const iv = randomBytes(IV_BYTES)
    const cipher = createCipheriv(CIPHER, cipherKeyOf(hash), iv)
    const encrypted = Buffer.concat([cipher.update(JSON.stringify({ key, endsAt })), cipher.final()])
    return {
      name: COOKIE + placeOf(hash),
      value: Buffer.concat([iv, cipher.getAuthTag(), encrypted]).toString("base64url")
    }
  }

  /** The first session among the cookies that has not ended, and whose key this engine knows. */
  find(cookies: string | undefined): BrowserSession | undefined {
    for (const [name, value] of cookiesIn(cookies)) {
      const session = this.#open(name.slice(COOKIE.length), value)
      if (session !== undefined && session.endsAt > this.#access.now()) return session
    }
    return undefined
  }

  /**
   * The names of the session cookies of this engine: those whose API keys this engine knows. Browsers send the
   * cookies of all ports of a host, so there may also be cookies of other engines.
   */
  names(cookies: string | undefined): ReadonlyArray<string> {
    return cookiesIn(cookies)
      .map(([name]) => name)
      .filter((name) => this.#access.hashAt(name.slice(COOKIE.length)) !== undefined)
  }

  #open(place: string, value: string): BrowserSession | undefined {
    const hash = this.#access.hashAt(place)
    if (hash === undefined) return undefined
    const bytes = Buffer.from(value, "base64url")
    if (bytes.length <= IV_BYTES + TAG_BYTES) return undefined
    try {
      const decipher = createDecipheriv(CIPHER, cipherKeyOf(hash), bytes.subarray(0, IV_BYTES))
      decipher.setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES))
      const decrypted = Buffer.concat([
        decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES)),
        decipher.final()
      ])
      const session = safeJsonParse(decrypted.toString(), undefined)
      return isObject(session) && typeof session["key"] === "string" && typeof session["endsAt"] === "number"
        ? { key: session["key"], endsAt: session["endsAt"] }
        : undefined
    } catch {
      // the cookie was encrypted by another engine, or was changed
      return undefined
    }
  }
}

const cipherKeyOf = (hash: string): Buffer =>
  Buffer.from(hkdfSync("sha256", Buffer.from(hash, "hex"), "", "ironflow console session", 32))

/** Maximum number of session cookies of a request that are read. */
const MAX_COOKIES = 32

const cookiesIn = (cookies = ""): ReadonlyArray<readonly [name: string, value: string]> =>
  cookies
    .split(";")
    .map((pair) => pair.trim())
    .filter((pair) => /^ironflow_[\da-f]{32}=/.test(pair))
    .slice(0, MAX_COOKIES)
    .map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)])
