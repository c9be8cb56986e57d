/**
 * What design and CONTRIBUTING say of the house, held against `src`. Every list of exceptions shrinks: one that is not needed any
 * more fails. Unused files, exports and dependencies are looked for by `npm run lint`.
 */
import { basename } from "node:path"
import { describe, expect, it } from "vitest"
import { endpoints, sockets } from "../src/Protocol/Rows.ts"
import { descriptions } from "../src/Protocol/Server.ts"
import { streams } from "../src/Protocol/Workers.ts"
import { circles, type Module, readHouse } from "./House.ts"

/** From the roof to the ground: a module may import what stands in its own room, or in one below. */
const rooms: ReadonlyArray<readonly [room: string, modules: RegExp]> = [
  ["entry points", /^(index|core|effect|engine|protocol|serve|test|worker|worker-streaming|bin)\.ts$/],
  ["the command", /^Cli\//],
  ["the console, in browsers", /^Console\//],
  ["the test kit", /^Testing\//],
  ["the Promise API", /^Promise\//],
  ["the server", /^Server\//],
  ["the engine", /^Engine\/(?!Yielding|Pages|InputBudget|LoopTurn|Signals|Sweep)[^/]+$/],
  // its nouns: who hands out work, over what work does, over what is stored
  ["hooks", /^Engine\/Hooks\//],
  ["what the doctor looks at", /^Engine\/Doctor\//],
  ["push", /^Engine\/Push\//],
  ["workers' sessions", /^Engine\/Workers\//],
  ["what is audited", /^Engine\/Audit\//],
  ["what is due", /^Engine\/Schedules\//],
  ["turns: given, kept, lost, reported", /^Engine\/Turns\//],
  ["bulk operations", /^Engine\/Bulk\//],
  ["access", /^Engine\/Access\//],
  ["projections of the engine", /^Engine\/Projections\//],
  ["topics and groups", /^Engine\/PubSub\//],
  ["entity streams", /^Engine\/Streams\//],
  ["config", /^Engine\/Config\//],
  ["keys", /^Engine\/Kv\//],
  ["secrets", /^Engine\/Secrets\//],
  ["events: they start runs and satisfy waits", /^Engine\/Events\//],
  ["runs", /^Engine\/Runs\//],
  ["the log", /^Engine\/Log\//],
  ["functions", /^Engine\/Functions\//],
  ["what is announced", /^Engine\/SystemEvents\//],
  ["the store", /^Engine\/Store\//],
  ["what the rooms of the engine share", /^Engine\/(Yielding|Pages|InputBudget|LoopTurn|Signals|Sweep)\.ts$/],
  ["push handlers", /^Serve\//],
  ["workers", /^Worker\//],
  ["the client", /^Client\//],
  ["projections", /^Projection\//],
  ["one turn", /^Execution\//],
  ["the contract", /^Protocol\//],
  [
    "what users define",
    /^(Function|FunctionChecks|OnFailure|Trigger|Webhook|Upcaster|EventData|CodeHash)\.ts$/
  ],
  ["steps", /^Step\.ts$/],
  ["vocabulary", /^(Errors\/)?[^/]+\.ts$/]
]

/** Imports that point up, and what ends them. */
const upward: ReadonlyArray<string> = [
  // plain types of what a commit tells, to be said where it is told
  "Engine/Store/Changes.ts -> Engine/Access/AccessRecords.ts",
  "Engine/Store/Changes.ts -> Engine/Projections/ProjectionRecords.ts",
  // what may be invoked is a function, and a function is given steps
  "Step.ts -> Function.ts",
  // what a step writes is said in the contract
  "Step.ts -> Protocol/Worker.ts"
]

/** Folders that import each other, and what ends that. */
const pairs: ReadonlyArray<string> = [
  // as above
  "Engine/Access <-> Engine/Store",
  "Engine/Projections <-> Engine/Store"
]

/** Where modules reach each other by the types that they import. By value none do. */
const circlesOfTypes: ReadonlyArray<RegExp> = [
  // a transaction knows what is done in one: the store's programs will be given what they need
  /^Engine\/(Store|Kv|Runs|PubSub|Projections|Access|Functions|Log|Schedules|Streams)\//,
  // a call has its attempt, which has its call; a branch has its calls, which have their branch
  /^Execution\/(Attempt|EventWaits|Scope|StepCall)\.ts$/,
  // what may be invoked is a function, a function is given steps, and another one its failures
  /^(Function|FunctionChecks|OnFailure|Step)\.ts$/
]

/** Files of more than 500 lines besides docstrings, and why they are. */
const long: { readonly [file: string]: string } = {
  "ExpressionBudget.ts":
    "one algorithm on the hottest path: every node of an expression adds to counters that are variables of this module",
  "Step.ts":
    "the signatures of the steps of both APIs: the namespace `Step` of the Effect API is this file, which may pass on nothing",
  "Protocol/Connect/worker_pb.ts": "generated",
  "Engine/Store/Migrations.ts": "SQL as it was run, version by version: it only grows",
  "Engine/Store/Postgres/Migrations.ts": "SQL as it was run, version by version: it only grows"
}

/**
 * On the path that every run passes (emit, claim, report, fire, extend) programs write without asking for a count or a key, so
 * that a database may put writes off and do them together. Which do ask, and why.
 */
const asked: { readonly [place: string]: string } = {
  "Log/LogRows.ts INSERT_LOG_ROW":
    "the position: it is the event's place in the log, and goes into the rows of its runs",
  "Runs/RunRows.ts INSERT_RUN": "the key: a wait of the parent names its child by it",
  "Runs/Journal.ts INSERT_STEP":
    "only when somebody is told of steps or a suspect is held: a report may come twice",
  "Runs/NewRuns.ts INSERT_LEASED_RUN": "the key: the lease is remembered by it",
  "Runs/Waits.ts UPDATE_FIRED":
    "whether the wait was open: the worker is told once, and the run goes on once",
  "Runs/Waits.ts UPDATE_READY_TIME": "whether the run may be claimed: it decides if workers are asked for",
  "Runs/Waits.ts INSERT_STEP_OF_WAIT": "only when somebody is told of steps or a suspect is held",
  "Turns/ExtendLeases.ts EXTEND_LEASE": "whether there is such a lease: the worker is told that it is gone",
  // not on that path
  "Log/Idempotency.ts DELETE_EXPIRED_RESULTS": "how many are left for the next batch",
  "Runs/EndLease.ts END_LEASE":
    "the function, for room under its limit, and a pause that was asked for: only when a turn ends and its run does not",
  "Runs/EndLease.ts END_REVOKED_LEASE":
    "the function, for room under its limit: once a lease that was revoked",
  "Runs/NodeWorkers.ts DELETE_WORKER": "whether the worker is still connected here: once a session",
  "Runs/PauseRun.ts PauseRun.pauseRow": "a status that was not there",
  "Runs/Forking.ts UPDATE_STEP": "whether the step was copied: once a result that somebody gives",
  "Runs/Recording.ts DELETE_EXPIRED_RECORDINGS": "how many are left for the next batch",
  "Runs/RunControl.ts RunControl.pauseRun": "a status that was not there",
  "Runs/RunControl.ts RunControl.resumeRun": "a status that was not there",
  "Runs/RunControl.ts RunControl.retryRun": "a status that was not there",
  "Turns/Ops.ts Ops.compensate": "a status that was not there, once a rollback",
  "Schedules/FireSchedules.ts FireSchedules.update": "once a fire of a schedule"
}

/** Lists of three words or more that stand in two places, and are no vocabulary. */
const noVocabulary: ReadonlyArray<string> = [
  // fields and methods that are checked for
  "history maxBytes maxValueSize ttlSeconds",
  "run stepId step_id"
]

/** Names in snake case that the documented API has: programs write and read them, whatever travels. */
const documented: ReadonlySet<string> = new Set([
  // keys, organizations, roles and policies
  "created_at",
  "env_id",
  "expires_at",
  "expires_in",
  "is_default",
  "key_prefix",
  "last_used_at",
  "org_id",
  "policy_id",
  "policy_ids",
  "previous_expires_at",
  "role_ids",
  "updated_at",
  // buckets
  "max_bytes",
  "max_value_size",
  "ttl_seconds"
])

/** What says in the words of legacy servers and handlers what a turn of ours has come to, and the other way round. */
const dialects = /^(Worker\/Legacy(Job|Ops|Transport|Turn)|Serve\/PushRequests)\.ts$/

/** Names in snake case that have nothing to do with what travels: columns of a statement, a macro of CEL. */
const namesOfOthers: { readonly [file: string]: ReadonlyArray<string> } = {
  "Engine/Runs/RunEvent.ts": ["e_id", "e_data"],
  "Engine/Store/Postgres/DeadConnections.ts": ["query_timeout"],
  "ExpressionBudget.ts": ["exists_one"]
}

const house = readHouse()
const roomOf = (file: string): number => rooms.findIndex(([, modules]) => modules.test(file))

describe("the house", () => {
  it("has a room for every module", () => {
    expect(house.map(({ path }) => path).filter((file) => roomOf(file) === -1)).toEqual([])
    expect(rooms.filter((_, i) => !house.some(({ path }) => roomOf(path) === i))).toEqual([])
  })

  it("has imports that point down the list of rooms", () => {
    const up = house
      .flatMap(({ imports }) => imports)
      .filter(({ from, to }) => roomOf(to) < roomOf(from))
      .map(({ from, to }) => `${from} -> ${to}`)

    expect(up.sort()).toEqual([...upward].sort())
  })

  it("has no folders that import each other", () => {
    // files that are shared are as good as a folder of their own
    const folder = (file: string): string =>
      rooms[roomOf(file)]?.[0].includes("share") === true
        ? ""
        : file.slice(0, Math.max(0, file.lastIndexOf("/")))
    const between = new Set(
      house
        .flatMap(({ imports }) => imports)
        .map(({ from, to }) => [folder(from), folder(to)] as const)
        .filter(([from, to]) => from !== to && from !== "" && to !== "")
        .map((way) => way.join(" <-> "))
    )
    const both = [...between].filter((way) => {
      const [from = "", to = ""] = way.split(" <-> ")
      // a folder of the contract that has one of its own for HTTP
      return from < to && from !== "Protocol" && between.has(`${to} <-> ${from}`)
    })

    expect(both.sort()).toEqual([...pairs].sort())
  })

  it("has no modules that need each other to be loaded", () => {
    expect(circles(house, ["value"])).toEqual([])
  })

  it("has no modules that need each other's types", () => {
    const found = circles(house, ["value", "type"])
    const isIn = (circle: ReadonlyArray<string>, where: RegExp): boolean =>
      circle.every((file) => where.test(file))

    expect(found.filter((circle) => !circlesOfTypes.some((where) => isIn(circle, where)))).toEqual([])
    expect(circlesOfTypes.filter((where) => !found.some((circle) => isIn(circle, where)))).toEqual([])
  })

  it("has no file of more than 500 lines besides docstrings without a reason", () => {
    const lines = ({ text }: Module): number =>
      text.replaceAll(/^[ \t]*\/\*\*[^]*?\*\/[ \t]*\n/gm, "").split("\n").length - 1
    const tooLong = house.filter((module) => lines(module) > 500).map(({ path }) => path)

    expect(tooLong).toEqual(Object.keys(long).sort())
  })

  it("passes on what others define at its entry points only", () => {
    const isEntry = (file: string): boolean => roomOf(file) === 0
    const barrels = house
      // the errors are a folder that everybody knows by one name
      .filter(({ passesOn, path }) => passesOn && !isEntry(path) && path !== "Errors.ts")
      .map(({ path }) => path)
    const imports = house.flatMap((module) => module.imports)

    // namespaces of the Effect API are put together in a module of their own
    expect(
      imports.filter(({ from, need, to }) => need !== "type" && barrels.includes(to) && !isEntry(from))
    ).toEqual([])
    expect(imports.filter(({ from, to }) => isEntry(to) && from !== "index.ts")).toEqual([])
  })

  it("has each list of words once", () => {
    const places = new Map<string, Array<string>>()
    for (const { path, text } of house) {
      if (path.endsWith("_pb.ts")) continue
      for (const [list] of text.matchAll(/"[\w.-]+"(?:\s*[,|]\s*"[\w.-]+")+/g)) {
        const words = [...new Set(list.match(/[\w.-]+/g))].sort()
        if (words.length >= 3) places.set(words.join(" "), [...(places.get(words.join(" ")) ?? []), path])
      }
    }
    const twice = [...places].filter(([, files]) => files.length > 1)

    expect(twice.filter(([words]) => !noVocabulary.includes(words))).toEqual([])
    expect(noVocabulary.filter((words) => !twice.some(([other]) => other === words))).toEqual([])
  })

  it("says where calls go in the contract only", () => {
    const paths = Object.values({ ...endpoints, ...sockets, ...descriptions, ...streams })
    // the others are words as well, as in what is told to people
    const begins = [/\/(api\/v1\/|ironflow\.v1\.)/]
    for (const { path } of paths) {
      // the root is the beginning of every path
      if (path === "/") continue
      if (!begins[0]!.test(path)) begins.push(new RegExp(`(^|[^.\\w\\s])${path.replaceAll(".", "\\.")}\\b`))
    }
    const said = house
      .filter(({ path }) => !path.startsWith("Protocol/"))
      .flatMap(({ path, texts }) =>
        texts.filter((text) => begins.some((begin) => begin.test(text))).map((text) => `${path}: ${text}`)
      )

    expect(said).toEqual([])
  })

  it("names what travels in the contract only", () => {
    const snake = /^[a-z]+(_[a-z\d]+)+$/
    const others = house.filter(({ path }) => !/^(Protocol|Cli)\//.test(path) && !dialects.test(path))
    const named = others.flatMap(({ keys, path, texts }) => [
      ...keys.filter((key) => snake.test(key)).map((key) => ({ path, key })),
      // of JSON that is put together
      ...texts.flatMap((text) => [...text.matchAll(/"(\w+)":/g)]).map(([, key = ""]) => ({ path, key }))
    ])
    const isOfOthers = ({ key, path }: { readonly key: string; readonly path: string }): boolean =>
      namesOfOthers[path]?.includes(key) === true

    expect(
      named.filter((one) => snake.test(one.key) && !documented.has(one.key) && !isOfOthers(one))
    ).toEqual([])
    expect([...documented].filter((name) => !named.some(({ key }) => key === name))).toEqual([])
    expect(house.filter(({ path }) => dialects.test(path))).toHaveLength(5)
    expect(Object.keys(namesOfOthers).filter((file) => !named.some(({ path }) => path === file))).toEqual([])
  })

  it("writes the status of a run through the table of transitions only", () => {
    const writes = house.flatMap(({ path, text }) =>
      [...text.matchAll(/UPDATE runs SET[^`"]*?\bstatus\s*=[^`"]*/g)]
        // a comparison, in what is set or behind WHERE
        .filter(([sql]) => /SET\s+status\s*=|,\s*status\s*=/.test(sql))
        .map(([sql]) => `${path}: ${sql}`)
    )

    expect(writes).toEqual([])
  })

  it("writes the status of a run only over one that the table has", () => {
    const templates = house.flatMap(({ text }) => [...text.matchAll(/`[^`]*\$\{(moves[^}]*)\.set\}[^`]*`/g)])
    const blind = templates.filter(([sql, move]) => !sql.includes(`\${${move}.where}`)).map(([sql]) => sql)

    expect(templates.length).toBeGreaterThan(5)
    expect(blind).toEqual([])
  })

  it("asks what a write has changed only where it is said why", () => {
    const places = house
      .filter(({ path }) => /^Engine\/(Log|Events|Runs|Turns|Schedules)\//.test(path))
      .flatMap(({ path, text }) =>
        [...text.matchAll(/\b(?:affected|insert)\(\s*(?:variant\(\s*"([\w.]+)"|([A-Z][A-Z_0-9]+))/g)].map(
          ([, name, constant]) => `${path.replace("Engine/", "")} ${name ?? constant}`
        )
      )
    const returning = house
      .filter(({ path }) => /^Engine\/(Log|Events|Runs|Turns|Schedules)\//.test(path))
      .flatMap(({ path, text }) =>
        [...text.matchAll(/const ([A-Z][A-Z_0-9]+) =(?:(?!const [A-Z])[^;])*?RETURNING \w/g)].map(
          ([, constant]) => `${path.replace("Engine/", "")} ${constant}`
        )
      )

    expect([...new Set([...places, ...returning])].sort()).toEqual(Object.keys(asked).sort())
  })

  it("names each statement and each program after its constant", () => {
    const camelCase = (constant: string): string =>
      constant.toLowerCase().replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
    const engine = house.filter(({ path }) => path.startsWith("Engine/"))
    const found = engine.flatMap(({ path, text }) => {
      const file = basename(path, ".ts")
      const statements = [...text.matchAll(/const (\w+) = (?:statement|variant|finds)\(\s*"([^"]+)"/g)]
      const programs = [...text.matchAll(/const (\w+) = (?:in|across)Environments?\(\s*"([^"]+)"/g)]
      return [
        ...statements.map(([, constant = "", name = ""]) => ({
          place: `${path} ${constant}`,
          name,
          allowed: [`${file}.${camelCase(constant)}`]
        })),
        ...programs.map(([, constant = "", name = ""]) => ({
          place: `${path} ${constant}`,
          name,
          // with its file where another file has the same constant
          allowed: [constant, `${file}.${constant}`]
        }))
      ]
    })

    expect(found.length).toBeGreaterThan(700)
    expect(found.filter(({ allowed, name }) => !allowed.includes(name))).toEqual([])
  })
})
