/**
 * SQL: the environment of a run, for rows that have only the key of the run. `key` is the SQL expression of this key. A row whose
 * run is gone counts as part of the first environment: otherwise no query by environment would ever find the row.
 */
export const environmentOfKey = (key: string): string =>
  `coalesce((SELECT environment FROM runs WHERE runs.key = ${key}), (SELECT min(key) FROM environments))`
