/** Checks of what Postgres reports about itself and the tables. */
import { formatDuration } from "../../Duration.ts"
import type { DoctorCheck } from "../../Protocol/Server.ts"
import { formatSize } from "../../Size.ts"
import type { ConnectionLimit, PostgresFacts } from "../Store/Postgres/Inspection.ts"
import { count, fail, ok, warn } from "./Checks.ts"

/** A transaction that has been open for longer than this is reported, because it keeps vacuum from removing rows. */
const LONG_TRANSACTION_MS = 10 * 60_000
/** A table is reported if it has more dead rows than this, and more dead rows than live rows. */
const MANY_DEAD_ROWS = 100_000

export const checkPostgres = (facts: PostgresFacts): ReadonlyArray<DoctorCheck> => [
  ok(
    "postgres",
    `Postgres ${facts.version} at ${facts.displayName}, ${formatSize(facts.bytes)} in the schema.`
  ),
  tables(facts),
  rights(facts),
  ok(
    "holder",
    facts.engines.length === 0
      ? "No engine uses the tables."
      : `${facts.engines.length === 1 ? "An engine uses" : `${facts.engines.length} engines use`} the tables (${facts.engines.join("; ")}). \`ironflow doctor --server-url URL\` asks a running engine for more.`
  ),
  writes(facts),
  connections(facts),
  vacuum(facts)
]

/** An engine needs at least this many connections. */
const MIN_CONNECTIONS = 3
/** The number of connections that an engine takes by default. */
const DEFAULT_CONNECTIONS = 11

const tables = ({ fit, packageVersion, tablesVersion: version }: PostgresFacts): DoctorCheck => {
  if (version === undefined) {
    return warn(
      "tables",
      "The schema has no tables yet.",
      "`ironflow migrate --database-url URL` makes them, and so does `ironflow serve`."
    )
  }
  if (version === packageVersion)
    return ok("tables", `The tables are at version ${version}, the one of this package.`)
  if (fit === "fit") {
    return ok(
      "tables",
      `The tables are at version ${version}. This package knows version ${packageVersion}, and works beside the newer one.`
    )
  }
  return fit === "too new"
    ? fail(
        "tables",
        `The tables are at version ${version}. This package knows version ${packageVersion}, and cannot work with them.`,
        "Upgrade @ironflow/node."
      )
    : warn(
        "tables",
        `The tables are at version ${version}, and this package has version ${packageVersion}.`,
        "`ironflow migrate` brings them up to date."
      )
}

/** Checks the rights of the user of the database URL. An engine may connect as another user. */
const rights = ({ rights, tablesVersion: version }: PostgresFacts): DoctorCheck => {
  const { closedSequences, closedTables, mayMakeTables, schema, user } = rights
  const shown = `The user "${user}"`
  if (version === undefined) {
    return mayMakeTables
      ? ok("rights", `${shown} is allowed to create the tables.`)
      : fail(
          "rights",
          `${shown} is not allowed to create the tables: an engine with this database URL does not start.`,
          "Run `ironflow migrate` with a database URL of the owner, and grant this user the rights to the tables: see docs/production.md."
        )
  }
  const grant = (what: string) => `GRANT ALL ON ALL ${what} IN SCHEMA ${schema} TO "${user}";`
  if (closedTables.length > 0) {
    return fail(
      "rights",
      `${shown} is not allowed to read and write ${count(closedTables.length, "table")} (${closedTables.slice(0, 3).join(", ")}${closedTables.length > 3 ? ", ..." : ""}): an engine with this database URL does not work.`,
      `If an engine has this database URL, grant it the rights: ${grant("TABLES")} ${grant("SEQUENCES")}`
    )
  }
  return closedSequences.length > 0
    ? warn(
        "rights",
        `${shown} is not allowed to set ${count(closedSequences.length, "sequence")}. An engine has to set them after a standby has taken over.`,
        grant("SEQUENCES")
      )
    : ok("rights", `${shown} is allowed to read and write the tables.`)
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
        "Set `synchronous_commit = on`. With a synchronous standby, `remote_write` and `remote_apply` will do too."
      )
    : ok("writes", `What is acknowledged is on the disk (synchronous_commit is ${synchronousCommit}).`)
}

/** Whether a connection limit is too low for an engine with default settings, or more than 80 % used. */
const isTight = ({ max, used }: ConnectionLimit): boolean => max < DEFAULT_CONNECTIONS || used > 0.8 * max

const connections = ({ connections: used, limits, maxConnections }: PostgresFacts): DoctorCheck => {
  const message = [
    `${used} of ${maxConnections} connections are taken.`,
    ...limits.map(
      ({ max, name, owner, used }) =>
        `The ${owner} "${name}" has ${used} of the ${count(max, "connection")} that its CONNECTION LIMIT allows.`
    )
  ].join(" ")
  const limitsToRaise = [
    ...(used > 0.8 * maxConnections ? ["`max_connections`"] : []),
    ...limits
      .filter(isTight)
      .map(
        ({ name, owner }) =>
          `the limit (ALTER ${owner === "user" ? "ROLE" : "DATABASE"} "${name}" CONNECTION LIMIT ...)`
      )
  ]
  if (limitsToRaise.length === 0) return ok("connections", message)
  const advice = `Raise ${limitsToRaise.join(" and ")}, or give engines fewer connections (\`--database-pool-size\` of \`ironflow serve\`, \`databasePoolSize\`). Each engine takes one connection more than its pool size: ${DEFAULT_CONNECTIONS} by default, ${MIN_CONNECTIONS} at least.`
  return used >= maxConnections - 3 || limits.some(({ max, used }) => max < MIN_CONNECTIONS || used >= max)
    ? fail("connections", message, advice)
    : warn("connections", message, advice)
}

const vacuum = ({ autovacuum, bloatedTables, oldestTransactionMs }: PostgresFacts): DoctorCheck => {
  if (autovacuum === "off")
    return fail("vacuum", "`autovacuum` is off: the tables only grow.", "Set `autovacuum = on`.")
  if (oldestTransactionMs > LONG_TRANSACTION_MS) {
    return warn(
      "vacuum",
      `A transaction has been open for ${formatDuration(Math.floor(oldestTransactionMs / 1000) * 1000)}: rows that died since then cannot be removed.`,
      "Look for the transaction in pg_stat_activity (xact_start), and end it."
    )
  }
  const reported = bloatedTables.filter(({ dead, live }) => dead > MANY_DEAD_ROWS && dead > live)
  return reported.length === 0
    ? ok(
        "vacuum",
        `No table has more than ${MANY_DEAD_ROWS.toLocaleString("en")} dead rows and fewer live ones.`
      )
    : warn(
        "vacuum",
        `${reported.map(({ dead, table }) => `${table} has ${count(dead, "dead row")}`).join(", ")}, more than live ones.`,
        "Make autovacuum run more often: see docs/production.md."
      )
}
