/**
 * The environment of the run with a key, for a query over rows that know the run alone. A row whose run is gone is found in the first
 * of all environments, so that somebody comes across it.
 */
export const environmentOfKey = (key: string): string =>
  `coalesce((SELECT environment FROM runs WHERE runs.key = ${key}), (SELECT min(key) FROM environments))`
