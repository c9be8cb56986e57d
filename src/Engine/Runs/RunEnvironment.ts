/**
 * SQL: the environment of the run with a key, for rows that refer only to the run. A row whose run is gone counts as part of the
 * first environment. Otherwise it would never be found.
 */
export const environmentOfKey = (key: string): string =>
  `coalesce((SELECT environment FROM runs WHERE runs.key = ${key}), (SELECT min(key) FROM environments))`
