/**
 * How much is tried of what could be tried without end: seeds of a random walk, rounds of a storm, the size of a flood. `npm test` tries
 * as much as shows that a law holds at all; `npm run test:long` (`IRONFLOW_TEST_LONG=1`) looks for what is rare.
 */
import process from "node:process"

export const isLong = process.env.IRONFLOW_TEST_LONG === "1"

/** What is tried in the form that runs. */
export const either = <T>(short: T, long: T): T => (isLong ? long : short)

/** The first seed, and how many of them: `IRONFLOW_TEST_SEED` and `IRONFLOW_TEST_ROUNDS` ask for others. */
export const seeds = (short: number, long: number): ReadonlyArray<number> => {
  const first = Number(process.env.IRONFLOW_TEST_SEED ?? 1)
  const rounds = Number(process.env.IRONFLOW_TEST_ROUNDS ?? either(short, long))
  return Array.from({ length: rounds }, (_, i) => first + i)
}
