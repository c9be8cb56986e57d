/**
 * How much a test tries that could go on without end: seeds of a random walk, rounds of a storm, the size of a flood.
 * `npm test` tries enough to check every law; `npm run test:long` (`IRONFLOW_TEST_LONG=1`) searches for rare problems.
 */
import process from "node:process"

export const isLong = process.env.IRONFLOW_TEST_LONG === "1"

/** The value for the form that runs. */
export const either = <T>(short: T, long: T): T => (isLong ? long : short)

/** The seeds: how many there are, from the first one on. `IRONFLOW_TEST_SEED` and `IRONFLOW_TEST_ROUNDS` change them. */
export const seeds = (short: number, long: number): ReadonlyArray<number> => {
  const first = Number(process.env.IRONFLOW_TEST_SEED ?? 1)
  const rounds = Number(process.env.IRONFLOW_TEST_ROUNDS ?? either(short, long))
  return Array.from({ length: rounds }, (_, i) => first + i)
}
