/**
 * What design and CONTRIBUTING say of the house, held against `src`. Every list of exceptions shrinks: one that is not needed any
 * more fails. Unused files, exports and dependencies are looked for by `npm run lint`.
 */
import { describe, expect, it } from "vitest"
import { circles, type Module, readHouse } from "./House.ts"

/** From the roof to the ground: a module may import what stands in its own room, or in one below. */
const rooms: ReadonlyArray<readonly [room: string, modules: RegExp]> = [
  ["entry points", /^(index|core|effect|engine|protocol|serve|test|worker|worker-streaming|bin)\.ts$/],
  ["the command", /^Cli\//],
  ["the test kit", /^Testing\//],
  ["the Promise API", /^Promise\//],
  ["the server", /^Engine\/(Http|Connect|Rpc|Ws)\//],
  ["the engine", /^Engine\/(?!Registry|Polite|Pages|Intake)[^/]+$/],
  ["its nouns", /^Engine\/(?!Http|Connect|Rpc|Ws|Store|Runs)[^/]+\//],
  ["the store", /^Engine\/Store\//],
  ["what the rooms of the engine share", /^Engine\/(Registry\.ts|Polite\.ts|Pages\.ts|Intake\.ts|Runs\/)/],
  ["push handlers", /^Serve\//],
  ["workers", /^Worker\//],
  ["the client", /^Client\//],
  ["projections", /^Projection\//],
  ["one turn", /^Execution\//],
  ["the contract", /^Protocol\//],
  ["what users define", /^(Function|Trigger|Webhook|Upcaster|EventData|CodeHash)\.ts$/],
  ["steps", /^Step\.ts$/],
  ["vocabulary", /^(Errors\/)?[^/]+\.ts$/]
]

/** Imports that point up, and what ends them. */
const upward: ReadonlyArray<string> = [
  // the configuration of a function goes to where functions are registered
  "Engine/Engine.ts -> Engine/Http/FunctionConfigs.ts",
  "Engine/Pages.ts -> Engine/Http/Route.ts",
  // the words of existing workers, and the check of reports, go to a folder of workers' sessions
  "Engine/Push/Endpoint.ts -> Engine/Dispatch.ts",
  "Engine/Push/Endpoint.ts -> Engine/Http/LegacyJobs.ts",
  "Engine/Push/Endpoint.ts -> Engine/Http/LegacyWorker.ts",
  "Engine/Push/Endpoint.ts -> Engine/Http/TurnReports.ts",
  "Engine/Push/ExistingHandlers.ts -> Engine/Http/LegacyJobs.ts",
  // rows of access go to the noun's own folder
  "Engine/Store/AccessRows.ts -> Engine/Access/Access.ts",
  "Engine/Store/AccessRows.ts -> Engine/Access/BuiltIn.ts",
  // types that clients and the contract share go to the contract
  "Protocol/Http/GroupJson.ts -> Client/ConsumerGroups.ts",
  "Protocol/Http/ProjectionJson.ts -> Client/Projections.ts",
  "Protocol/Http/RunJson.ts -> Client/Client.ts",
  "Step.ts -> Protocol/Worker.ts",
  // what may be invoked is a function, and a function is given steps
  "Step.ts -> Function.ts"
]

/** Folders that import each other, and what ends that. */
const pairs: ReadonlyArray<string> = [
  // as above
  "Client <-> Protocol/Http",
  "Engine <-> Engine/Http",
  "Engine <-> Engine/Push",
  "Engine/Access <-> Engine/Store",
  "Engine/Http <-> Engine/Push",
  // the port goes to a folder that puts these together
  "Engine/Connect <-> Engine/Http",
  "Engine/Http <-> Engine/Rpc",
  "Engine/Http <-> Engine/Ws"
]

/** Where modules reach each other by the types that they import. By value none do. */
const circlesOfTypes: ReadonlyArray<RegExp> = [
  // a transaction knows what is done in one: the store's programs will be given what they need
  /^Engine\/Store\//,
  // a call has its attempt, which has its call; a branch has its calls, which have their branch
  /^Execution\/(Attempt|EventWaits|Scope|StepCall)\.ts$/,
  // what is asked of the engine is described with the engine
  /^Engine\/(ClientServices|Engine)\.ts$/,
  // what may be invoked is a function, and a function is given steps
  /^(Function|Step)\.ts$/
]

/** Files of more than 500 lines, and why they are. */
const long: { readonly [file: string]: string } = {
  "ExpressionBudget.ts": "one algorithm: what an expression may cost, for every kind of node",
  "Step.ts": "the steps of both APIs, most of it documentation",
  "Protocol/Connect/worker_pb.ts": "generated",
  "Protocol/Http/Api.ts": "one row an endpoint",
  "Protocol/Http/Schemas.ts": "one schema a message",
  "Engine/Store/Migrations.ts": "SQL as it was run, version by version: it only grows",
  // to be divided
  "Client/SubscriptionSession.ts": "the session and its reconnecting are two machines",
  "Engine/Access/Management.ts": "keys, roles, policies and organisations",
  "Engine/Dispatch.ts": "workers' sessions and the handing out of runs",
  "Engine/Engine.ts": "wires everything by hand",
  "Engine/Http/ClientRoutes.ts": "the routes of runs, events and topics",
  "Engine/Http/Server.ts": "the port, its limits and its shutdown",
  "Engine/Http/TurnWorker.ts": "a worker's session and its batches",
  "Engine/Projections.ts": "owners, batches and inspection",
  "Engine/Push/Endpoint.ts": "sending a turn, and reading what comes back",
  "Engine/Store/AccessRows.ts":
    "keys, roles, policies and organisations: statements by name, and the programs",
  "Engine/Store/ProjectionRows.ts": "owners, batches and dead letters: statements by name, and the programs",
  "Engine/Store/Leases.ts": "claims and the loss of leases",
  "Engine/Store/Sqlite.ts": "forwards each operation of the store by hand",
  "Engine/Store/Store.ts": "the operations of every noun",
  "Engine/Store/Turns.ts": "the ops of a turn, and the ends of leases",
  "Engine/Subscriptions/Connection.ts": "subscribing and delivering",
  "Projection/Runner.ts": "managed and external projections",
  "Worker/TurnSession.ts": "a session's reports and its leases"
}

/** Lists of three words or more that stand in two places, and are no vocabulary. */
const noVocabulary: ReadonlyArray<string> = [
  // fields and methods that are checked for
  "create delete get list update",
  "history maxBytes maxValueSize ttlSeconds",
  "name namespace pattern",
  "run stepId step_id"
]

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

  it("has no file of more than 500 lines without a reason", () => {
    const lines = ({ text }: Module): number => text.split("\n").length - 1
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
})
