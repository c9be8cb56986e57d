/**
 * Checks the rules of the design and of CONTRIBUTING in `src`. Every list of exceptions can only shrink: an exception that is
 * no longer needed fails the test. `npm run lint` finds unused files, exports and dependencies.
 */
import { basename } from "node:path"
import { describe, expect, it } from "vitest"
import { callSpecs, sockets } from "../src/Protocol/AllCalls.ts"
import { descriptions } from "../src/Protocol/Server.ts"
import { streams } from "../src/Protocol/Workers.ts"
import { circles, type Module, readSource } from "./House.ts"

/** The layers, from top to bottom. A module may import modules of its own layer, or of one below. */
const layers: ReadonlyArray<readonly [name: string, modules: RegExp]> = [
  ["entry points", /^(index|core|effect|engine|protocol|serve|test|worker|worker-streaming|bin)\.ts$/],
  ["the command", /^Cli\//],
  ["the console, in browsers", /^Console\//],
  ["the test kit", /^Testing\//],
  ["the Promise API", /^Promise\//],
  ["the server", /^Server\//],
  ["the engine", /^Engine\/(?!Yielding|Pages|InputBudget|EventLoop|NamedSignals|Sweep)[^/]+$/],
  // the nouns of the engine: what hands out work is above what work does, and both are above what is stored
  ["hooks", /^Engine\/Hooks\//],
  ["the doctor", /^Engine\/Doctor\//],
  ["push", /^Engine\/Push\//],
  ["workers' sessions", /^Engine\/Workers\//],
  ["guarantees", /^Engine\/Guarantees\//],
  ["schedules and timers", /^Engine\/Schedules\//],
  ["turns", /^Engine\/Turns\//],
  ["bulk operations", /^Engine\/Bulk\//],
  ["access", /^Engine\/Access\//],
  ["projections of the engine", /^Engine\/Projections\//],
  ["topics and groups", /^Engine\/PubSub\//],
  ["entity streams", /^Engine\/Streams\//],
  ["configurations", /^Engine\/Config\//],
  ["key-value buckets", /^Engine\/Kv\//],
  ["secrets", /^Engine\/Secrets\//],
  ["events: they start runs and satisfy waits", /^Engine\/Events\//],
  ["runs", /^Engine\/Runs\//],
  ["the log", /^Engine\/Log\//],
  ["functions", /^Engine\/Functions\//],
  ["system events", /^Engine\/SystemEvents\//],
  ["the store", /^Engine\/Store\//],
  ["plain types of what is stored", /^Engine\/Records\//],
  [
    "shared by the folders of the engine",
    /^Engine\/(Yielding|Pages|InputBudget|EventLoop|NamedSignals|Sweep)\.ts$/
  ],
  ["push handlers", /^Serve\//],
  ["workers", /^Worker\//],
  ["the client", /^Client\//],
  ["projections", /^Projection\//],
  ["one turn", /^Execution\//],
  ["the contract", /^Protocol\//],
  [
    "definitions of users",
    /^(Function|FunctionChecks|OnFailure|Trigger|Webhook|Upcaster|EventVersions|EventData|CodeHash|HandlerSource)\.ts$/
  ],
  ["steps", /^Step\.ts$/],
  ["vocabulary", /^(Errors\/)?[^/]+\.ts$/]
]

/** Imports that point up, and how they will end. */
const upward: ReadonlyArray<string> = [
  // a function can be invoked, and a function receives steps
  "Step.ts -> Function.ts",
  // the contract defines what a step writes
  "Step.ts -> Protocol/Worker.ts"
]

/** Where modules import each other's types in a circle. Values are never imported in a circle. */
const circlesOfTypes: ReadonlyArray<RegExp> = [
  // a transaction knows its operations: the programs of the store will be given what they need
  /^Engine\/(Store|Kv|Runs|PubSub|Projections|Functions|Log|Schedules|Streams)\//,
  // a call has its attempt, which has its call; a branch has its calls, which have their branch
  /^Execution\/(Attempt|UnseenEvents|StepScope|StepCall)\.ts$/,
  // a function can be invoked, receives steps, and another function handles its failures
  /^(Function|FunctionChecks|OnFailure|Step)\.ts$/
]

/** Files with more than 500 lines, not counting docstrings, and why. */
const long: { readonly [file: string]: string } = {
  "ExpressionBudget.ts":
    "one algorithm on the hottest path: every node of an expression adds to variables of this module",
  "Step.ts":
    "the signatures of the steps of both APIs: the namespace `Step` of the Effect API is this file, which may not re-export anything",
  "Protocol/Connect/worker_pb.ts": "generated",
  "Engine/Store/Migrations.ts": "the SQL of every version, unchanged: it only grows",
  "Engine/Store/Postgres/Migrations.ts": "the SQL of every version, unchanged: it only grows"
}

/**
 * On the path of every run (emit, claim, report, fire, extend) programs write without asking for a count or a key, so that a
 * database may defer writes and send them together. These writes do ask, and why.
 */
const asked: { readonly [place: string]: string } = {
  "Log/LogRows.ts INSERT_LOG_ROW":
    "the position: it is the event's place in the log, and is written to the rows of its runs",
  "Runs/RunRows.ts INSERT_RUN": "the key: a wait of the parent names its child by it",
  "Runs/Journal.ts INSERT_STEP":
    "only when steps are announced or a suspect run is held: a report may come twice",
  "Runs/NewRuns.ts INSERT_LEASED_RUN": "the key: the lease is remembered by it",
  "Runs/Waits.ts UPDATE_FIRED":
    "whether the wait was open: the worker is notified once, and the run continues once",
  "Runs/Waits.ts UPDATE_READY_TIME": "whether the run may be claimed: it decides whether workers are needed",
  "Runs/Waits.ts INSERT_STEP_OF_WAIT": "only when steps are announced or a suspect run is held",
  "Turns/ExtendLeases.ts EXTEND_LEASE": "whether the lease still exists: if not, the worker is told",
  // not on the path of every run
  "Log/Idempotency.ts DELETE_EXPIRED_RESULTS": "how many are left for the next batch",
  "Runs/EndLease.ts END_LEASE":
    "the function, whose limit has room again, and a requested pause: only when a turn ends and its run does not",
  "Runs/EndLease.ts END_REVOKED_LEASE":
    "the function, whose limit has room again: once for each revoked lease",
  "Runs/EngineWorkers.ts DELETE_WORKER": "whether the worker is still connected here: once for each session",
  "Runs/PauseRun.ts PauseRun.pauseRow": "whether the run had a status that allows the change",
  "Runs/Forking.ts UPDATE_STEP": "whether the step was copied: once for each result that a user gives",
  "Runs/RunAudit.ts DELETE_EXPIRED_RECORDS": "how many are left for the next batch",
  "Runs/RunControl.ts RunControl.pauseRun": "whether the run had a status that allows the change",
  "Runs/RunControl.ts RunControl.resumeRun": "whether the run had a status that allows the change",
  "Runs/RunControl.ts RunControl.retryRun": "whether the run had a status that allows the change",
  "Turns/Ops.ts Ops.compensate":
    "whether the run had a status that allows the change: once for each rollback",
  "Schedules/FireSchedules.ts FireSchedules.update": "once for each fire of a schedule"
}

/** Lists of three words or more that appear in two places, and are not vocabulary. */
const noVocabulary: ReadonlyArray<string> = [
  // fields and methods that are looked for
  "history maxBytes maxValueSize ttlSeconds",
  "run stepId step_id"
]

/** Names in snake case in the documented API: programs read and write them, whatever is sent. */
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

/** The modules that translate our turns into the words of legacy servers and handlers, and back. */
const dialects = /^(Worker\/Legacy(Job|Ops|Transport|Turn)|Serve\/LegacyPushRequests)\.ts$/

/** Names in snake case that are not sent: columns of a statement, a macro of CEL. */
const namesOfOthers: { readonly [file: string]: ReadonlyArray<string> } = {
  "Engine/Runs/RunEvent.ts": ["e_id", "e_data"],
  "Engine/Store/Postgres/DeadConnections.ts": ["query_timeout"],
  "Engine/Store/Postgres/Driver.ts": ["application_name", "query_timeout"],
  "ExpressionBudget.ts": ["exists_one"]
}

const source = readSource()
const layerOf = (file: string): number => layers.findIndex(([, modules]) => modules.test(file))

describe("the source", () => {
  it("has a layer for every module", () => {
    expect(source.map(({ path }) => path).filter((file) => layerOf(file) === -1)).toEqual([])
    expect(layers.filter((_, i) => !source.some(({ path }) => layerOf(path) === i))).toEqual([])
  })

  it("has no imports that point up the list of layers", () => {
    const up = source
      .flatMap(({ imports }) => imports)
      .filter(({ from, to }) => layerOf(to) < layerOf(from))
      .map(({ from, to }) => `${from} -> ${to}`)

    expect(up.sort()).toEqual([...upward].sort())
  })

  it("has no folders that import each other", () => {
    // shared files count as a folder of their own
    const folder = (file: string): string =>
      layers[layerOf(file)]?.[0].includes("share") === true
        ? ""
        : file.slice(0, Math.max(0, file.lastIndexOf("/")))
    const between = new Set(
      source
        .flatMap(({ imports }) => imports)
        .map(({ from, to }) => [folder(from), folder(to)] as const)
        .filter(([from, to]) => from !== to && from !== "" && to !== "")
        .map((way) => way.join(" <-> "))
    )
    const both = [...between].filter((way) => {
      const [from = "", to = ""] = way.split(" <-> ")
      // a folder of the contract may have a subfolder for HTTP
      return from < to && from !== "Protocol" && between.has(`${to} <-> ${from}`)
    })

    expect(both).toEqual([])
  })

  it("has no modules that need each other to be loaded", () => {
    expect(circles(source, ["value"])).toEqual([])
  })

  it("has no other modules that need each other's types", () => {
    const found = circles(source, ["value", "type"])
    const isIn = (circle: ReadonlyArray<string>, where: RegExp): boolean =>
      circle.every((file) => where.test(file))

    expect(found.filter((circle) => !circlesOfTypes.some((where) => isIn(circle, where)))).toEqual([])
    expect(circlesOfTypes.filter((where) => !found.some((circle) => isIn(circle, where)))).toEqual([])
  })

  it("has no file of more than 500 lines, not counting docstrings, without a reason", () => {
    const lines = ({ text }: Module): number =>
      text.replaceAll(/^[ \t]*\/\*\*[^]*?\*\/[ \t]*\n/gm, "").split("\n").length - 1
    const tooLong = source.filter((module) => lines(module) > 500).map(({ path }) => path)

    expect(tooLong).toEqual(Object.keys(long).sort())
  })

  it("re-exports values of other modules at its entry points only", () => {
    const isEntry = (file: string): boolean => layerOf(file) === 0
    const barrels = source
      // the errors are a folder that is imported under one name
      .filter(({ reexports, path }) => reexports && !isEntry(path) && path !== "Errors.ts")
      .map(({ path }) => path)
    const imports = source.flatMap((module) => module.imports)

    // the namespaces of the Effect API are assembled in a module of their own
    expect(
      imports.filter(({ from, need, to }) => need !== "type" && barrels.includes(to) && !isEntry(from))
    ).toEqual([])
    expect(imports.filter(({ from, to }) => isEntry(to) && from !== "index.ts")).toEqual([])
  })

  it("has each list of words once", () => {
    const places = new Map<string, Array<string>>()
    for (const { path, text } of source) {
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

  it("has the paths of calls in the contract only", () => {
    const paths = Object.values({ ...callSpecs, ...sockets, ...descriptions, ...streams })
    // other parts of paths are also ordinary words, for example in messages
    const begins = [/\/(api\/v1\/|ironflow\.v1\.)/]
    for (const { path } of paths) {
      // every path begins with the root
      if (path === "/") continue
      if (!begins[0]!.test(path)) begins.push(new RegExp(`(^|[^.\\w\\s])${path.replaceAll(".", "\\.")}\\b`))
    }
    const said = source
      .filter(({ path }) => !path.startsWith("Protocol/"))
      .flatMap(({ path, texts }) =>
        texts.filter((text) => begins.some((begin) => begin.test(text))).map((text) => `${path}: ${text}`)
      )

    expect(said).toEqual([])
  })

  it("has the names of sent fields in the contract only", () => {
    const snake = /^[a-z]+(_[a-z\d]+)+$/
    const others = source.filter(({ path }) => !/^(Protocol|Cli)\//.test(path) && !dialects.test(path))
    const named = others.flatMap(({ keys, path, texts }) => [
      ...keys.filter((key) => snake.test(key)).map((key) => ({ path, key })),
      // keys in JSON that is written as text
      ...texts.flatMap((text) => [...text.matchAll(/"(\w+)":/g)]).map(([, key = ""]) => ({ path, key }))
    ])
    const isOfOthers = ({ key, path }: { readonly key: string; readonly path: string }): boolean =>
      namesOfOthers[path]?.includes(key) === true

    expect(
      named.filter((one) => snake.test(one.key) && !documented.has(one.key) && !isOfOthers(one))
    ).toEqual([])
    expect([...documented].filter((name) => !named.some(({ key }) => key === name))).toEqual([])
    expect(source.filter(({ path }) => dialects.test(path))).toHaveLength(5)
    expect(Object.keys(namesOfOthers).filter((file) => !named.some(({ path }) => path === file))).toEqual([])
  })

  it("changes the status of a run with the table of transitions only", () => {
    const writes = source.flatMap(({ path, text }) =>
      [...text.matchAll(/UPDATE runs SET[^`"]*?\bstatus\s*=[^`"]*/g)]
        // the others compare the status, in SET or after WHERE
        .filter(([sql]) => /SET\s+status\s*=|,\s*status\s*=/.test(sql))
        .map(([sql]) => `${path}: ${sql}`)
    )

    expect(writes).toEqual([])
  })

  it("changes the status of a run only from a status that the table allows", () => {
    const templates = source.flatMap(({ text }) => [...text.matchAll(/`[^`]*\$\{(moves[^}]*)\.set\}[^`]*`/g)])
    const blind = templates.filter(([sql, move]) => !sql.includes(`\${${move}.where}`)).map(([sql]) => sql)

    expect(templates.length).toBeGreaterThan(5)
    expect(blind).toEqual([])
  })

  it("asks what a write has changed only with a reason", () => {
    const places = source
      .filter(({ path }) => /^Engine\/(Log|Events|Runs|Turns|Schedules)\//.test(path))
      .flatMap(({ path, text }) =>
        [...text.matchAll(/\b(?:affected|insert)\(\s*(?:variant\(\s*"([\w.]+)"|([A-Z][A-Z_0-9]+))/g)].map(
          ([, name, constant]) => `${path.replace("Engine/", "")} ${name ?? constant}`
        )
      )
    const returning = source
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
    const engine = source.filter(({ path }) => path.startsWith("Engine/"))
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
