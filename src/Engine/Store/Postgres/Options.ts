/**
 * The options of a store on Postgres. They are not in `Driver.ts`, because that file needs the types of the driver `pg`, which
 * exist only where the driver is installed.
 */
export interface PostgresOptions {
  /**
   * The URL of the database: `postgres://user:password@host:5432/database`. Its parameters may name `sslmode` and certificates:
   * `?sslmode=verify-full&sslrootcert=/etc/ssl/postgres.pem`.
   */
  readonly url: string
  /** The schema of the tables; `"ironflow"` by default. A schema that does not exist is created. */
  readonly schema?: string
  /**
   * Maximum number of connections for writes and reads; 10 by default, at least 2. One of them writes, and the others read. The
   * engine takes one more connection, for notifications between engines.
   */
  readonly poolSize?: number
  /** How long connecting may take, milliseconds; 10 seconds by default. */
  readonly connectTimeoutMs?: number
  /** How long one statement may take, milliseconds; 30 seconds by default. */
  readonly statementTimeoutMs?: number
}
