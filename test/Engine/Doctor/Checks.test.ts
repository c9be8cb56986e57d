/** The checks that the doctor makes of its findings. */
import { assert, describe, it } from "vitest"
import type { Explanation } from "../../../src/Client/Client.ts"
import {
  checkClockSkew,
  checkBackups,
  checkDeadLetters,
  checkApiKeys,
  checkOperations,
  checkRuns,
  checkSecrets,
  checkStoredTime
} from "../../../src/Engine/Doctor/Checks.ts"
import { checkPostgres } from "../../../src/Engine/Doctor/PostgresChecks.ts"
import type { PostgresFacts } from "../../../src/Engine/Store/Postgres/Inspection.ts"

const now = Date.parse("2026-11-29T12:00:00Z")
const day = 24 * 3_600_000

const explained = (code: string, details: { readonly [name: string]: unknown } = {}): Explanation => ({
  runId: "run_1",
  status: "running",
  code,
  message: "It is so.",
  details
})

describe("bulk operations", () => {
  const operation = (id: string, agoMs: number) => ({
    id,
    action: "retry" as const,
    environment: "default",
    updatedAt: now - agoMs
  })

  it("are fine while none stands still for a minute", () => {
    assert.deepStrictEqual(
      [[], [operation("bulk_1", 59_999)]].map((operations) => checkOperations({ operations }, now, true)),
      [
        { name: "bulk operations", status: "ok", message: "None is in progress." },
        {
          name: "bulk operations",
          status: "ok",
          message: "1 bulk operation has not ended, and it makes progress."
        }
      ]
    )
  })

  it("that stand still are named, unless no engine runs", () => {
    const operations = [operation("bulk_1", 90_000), operation("bulk_2", 0)]
    const { message, status } = checkOperations({ operations }, now, true)
    assert.strictEqual(status, "warn")
    assert.strictEqual(message, "bulk_1 (retry, environment default) has made no progress for 1m 30s.")
    assert.strictEqual(
      checkOperations({ operations }, now, false).message,
      "2 bulk operations have not ended. An engine continues them when it starts."
    )
  })
})

describe("a clock", () => {
  it.each([
    [0, "ok"],
    [999, "ok"],
    [1000, "warn"],
    [59_999, "warn"],
    [60_000, "fail"]
  ])("that is %i ms behind the newest stored time is %s", (behind, status) => {
    assert.strictEqual(checkStoredTime(now, now + behind).status, status)
  })

  it("is fine when it is ahead of the stored time, however far", () => {
    assert.strictEqual(checkStoredTime(now, now - 30 * day).status, "ok")
  })

  it.each([
    [7_199_995, "2h"],
    [6_000_000, "1h 40m"],
    [59_800, "1m"],
    [1999, "2s"],
    [day - 20 * 60_000, "23h 40m"],
    [2.5 * day, "2d 12h"]
  ])("that is %i ms apart is said to be %s apart", (ms, said) => {
    assert.include(checkClockSkew(now, now - ms, "Postgres").message, `The clock is ${said} ahead of`)
    assert.include(checkStoredTime(now, now + ms).message, `The clock is ${said} behind`)
  })

  it("is compared with another clock, minus the time of the answer", () => {
    assert.deepStrictEqual(
      [checkClockSkew(now, now + 3000, "Postgres", 2500), checkClockSkew(now, now - 90_000, "Postgres")],
      [
        { name: "clock", status: "ok", message: "The clock agrees with that of Postgres." },
        {
          name: "clock",
          status: "fail",
          message: "The clock is 1m 30s ahead of that of Postgres.",
          advice: "Let the machine keep its time by NTP (`timedatectl` says whether it does)."
        }
      ]
    )
  })
})

describe("runs", () => {
  const checkOf = (hasEngine: boolean, ...all: ReadonlyArray<Explanation>) =>
    checkRuns({ unfinishedCount: all.length }, all, { hasEngine })

  it("are fine while they sleep or wait for an event", () => {
    assert.deepStrictEqual(checkOf(true, explained("SLEEPING"), explained("WAITING_FOR_EVENT")), {
      name: "runs",
      status: "ok",
      message: "2 runs have not ended. None of them is stuck."
    })
  })

  it.each([
    ["STUCK", "fail"],
    ["DAMAGED", "fail"],
    ["PAUSED", "warn"]
  ])("with the code %s are reported, with or without an engine", (code, status) => {
    for (const hasEngine of [true, false]) {
      const check = checkOf(hasEngine, explained(code))
      assert.strictEqual(check.status, status)
      assert.include(check.message, `run_1: ${code}, It is so.`)
    }
  })

  it("are reported when an engine runs and they could have continued for a minute", () => {
    const delayed = explained("NO_WORKER", { waitingMs: 60_000 })
    assert.strictEqual(checkOf(true, delayed).status, "warn")
    assert.strictEqual(checkOf(false, delayed).status, "ok")
    assert.strictEqual(checkOf(true, explained("NO_WORKER", { waitingMs: 59_999 })).status, "ok")
  })

  it("are a failure when nothing will continue them, even if none of those was examined", () => {
    assert.include(checkRuns({ unfinishedCount: 9000 }, [], { hasEngine: true, stuck: 2 }), {
      status: "fail",
      message: "5000 or more runs have not ended. 2 runs will not go on by themselves."
    })
  })
})

