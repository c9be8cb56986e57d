/** The text of notifications between engines on one database, and their record of known commits. */
import { assert, describe, it } from "vitest"
import { type Changes, noCounts } from "../../../src/Engine/Store/Changes.ts"
import { Commits, rangesOf } from "../../../src/Engine/Store/Postgres/Commits.ts"
import {
  readNotification,
  readRow,
  NotificationBuilder
} from "../../../src/Engine/Store/Postgres/NotificationText.ts"

const committed = (changes: Partial<Changes>): Changes => ({
  isFromOtherEngine: false,
  stale: new Set(),
  isInOrder: true,
  announced: [],
  counts: noCounts(),
  notices: [],
  ended: [],
  endings: new Map(),
  activity: [],
  runFailures: [],
  kv: [],
  bucketsChangedByOthers: [],
  deletedBuckets: [],
  warnings: [],
  projections: [],
  groups: [],
  groupsWithReturns: [],
  states: [],
  configs: [],
  access: [],
  accessLog: [],
  functions: [],
  environments: [],
  ready: false,
  mayHaveReady: false,
  logEnd: 0,
  dueAt: Number.POSITIVE_INFINITY,
  ...changes
})

const hello = { wants: { steps: true, states: false } }
const nobody = () => false

describe("a notification of commits", () => {
  it("collects several commits, and is read back unchanged", () => {
    const builder = new NotificationBuilder()
    builder.add(7, committed({ ended: ["run_1"], logEnd: 12, dueAt: 900, ready: true }), nobody)
    builder.add(
      9,
      committed({ ended: ["run_2"], groups: [4], groupsWithReturns: [5], logEnd: 11, dueAt: 800 }),
      nobody
    )

    const told = readNotification(builder.notification(3, hello))

    assert.deepInclude(told, {
      node: 3,
      ...hello,
      commits: [
        [7, 7],
        [9, 9]
      ]
    })
    assert.deepInclude(told?.changes, {
      isFromOtherEngine: true,
      ended: ["run_1", "run_2"],
      groups: [4, 5],
      logEnd: 12,
      dueAt: 800,
      ready: true
    })
    assert.strictEqual(told?.changes.stale.size, 0)
    assert.isUndefined(builder.row)
  })

  it("names what its receivers must read again: access and functions", () => {
    const builder = new NotificationBuilder()
    builder.add(
      1,
      committed({ access: [{ _tag: "KeyDeleted", id: "key_1" }], environments: ["shop"] }),
      nobody
    )

    const told = readNotification(builder.notification(1, hello))

    assert.deepStrictEqual([...(told?.changes.stale ?? [])].toSorted(), ["access", "functions"])
  })

  it("is never longer than Postgres allows: receivers read again what does not fit", () => {
    const builder = new NotificationBuilder()
    const ended = Array.from({ length: 500 }, (_, i) => `run_${String(i).padStart(30, "0")}`)
    builder.add(1, committed({ ended, projections: ["default totals"], logEnd: 3 }), nobody)

    const text = builder.notification(1, hello)

    assert.isBelow(Buffer.byteLength(text), 8000)
    const told = readNotification(text)
    assert.deepStrictEqual(told?.changes.ended, [])
    assert.deepStrictEqual([...(told?.changes.stale ?? [])], ["ends"])
    assert.deepStrictEqual(told?.changes.projections, ["default totals"])
  })

  it("contains no data: notices for turns are in a row beside it, unless their worker is connected here", () => {
    const builder = new NotificationBuilder()
    const fired = (workerId: string) => ({
      workerId,
      notice: {
        _tag: "Fired",
        jobId: `job of ${workerId}`,
        stepKey: "paid:0",
        outcome: { _tag: "Success", value: '"4242 4242"' }
      } as const
    })
    const notices = [fired("anna"), fired("ben")]
    builder.add(1, committed({ notices }), (workerId) => workerId === "anna")

    assert.notInclude(builder.notification(1, hello), "4242")
    assert.deepStrictEqual(readRow(builder.row ?? "")?.notices, [fired("ben")])
  })

  it("that is not valid is ignored", () => {
    for (const text of ["", "{", "[]", "{}", '{"node":"1"}', "null"])
      assert.isUndefined(readNotification(text))
    const odd = readNotification(
      '{"node":1,"look":["everything",7],"ends":[null,"run_1"],"commits":[[1],[2,3]]}'
    )
    assert.deepStrictEqual(odd?.changes.stale, new Set())
    assert.deepStrictEqual(odd?.changes.ended, ["run_1"])
    assert.deepStrictEqual(odd?.commits, [[2, 3]])
    assert.deepStrictEqual(readRow('{"notices":[{"workerId":"anna"}],"announced":[{}]}'), {
      notices: [],
      announced: []
    })
  })
})

describe("commits", () => {
  it("are known up to the first missing one, whatever the order of arrival", () => {
    const commits = new Commits(10)
    commits.add([12, 13], [15, 15])
    assert.strictEqual(commits.allUpTo, 10)
    assert.strictEqual(commits.highest, 15)
    commits.add([11, 11])
    assert.strictEqual(commits.allUpTo, 13)
    commits.giveUp(14)
    assert.strictEqual(commits.allUpTo, 15)
    commits.add([3, 4], [15, 16])
    assert.strictEqual(commits.allUpTo, 16)
  })

  it("are sent as spans", () => {
    assert.deepStrictEqual(rangesOf([1, 2, 3, 7, 9, 10]), [
      [1, 3],
      [7, 7],
      [9, 10]
    ])
  })
})
