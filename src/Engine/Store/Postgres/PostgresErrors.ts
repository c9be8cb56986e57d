/** Translates errors of Postgres, the network and the driver into `StoreError`s, which say what happened and what to do. */
import { StoreError } from "../../../Errors.ts"
import type { Damage } from "../Damage.ts"
import type { Call } from "../Program.ts"
import { NOT_JSON } from "../StoredJson.ts"

const codeOf = (cause: unknown): string =>
  typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : ""

/** Error codes of Node.js for connections. */
const SYSTEM_CODE = /^E[A-Z_]+$/

/**
 * Whether the connection was lost, is being ended by the server, or cannot serve the request: the same request may succeed on
 * another connection.
 */
export const isConnectionLost = (cause: unknown): boolean => {
  if (cause instanceof StoreError) return cause.cause !== undefined && isConnectionLost(cause.cause)
  if (isStalePlan(cause)) return true
  const code = codeOf(cause)
  if (code.startsWith("08") || code.startsWith("57P") || code === "25P03") return code !== "08P01"
  // a standby: another connection may lead to the current primary
  if (code === "25006") return true
  if (SYSTEM_CODE.test(code)) return true
  return cause instanceof Error && /Connection terminated|not queryable|connection error/i.test(cause.message)
}

/** Whether the session has made a plan of the statement before the tables were changed. Another session will make a new plan. */
export const isStalePlan = (cause: unknown): boolean =>
  codeOf(cause) === "0A000" && /cached plan/i.test(messageOf(cause))

/** Whether stored data cannot be read: a page or an index is damaged, or a string is not JSON. */
export const isDamage = (cause: unknown): boolean =>
  cause instanceof StoreError
    ? cause.code === "STORE_CORRUPT"
    : codeOf(cause) === "XX001" || codeOf(cause) === "XX002"

/** Whether the user of the database URL lacks a right. */
export const isDenied = (cause: unknown): boolean => codeOf(cause) === "42501"

/** Whether two transactions were in conflict: a retry may succeed. */
export const isConflict = (cause: unknown): boolean => ["40001", "40P01"].includes(codeOf(cause))

/**
 * Whether a statement that was assumed to change exactly one row did not: see `assumingOne` in `Dialect.ts`, which divides by the
 * number of changed rows.
 */
export const isAssumptionError = (cause: unknown): boolean => codeOf(cause) === "22012"

interface Advice {
  readonly code: "STORE_UNAVAILABLE" | "STORE_LOCKED"
  readonly retryable: boolean
  readonly advice: string
}

const unavailable = (advice: string, retryable = true): Advice => ({
  code: "STORE_UNAVAILABLE",
  retryable,
  advice
})

/** The advice for a connection that an engine has lost. */
const LOST_ADVICE = unavailable("The connection to Postgres was lost; the engine connects again by itself")
/** The advice when nothing connects again by itself: for a command, and for the last message of an engine that stops. */
export const LOST_FOR_GOOD_ADVICE = unavailable("The connection to Postgres was lost")
/** The advice for a connection that was never established. */
const NEVER_CONNECTED_ADVICE = unavailable(
  "The connection to Postgres ended before it could be used: check that the host and port in the database URL are those of Postgres, and look at the log of Postgres"
)