describe("problems that need a person", () => {
  it("are reported while they exist, and not otherwise", () => {
    const letters = (count: number) =>
      checkDeadLetters({
        deadLetters: count === 0 ? [] : [{ of: "group", environment: "default", name: "mails", count }]
      })
    const statuses = [
      [checkApiKeys(0), checkApiKeys(1)],
      [checkSecrets({ secrets: 1 }, false, "engine"), checkSecrets({ secrets: 1 }, true, "engine")],
      [checkSecrets({ secrets: 1 }, false, "shell"), checkSecrets({ secrets: 0 }, false, "shell")],
      [letters(3), letters(0)],
      [checkBackups({}, now), checkBackups({ lastBackup: { at: now - day, bytes: 4096 } }, now)],
      [checkBackups({ lastBackup: { at: now - 8 * day, bytes: 4096 } }, now)]
    ].map((checks) => checks.map(({ status }) => status))

    assert.deepStrictEqual(statuses, [
      ["warn", "ok"],
      ["fail", "ok"],
      ["warn", "ok"],
      ["warn", "ok"],
      ["warn", "ok"],
      ["warn"]
    ])
    assert.include(letters(1000).message, 'group "mails" of environment default has 1000 or more')
  })
})

describe("Postgres", () => {
  const healthy: PostgresFacts = {
    displayName: "db:5432/orders (schema ironflow)",
    version: "18.0",
    bytes: 4096,
    tablesVersion: 2,
    packageVersion: 2,
    fit: "fit",
    engines: ["one, process 7", "two, process 8"],
    isStandby: false,
    synchronousCommit: "on",
    fsync: "on",
    autovacuum: "on",
    connections: 11,
    maxConnections: 100,
    limits: [],
    rights: {
      user: "ann",
      schema: "ironflow",
      mayMakeTables: true,
      closedTables: [],
      closedSequences: []
    },
    oldestTransactionMs: 0,
    bloatedTables: [{ table: "runs", live: 1000, dead: 5000 }]
  }

  it("is fine with its default settings", () => {
    assert.deepStrictEqual(
      checkPostgres(healthy).filter(({ status }) => status !== "ok"),
      []
    )
  })

  it("may have tables to which a newer version has only added", () => {
    const tables = checkPostgres({ ...healthy, tablesVersion: 3 }).find(({ name }) => name === "tables")
    assert.strictEqual(tables?.status, "ok")
    assert.include(tables?.message, "The tables are at version 3. This package knows version 2")
  })

  it("says which engines use it", () => {
    const holderMessage = (engines: ReadonlyArray<string>) =>
      checkPostgres({ ...healthy, engines }).find(({ name }) => name === "holder")?.message
    assert.include(
      holderMessage(healthy.engines),
      "2 engines use the tables (one, process 7; two, process 8)"
    )
    assert.include(holderMessage(["one, process 7"]), "An engine uses the tables (one, process 7)")
    assert.strictEqual(holderMessage([]), "No engine uses the tables.")
  })

  it.each<[Partial<PostgresFacts>, string, string]>([
    [{ tablesVersion: 3, fit: "too new" }, "tables", "fail"],
    [{ tablesVersion: 1, fit: "too old" }, "tables", "warn"],
    [{ rights: { ...healthy.rights, closedTables: ["runs"] } }, "rights", "fail"],
    [{ rights: { ...healthy.rights, closedSequences: ["nodes_id_seq"] } }, "rights", "warn"],
    [{ limits: [{ owner: "user", name: "ann", max: 1, used: 0 }] }, "connections", "fail"],
    [{ limits: [{ owner: "database", name: "orders", max: 5, used: 0 }] }, "connections", "warn"],
    [{ limits: [{ owner: "user", name: "ann", max: 12, used: 11 }] }, "connections", "warn"],
    [{ isStandby: true }, "writes", "fail"],
    [{ fsync: "off" }, "writes", "fail"],
    [{ synchronousCommit: "off" }, "writes", "fail"],
    [{ connections: 81 }, "connections", "warn"],
    [{ connections: 97 }, "connections", "fail"],
    [{ autovacuum: "off" }, "vacuum", "fail"],
    [{ oldestTransactionMs: 3_600_000 }, "vacuum", "warn"],
    [{ bloatedTables: [{ table: "runs", live: 1000, dead: 200_000 }] }, "vacuum", "warn"]
  ])("with %o is reported by the check %s", (facts, name, status) => {
    assert.deepStrictEqual(
      checkPostgres({ ...healthy, ...facts })
        .filter((one) => one.status !== "ok")
        .map((one) => [one.name, one.status]),
      [[name, status]]
    )
  })
})
