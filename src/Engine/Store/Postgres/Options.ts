/** What a store on Postgres takes: apart from the driver, whose types only those have who use it. */
export interface PostgresOptions {
  /**
   * Where the database is: `postgres://user:password@host:5432/database`. `sslmode` and certificates are given as its parameters:
   * `?sslmode=verify-full&sslrootcert=/etc/ssl/postgres.pem`.
   */
  readonly url: string
  /** The schema of the tables, `"ironflow"` by default. It is created when it does not exist. */
  readonly schema?: string
  /** Most connections at a time, 10 by default: one writes, the others read. At least 2. */
  readonly poolSize?: number
  /** How long a connection may take to come, milliseconds: 10 seconds by default. */
  readonly connectTimeoutMs?: number
  /** How long one statement may take, milliseconds: 30 seconds by default. */
  readonly statementTimeoutMs?: number
}
