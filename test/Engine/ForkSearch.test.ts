/** A search that starts at the events of runs finds a fork, whose event is as old as that of its original. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { createFunction } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { afterAll, assert, it } from "vitest"

const folder = mkdtempSync(join(tmpdir(), "ironflow-"))
afterAll(() => rmSync(folder, { recursive: true }))

const ship = createFunction({ id: "ship", triggers: [{ event: "order.placed" }] }, async () => "shipped")

/** More runs than the search looks at to find the oldest event of runs before a time. */
const BEFORE = 10_500
/** More runs than have the event, so that the search begins at the event. */
const AFTER = 2_000
const HOUR_MS = 3_600_000

it("a search by event finds all runs up to a time, although a fork of one of them is newer", async () => {
  const filename = join(folder, "upTo.db")
  const first = await startEngine({ filename, functions: [ship], logger: false })
  const runIds: Array<string> = []
  for (const id of ["o-1", "o-2", "o-3"]) {
    runIds.push(...(await first.client.emit("order.placed", { id })).runIds)
  }
  for (const runId of runIds) await first.client.waitForRun(runId)
  await first.client.emit("order.seen", {})
  await first.close()
  const db = new DatabaseSync(filename)
  db.exec(`UPDATE runs SET created_at = created_at - ${9 * HOUR_MS};
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
    INSERT INTO runs (id, environment, function, status, event, created_at, updated_at, ended_at)
    SELECT 'run_' || i, r.environment, r.function, r.status, (SELECT max(position) FROM events),
      r.created_at + ${HOUR_MS}, r.updated_at, r.ended_at FROM n, runs r WHERE r.id = '${runIds[0]}'`)
  db.close()

  await using engine = await startEngine({ filename, functions: [ship], logger: false })
  await engine.client.forkRun(runIds[0]!)
  const createdTo = Date.now() - 2 * HOUR_MS
  const { runs } = await engine.client.listRuns({ eventName: "order.placed", createdTo })

  assert.deepStrictEqual(
    runs.map(({ id }) => id),
    runIds.toReversed()
  )
})

it("a search by event finds the fork of an old run among the runs since a later time", async () => {
  const filename = join(folder, "since.db")
  const first = await startEngine({ filename, functions: [ship], logger: false })
  const { runIds } = await first.client.emit("order.placed", { id: "o-1" })
  await first.client.waitForRun(runIds[0]!)
  await first.client.emit("order.seen", {})
  await first.close()
  const db = new DatabaseSync(filename)
  db.exec(`UPDATE runs SET created_at = created_at - ${9 * HOUR_MS};
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${BEFORE + AFTER})
    INSERT INTO runs (id, environment, function, status, event, created_at, updated_at, ended_at)
    SELECT 'run_' || i, r.environment, r.function, r.status, (SELECT max(position) FROM events),
      CASE WHEN i <= ${BEFORE} THEN r.created_at + ${HOUR_MS} ELSE r.updated_at END, r.updated_at, r.ended_at FROM n, runs r WHERE r.id = '${runIds[0]}'`)
  db.close()

  await using engine = await startEngine({ filename, functions: [ship], logger: false })
  const createdFrom = Date.now() - HOUR_MS
  const fork = await engine.client.forkRun(runIds[0]!)
  const { runs } = await engine.client.listRuns({ eventName: "order.placed", createdFrom })

  assert.deepStrictEqual(
    runs.map(({ id }) => id),
    [fork.id]
  )
}, 60_000)
