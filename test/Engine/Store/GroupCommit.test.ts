import { afterEach, assert, beforeEach, describe, it } from "@effect/vitest"
import { DatabaseSync } from "node:sqlite"
import { GroupCommit } from "../../../src/Engine/Store/GroupCommit.ts"

describe("GroupCommit", () => {
  let db: DatabaseSync
  let log: Array<string>

  beforeEach(() => {
    db = new DatabaseSync(":memory:")
    db.exec("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    log = []
  })
  afterEach(() => db.close())

  const make = (maxPrograms = 512) =>
    new GroupCommit(db, {
      maxPrograms,
      begin: () => void log.push("begin"),
      committed: () => void log.push("committed")
    })
  const insert = (name: string) => () =>
    Number(db.prepare("INSERT INTO orders (name) VALUES (?)").run(name).lastInsertRowid)
  const submit = <A>(writer: GroupCommit, run: () => A) =>
    new Promise<A>((resolve, reject) => writer.submit(run, resolve, reject))
  const unexpected = (cause: unknown) => assert.fail(String(cause))
  const names = () =>
    db
      .prepare("SELECT name FROM orders ORDER BY id")
      .all()
      .map((row) => row.name)

  it("programs that arrive together share one commit, in their order", async () => {
    const writer = make()

    const ids = await Promise.all(["a", "b", "c"].map((name) => submit(writer, insert(name))))

    assert.deepStrictEqual(
      [ids, names(), log],
      [
        [1, 2, 3],
        ["a", "b", "c"],
        ["begin", "committed"]
      ]
    )
    assert.deepStrictEqual([writer.commits, writer.programs], [1, 3])
  })

  it("programs get the next transaction when earlier programs have filled this one", async () => {
    let done = 0
    const writer = new GroupCommit(db, {
      maxPrograms: 10,
      isFull: () => done >= 2,
      begin: () => void (log.push("begin"), (done = 0)),
      committed: () => void log.push("committed")
    })
    const doing = (name: string) => () => {
      done++
      return insert(name)()
    }

    await Promise.all(["a", "b", "c", "d", "e"].map((name) => submit(writer, doing(name))))

    assert.deepStrictEqual(names(), ["a", "b", "c", "d", "e"])
    assert.deepStrictEqual([writer.commits, writer.programs], [3, 5])
  })

  it("a program that `afterPrograms` submits is part of the same commit", async () => {
    const claimed: Array<unknown> = []
    const writer: GroupCommit = new GroupCommit(db, {
      maxPrograms: 10,
      afterPrograms: () => writer.submit(insert("claim"), (id) => claimed.push(id), unexpected),
      begin: () => void log.push("begin"),
      committed: () => void log.push("committed")
    })

    await submit(writer, insert("a"))

    assert.deepStrictEqual([names(), claimed, log], [["a", "claim"], [2], ["begin", "committed"]])
    assert.deepStrictEqual([writer.commits, writer.programs], [1, 2])
  })

  it("a program that `afterPrograms` submits can fail while the others succeed", async () => {
    const fault = new Error("out of paper")
    const failures: Array<unknown> = []
    const writer: GroupCommit = new GroupCommit(db, {
      maxPrograms: 10,
      afterPrograms: () =>
        writer.submit(
          () => {
            insert("half done")()
            throw fault
          },
          unexpected,
          (cause) => failures.push(cause)
        ),
      begin: () => void log.push("begin"),
      committed: () => void log.push("committed")
    })

    await submit(writer, insert("a"))

    assert.deepStrictEqual([names(), failures], [["a"], [fault]])
  })

  it("listeners are notified of a commit before its callers continue", async () => {
    const writer = make()
    writer.submit(
      insert("a"),
      () => void log.push("woken"),
      () => void log.push("failed")
    )
    await submit(writer, insert("b"))

    assert.deepStrictEqual(log, ["begin", "committed", "woken"])
  })

  it("nothing is visible to a caller before the commit", async () => {
    const writer = make()
    let woken = false
    const ids = submit(writer, insert("a")).then(() => (woken = true))

    await Promise.resolve()
    assert.deepStrictEqual([woken, names()], [false, []])
    await ids
    assert.deepStrictEqual(names(), ["a"])
  })

  it("only the program that throws fails, and the others of its group succeed in their order", async () => {
    const writer = make()
    const fault = new Error("out of paper")

    const results = await Promise.allSettled([
      submit(writer, insert("a")),
      submit(writer, () => {
        insert("half done")()
        throw fault
      }),
      submit(writer, insert("b")),
      submit(writer, insert("a")),
      submit(writer, insert("c"))
    ])

    assert.deepStrictEqual(
      results.map((result) => (result.status === "fulfilled" ? result.value : result.status)),
      [1, "rejected", 2, "rejected", 3]
    )
    assert.strictEqual((results[1] as PromiseRejectedResult).reason, fault)
    assert.match(String((results[3] as PromiseRejectedResult).reason), /UNIQUE/)
    assert.deepStrictEqual(names(), ["a", "b", "c"])
    assert.deepStrictEqual([writer.commits, writer.programs], [3, 3])
    assert.strictEqual(log.filter((entry) => entry === "committed").length, 3)
  })

  it("a program that fails in a group of its own is not run again", async () => {
    const writer = make()
    let runs = 0
    const [result] = await Promise.allSettled([
      submit(writer, () => {
        runs++
        throw new Error("out of paper")
      })
    ])

    assert.deepStrictEqual([result.status, runs, writer.commits], ["rejected", 1, 0])
  })

  it("the writer continues after a failure", async () => {
    const writer = make()
    await submit(writer, () => {
      throw new Error("out of paper")
    }).catch(() => {})

    assert.strictEqual(await submit(writer, insert("a")), 1)
  })

  it("a group has no more programs than its limit", async () => {
    const writer = make(2)
    await Promise.all(["a", "b", "c", "d", "e"].map((name) => submit(writer, insert(name))))

    assert.deepStrictEqual([writer.commits, names()], [3, ["a", "b", "c", "d", "e"]])
  })

  it("a program that a caller submits after its answer is in a later commit", async () => {
    const writer = make()
    await submit(writer, insert("a")).then(() => submit(writer, insert("b")))

    assert.deepStrictEqual(log, ["begin", "committed", "begin", "committed"])
  })

  it("closing commits the queued programs and those that their callers add, and refuses others", async () => {
    const writer = make()
    const closed = new Error("closed")
    const first = submit(writer, insert("a"))
    const chained: Array<number> = []
    writer.submit(
      insert("b"),
      () => writer.submit(insert("c"), (id) => chained.push(id), unexpected),
      unexpected
    )

    writer.close(closed)

    assert.deepStrictEqual([await first, chained, names()], [1, [3], ["a", "b", "c"]])
    const [refused] = await Promise.allSettled([submit(writer, insert("d"))])
    assert.deepStrictEqual(refused, { status: "rejected", reason: closed })
    assert.deepStrictEqual(names(), ["a", "b", "c"])
  })
})