const adviceFor = (code: string, message: string): Advice | undefined => {
  switch (code) {
    case "28P01":
    case "28000":
      return unavailable("Check the user and the password in the database URL", false)
    case "3D000":
      return unavailable("Create the database first: the engine makes tables, and no databases", false)
    case "42501":
      if (/for (table|sequence|view) /.test(message)) {
        return unavailable(
          "The user of the database URL must own the tables, or be allowed to use them: GRANT ALL ON ALL TABLES IN SCHEMA ... TO ...; GRANT ALL ON ALL SEQUENCES IN SCHEMA ... TO ...",
          false
        )
      }
      if (message.includes("must be owner of")) {
        return unavailable(
          "Only the owner of the tables may change them: run `ironflow migrate` with a database URL of the owner",
          false
        )
      }
      if (message.includes("for schema ")) {
        return unavailable(
          "The schema exists, and the user of the database URL lacks rights in it. To use its tables: GRANT USAGE ON SCHEMA ... TO .... To create tables: GRANT CREATE ON SCHEMA ... TO ..., or run `ironflow migrate` with a database URL of the owner of the schema",
          false
        )
      }
      // the message has these quotes when the right CONNECT is missing; without them, CREATE is missing
      if (message.includes('for database "')) {
        return unavailable(
          "The user of the database URL is not allowed to connect to this database: GRANT CONNECT ON DATABASE ... TO ...",
          false
        )
      }
      return unavailable(
        "The schema does not exist, and the user of the database URL must be allowed to create it: GRANT CREATE ON DATABASE ... TO .... Or run `ironflow migrate` with a database URL of the owner of the database",
        false
      )
    case "40001":
      return message.includes("conflict with recovery")
        ? unavailable(
            "The read took longer than the standby may hold back changes of the primary: set hot_standby_feedback = on at the standby, or a longer max_standby_streaming_delay"
          )
        : undefined
    case "57014":
      return unavailable(
        "The statement was cancelled after the statement timeout. Another session may hold locks on the tables: look at pg_stat_activity"
      )
    case "55P03":
      return unavailable("Another session holds a lock on the tables for too long: look at pg_stat_activity")
    case "53300":
      return unavailable(
        `Postgres has no connection left: give the engine fewer connections (\`databasePoolSize\`, or \`--database-pool-size\` of \`ironflow serve\`), or ${
          /for (role|database) /.test(message)
            ? "raise the limit (ALTER ROLE or ALTER DATABASE ... CONNECTION LIMIT ...)"
            : "give Postgres a larger max_connections"
        }`
      )
    case "53100":
      return unavailable("The disk of Postgres is full: make room")
    case "25006":
      return unavailable("The server takes no writes: it is a standby, or the database is read-only")
    case "08P01":
      return /startup parameter/.test(message)
        ? unavailable(
            "A pooler between the engine and Postgres refuses the settings of the session, as PgBouncer does in every mode. The engine needs a session of its own, with its settings, locks and prepared statements: give it the URL of Postgres itself, or of a pool in session mode that passes `options` on",
            false
          )
        : undefined
    case "22021":
    case "22P05":
      return undefined
    case "ENOENT":
    case "EACCES":
      // the error is about a local socket, or about a file that the URL names
      return message.includes("connect ")
        ? unavailable("Check the host in the database URL, and that Postgres is running")
        : unavailable(
            "Check the files that `sslrootcert`, `sslcert` and `sslkey` in the database URL name",
            false
          )
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return unavailable("Check the host in the database URL")
    case "ECONNREFUSED":
      return unavailable("Check the host and port in the database URL, and that Postgres is running")
    default:
      if (code.startsWith("53")) return unavailable("Postgres lacks a resource: look at its log")
      if (code.startsWith("57P") || code.startsWith("08") || code === "25P03" || SYSTEM_CODE.test(code)) {
        return LOST_ADVICE
      }
      if (/Query read timeout/i.test(message)) {
        return unavailable(
          "Postgres has accepted the connection, but has not answered in time: the server, or the network in between, may have failed since"
        )
      }
      if (/timeout exceeded when trying to connect|timeout expired/i.test(message)) {
        return unavailable(
          "There was no connection in time: Postgres cannot be reached, or all connections of the pool are in use (`databasePoolSize`, or `--database-pool-size` of `ironflow serve`)"
        )
      }
      if (/does not support SSL|SSL|certificate/i.test(message)) {
        return unavailable("Check `sslmode` and the certificates in the database URL", false)
      }
      if (/client password must be/i.test(message)) {
        return unavailable(
          "Postgres asks for a password, and the database URL has none: postgres://user:password@host:5432/database",
          false
        )
      }
      return /Connection terminated/i.test(message) ? LOST_ADVICE : undefined
  }
}

/** Whether Postgres is out of reach, refuses this user, or cannot serve requests at the moment. */
export const isUnavailable = (cause: unknown): boolean =>
  cause instanceof StoreError
    ? cause.code === "STORE_UNAVAILABLE" || cause.code === "STORE_LOCKED"
    : adviceFor(codeOf(cause), messageOf(cause)) !== undefined

const messageOf = (cause: unknown): string => {
  // Node.js throws such an error when it has tried several addresses in vain
  if (cause instanceof AggregateError && cause.message === "") return cause.errors.map(messageOf).join("; ")
  const message = cause instanceof Error ? cause.message : String(cause)
  // the driver's message for a connection that had ended before the request
  return /not queryable/i.test(message) ? "Connection terminated" : message
}

/** The error for a database that cannot be used. `lost` is the advice when the connection was lost. */
export const openError = (shown: string, cause: unknown, lost = NEVER_CONNECTED_ADVICE): StoreError =>
  storeError(`Cannot use Postgres at ${shown}`, cause, lost)

/** The error for an engine that cannot tell Postgres that it stops. */
export const closeError = (cause: unknown): StoreError =>
  storeError("Postgres could not be told that this engine stops", cause, LOST_FOR_GOOD_ADVICE)

/**
 * The `StoreError` for a failure, with advice; `what` begins its message, and `lost` is the advice for a lost connection. A cause
 * that is a `StoreError` already is returned as it is, unless it says that stored JSON cannot be parsed: then `what` is added to the
 * message, to say where.
 */
export const storeError = (what: string, cause: unknown, lost = LOST_ADVICE): StoreError => {
  const reason = messageOf(cause)
  if (cause instanceof StoreError) {
    return cause.code === "STORE_CORRUPT" && reason.startsWith(NOT_JSON)
      ? new StoreError(`${what}: ${reason}`, { code: cause.code, cause })
      : cause
  }
  const known = adviceFor(codeOf(cause), reason)
  if (known !== undefined) {
    const { advice, code, retryable } = known === LOST_ADVICE ? lost : known
    return new StoreError(`${what}: ${reason}. ${advice}`, { code, retryable, cause })
  }
  if (isDamage(cause)) {
    return new StoreError(
      `${what}: ${reason}. What Postgres has stored is damaged: look at the log and the disk of Postgres, and restore the database from a backup`,
      { code: "STORE_CORRUPT", cause }
    )
  }
  if (["22021", "22P05"].includes(codeOf(cause))) {
    return new StoreError(`${what}: a text has a NUL character, which Postgres does not store`, { cause })
  }
  return new StoreError(`${what}: ${reason}`, { cause })
}

/** The error for a call that failed. If it failed because stored data is damaged, notes this in `damage`. */
export const callError = (
  call: Pick<Call<unknown>, "what">,
  cause: unknown,
  damage: Pick<Damage, "wasFound">
): StoreError => {
  if (isDamage(cause)) damage.wasFound = true
  return storeError(`Cannot ${call.what()}`, cause)
}
