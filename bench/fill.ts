/**
 * Fills a Postgres database with 1,000,000 completed runs of one step, and 100,000 runs that wait for an event and time out in
 * a month. No engine may use the database meanwhile. Does not run ANALYZE: the engine must not need it, since Postgres analyzes a
 * database that grows fast too late.
 */

const ENDED = 1_000_000
const WAITING = 100_000

export const fill = async (ask: (text: string) => Promise<unknown>): Promise<void> => {
  const all = ENDED + WAITING
  const now = Date.now()
  const fn = "(SELECT key FROM functions WHERE id = 's1')"
  const environment = "(SELECT min(key) FROM environments)"
  const id = (prefix: string): string => `'${prefix}_' || lpad(to_hex(i), 25, '0')`
  const numbers = (from: number, to: number): string => `generate_series(${from}, ${to}) AS i`
  for (const part of [
    `SET synchronous_commit = off`,
    `INSERT INTO events (position, environment, kind, id, name, version, data, timestamp)
       SELECT i, ${environment}, 0, ${id("evt")}, 'bench.s1', 1, '{"i":' || i || ',"note":"${"x".repeat(120)}"}', ${now}
       FROM ${numbers(1, all)}`,
    `INSERT INTO runs (key, id, environment, function, status, event, output, created_at, updated_at, started_at, ended_at)
       SELECT i, ${id("run")}, ${environment}, ${fn}, 5, i, '{"ok":true}', ${now}, ${now}, ${now}, ${now} FROM ${numbers(1, ENDED)}`,
    `INSERT INTO steps (run, step_key, seq, name, kind, failed, value, attempt, started_at, ended_at)
       SELECT i, 'step-0:0', i, 'step-0', 'run', 0, '{"ok":true}', 1, ${now}, ${now} FROM ${numbers(1, ENDED)}`,
    `INSERT INTO runs (key, id, environment, function, status, event, created_at, updated_at, started_at)
       SELECT i, ${id("run")}, ${environment}, ${fn}, 2, i, ${now}, ${now}, ${now} FROM ${numbers(ENDED + 1, all)}`,
    `INSERT INTO waits (run, step_key, kind, name, step_kind, due_at, environment, event, match_path, match_value, timeout_ms, created_at)
       SELECT i, 'answer:0', 2, 'answer', 'waitForEvent', ${now} + 2592000000, ${environment}, 'bench.answer', 'data.id',
         '"' || i || '"', 2592000000, ${now} FROM ${numbers(ENDED + 1, all)}`,
    `UPDATE engine SET events = ${all}, runs = ${all}, seq = ${all}, sequence = sequence + 1`
  ])
    await ask(part)
}
