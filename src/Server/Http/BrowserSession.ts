/**
 * The session of a browser: a cookie that stands for an API key. It holds the key, sealed with what only the engine has of it, its
 * hash: whoever steals the cookie has no key, whoever reads the database can make no cookie, and nothing has to be remembered. So a
 * session outlives the process, is known to every engine on the same database, and ends with its key.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto"
import { isObject, safeJsonParse } from "../../Json.ts"
import { type AccessService, hashOf, placeOf } from "../../Engine/Access/Access.ts"

/** How long a session lasts, milliseconds. */
export const SESSION_MS = 12 * 3_600_000

/** Behind it comes the first half of the hash of the key, which tells nobody anything: engines of one host do not get in each other's way. */
const COOKIE = "ironflow_"

const CIPHER = "aes-256-gcm"
const IV_BYTES = 12
const TAG_BYTES = 16

/** What a cookie stands for. */
export interface BrowserSession {
  /** The key that was traded for it. */
  readonly key: string
  /** When it ends, epoch milliseconds. */
  readonly endsAt: number
}

/** Makes and reads cookies. */
export class BrowserSessions {
  readonly #access: AccessService

  constructor(access: AccessService) {
    this.#access = access
  }

  /** The cookie of a key that works, for so long. */
  start(key: string, endsAt: number): { readonly name: string; readonly value: string } {
    const hash = hashOf(key)
    const iv = randomBytes(IV_BYTES)
    const cipher = createCipheriv(CIPHER, sealOf(hash), iv)
    const sealed = Buffer.concat([cipher.update(JSON.stringify({ key, endsAt })), cipher.final()])
    return {
      name: COOKIE + placeOf(hash),
      value: Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString("base64url")
    }
  }

  /** The first session among the cookies that has not ended and whose key may still be one. */
  find(cookies: string | undefined): BrowserSession | undefined {
    for (const [name, value] of cookiesIn(cookies)) {
      const session = this.#open(name.slice(COOKIE.length), value)
      if (session !== undefined && session.endsAt > this.#access.now()) return session
    }
    return undefined
  }

  /** The names of all cookies that are of this engine, or of no engine any more that is known here. */
  names(cookies: string | undefined): ReadonlyArray<string> {
    return cookiesIn(cookies).map(([name]) => name)
  }

  #open(place: string, value: string): BrowserSession | undefined {
    const hash = this.#access.hashAt(place)
    if (hash === undefined) return undefined
    const bytes = Buffer.from(value, "base64url")
    if (bytes.length <= IV_BYTES + TAG_BYTES) return undefined
    try {
      const decipher = createDecipheriv(CIPHER, sealOf(hash), bytes.subarray(0, IV_BYTES))
      decipher.setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES))
      const opened = Buffer.concat([decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES)), decipher.final()])
      const session = safeJsonParse(opened.toString(), undefined)
      return isObject(session) && typeof session["key"] === "string" && typeof session["endsAt"] === "number"
        ? { key: session["key"], endsAt: session["endsAt"] }
        : undefined
    } catch {
      // sealed by somebody else, or changed on the way: it stands for nobody
      return undefined
    }
  }
}

const sealOf = (hash: string): Buffer =>
  Buffer.from(hkdfSync("sha256", Buffer.from(hash, "hex"), "", "ironflow console session", 32))

/** So many cookies of sessions are looked at. */
const MAX_COOKIES = 32

const cookiesIn = (cookies = ""): ReadonlyArray<readonly [name: string, value: string]> =>
  cookies
    .split(";")
    .map((pair) => pair.trim())
    .filter((pair) => /^ironflow_[\da-f]{32}=/.test(pair))
    .slice(0, MAX_COOKIES)
    .map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)])
