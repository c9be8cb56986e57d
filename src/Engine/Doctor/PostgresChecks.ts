/** Checks of what Postgres reports about itself and the tables. */
import { formatDuration } from "../../Duration.ts"
import type { DoctorCheck } from "../../Protocol/Server.ts"
import { formatSize } from "../../Size.ts"
import type { PostgresFacts } from "../Store/Postgres/Inspection.ts"
import { count, fail, ok, warn } from "./Checks.ts"

/** A transaction that is open for longer keeps vacuum from removing dead rows, milliseconds. */
const LONG_MS = 10 * 60_000
/** Dead rows of a table are reported from this number on, if they outnumber the live ones. */
const DEAD_ROWS = 100_000

export const checkPostgres = (facts: PostgresFacts): ReadonlyArray<DoctorCheck> => [
  ok("postgres", `Postgres ${facts.version} at ${facts.shown}, ${formatSize(facts.bytes)} in the schema.`),
  tables(facts),
  ok(
    "holder",
    facts.engines.length === 0
      ? "No engine uses the tables."
      : `${facts.engines.length === 1 ? "An engine uses" : `${facts.engines.length} engines use`} the tables (${facts.engines.join("; ")}). Ask for more: \`ironflow doctor --server-url URL\`.`
  ),
  writes(facts),
  connections(facts),
  vacuum(facts)
]

const tables = ({ known, tables: version }: PostgresFacts): DoctorCheck => {
  if (version === undefined) {
    return warn(
      "tables",
      "The schema has no tables yet.",
      "`ironflow migrate --database-url URL` makes them, and so does `ironflow serve`."
    )
  }
  if (version === known) return ok("tables", `They are at version ${version}, the one of this package.`)
  return version > known
    ? fail(
        "tables",
        `They are at version ${version}, and this package knows version ${known}.`,
        "Upgrade @ironflow/node."
      )
    : warn(
        "tables",
        `They are at version ${version}, and this package has version ${known}.`,
        "`ironflow migrate` brings them up to date."
      )
}

const writes = ({ fsync, isStandby, synchronousCommit }: PostgresFacts): DoctorCheck => {
  if (isStandby)
    return fail("writes", "The server is a standby, and takes no writes.", "Give the URL of the primary.")
  if (fsync === "off")
    return fail("writes", "`fsync` is off: a loss of power may destroy the database.", "Set `fsync = on`.")
  return synchronousCommit === "off"
    ? fail(
        "writes",
        "`synchronous_commit` is off: acknowledged data may be lost when the power fails.",
        "Set `synchronous_commit = on`, or `remote_write` and more with a standby."
      )
    : ok("writes", `What is acknowledged is on the disk (synchronous_commit is ${synchronousCommit}).`)
}

const connections = ({ connections: used, maxConnections }: PostgresFacts): DoctorCheck => {
  const message = `${used} of ${maxConnections} connections are taken.`
  const advice = "Raise `max_connections`, or give engines a smaller `poolSize`: each takes 10 by default."
  if (used >= maxConnections - 3) return fail("connections", message, advice)
  return used > 0.8 * maxConnections ? warn("connections", message, advice) : ok("connections", message)
}

const vacuum = ({ autovacuum, bloated, longestMs }: PostgresFacts): DoctorCheck => {
  if (autovacuum === "off")
    return fail("vacuum", "`autovacuum` is off: the tables only grow.", "Set `autovacuum = on`.")
  if (longestMs > LONG_MS) {
    return warn(
      "vacuum",
      `A transaction has been open for ${formatDuration(Math.floor(longestMs / 1000) * 1000)}: rows that died since then cannot be removed.`,
      "Look for it in pg_stat_activity (xact_start), and end it."
    )
  }
  const bad = bloated.filter(({ dead, live }) => dead > DEAD_ROWS && dead > live)
  return bad.length === 0
    ? ok("vacuum", "No table has more dead rows than live ones.")
    : warn(
        "vacuum",
        `${bad.map(({ dead, table }) => `${table} has ${count(dead, "dead row")}`).join(", ")}, more than live ones.`,
        "Make autovacuum run more often: see docs/production.md."
      )
}
