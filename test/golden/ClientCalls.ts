/** Every method of the client, each with one valid call. */
import type { IronflowClient } from "@ironflow/node"
import { apiKeysMethods } from "../../src/Client/ApiKeys.ts"
import { clientMethods } from "../../src/Client/Client.ts"
import { configMethods } from "../../src/Client/Config.ts"
import { consumerGroupsMethods } from "../../src/Client/ConsumerGroups.ts"
import { kvBucketMethods, kvMethods } from "../../src/Client/Kv.ts"
import { orgsMethods } from "../../src/Client/Orgs.ts"
import { policiesMethods } from "../../src/Client/Policies.ts"
import { projectionsMethods } from "../../src/Client/Projections.ts"
import { pushEndpointsMethods } from "../../src/Client/PushEndpoints.ts"
import { rolesMethods } from "../../src/Client/Roles.ts"
import { secretsMethods } from "../../src/Client/Secrets.ts"
import { streamMethods } from "../../src/Client/Streams.ts"
import type { Given, Noun } from "./Noun.ts"
import { nouns } from "./nouns/All.ts"

type Method = (client: IronflowClient, given: Given) => Promise<unknown>

/** The methods of an area, and the noun whose data they use. */
interface Area {
  readonly methods: ReadonlyArray<string>
  readonly noun: Noun
  readonly calls: Readonly<Record<string, Method>>
}

const emitting = { version: 2, idempotencyKey: "once", metadata: { requestedBy: "me" } }
const data = { orderId: "o-1" }
const paid = { name: "order.paid", data: { a: 1 }, entityType: "order" }
const inLibrary = { namespace: "library", pattern: "news" }
const rule = { name: "orders", effect: "allow", actions: "emit:*", resources: "event:order.*" } as const
const id = ({ id = "" }: Given): string => id
const carts = (client: IronflowClient) => client.kv().bucket("carts")
const only = (methods: ReadonlyArray<string>, names: ReadonlyArray<string>): ReadonlyArray<string> =>
  methods.filter((method) => names.includes(method))
const ofRuns = [
  "getRun",
  "listRuns",
  "getRunSteps",
  "getRunAudit",
  "getRunLogs",
  "countRuns",
  "explain",
  "waitForRun",
  "cancelRun",
  "retryRun",
  "resumeRun",
  "pauseRun",
  "patchStep",
  "forkRun",
  "moveRun"
]
const ofEngines = [
  "listFunctions",
  "deleteFunction",
  "pauseFunction",
  "resumeFunction",
  "runFunction",
  "functionHistory",
  "liveVersions",
  "listWorkers",
  "getCapabilities",
  "health"
]
const ofBulk = ["bulk", "erase", "listBulk", "getBulk", "cancelBulk", "waitForBulk"]
const ofLog = ["listEvents", "getEvent", "explainEvent"]
const ofTopics = ["publish", "listTopics", "getTopicStats"]

export const areas: Readonly<Record<string, Area>> = {
  events: {
    methods: Object.keys(clientMethods).filter(
      (name) => ![...ofRuns, ...ofBulk, ...ofEngines, ...ofTopics, ...ofLog].includes(name)
    ),
    noun: nouns.events,
    calls: {
      emit: (client) => client.emit("order.placed", data, emitting),
      trigger: (client) => client.trigger("order.placed", data),
      emitSync: (client) => client.emitSync("order.seen", data, { ...emitting, timeout: 30_000 }),
      emitMany: (client) =>
        client.emitMany([
          { event: "order.placed", data, ...emitting },
          { event: "order.seen", data: 1 }
        ])
    }
  },
  log: {
    methods: only(Object.keys(clientMethods), ofLog),
    noun: nouns.log,
    calls: {
      listEvents: (client) =>
        client.listEvents({
          name: "order.*",
          idempotencyKey: "once",
          since: new Date(0),
          until: "2100-01-01",
          order: "oldest",
          limit: 1
        }),
      getEvent: (client, { event = "" }) => client.getEvent(event),
      explainEvent: (client, { event = "" }) => client.explainEvent(event)
    }
  },
  topics: {
    methods: only(Object.keys(clientMethods), ofTopics),
    noun: nouns.topics,
    calls: {
      publish: (client) => client.publish("news", data, { idempotencyKey: "once" }),
      listTopics: (client) => client.listTopics(),
      getTopicStats: (client) => client.getTopicStats("news")
    }
  },
  runs: {
    methods: only(Object.keys(clientMethods), ofRuns),
    noun: nouns.runs,
    calls: {
      getRun: (client, { completed = "" }) => client.getRun(completed),
      listRuns: (client) => client.listRuns({ functionId: "ship-order", status: "failed", limit: 1 }),
      countRuns: (client) =>
        client.countRuns({
          by: "function",
          functionId: "ship-order",
          status: "failed",
          limit: 3,
          timeLimit: 10_000
        }),
      getRunSteps: (client, { completed = "" }) => client.getRunSteps(completed),
      getRunAudit: (client, { completed = "" }) => client.getRunAudit(completed),
      getRunLogs: (client, { completed = "" }) => client.getRunLogs(completed),
      explain: (client, { waiting = "" }) => client.explain(waiting),
      waitForRun: (client, { completed = "" }) => client.waitForRun(completed, { timeout: 30_000 }),
      cancelRun: (client, { sleeping = "" }) => client.cancelRun(sleeping, "over"),
      retryRun: (client, { failed = "" }) => client.retryRun(failed, "charge"),
      resumeRun: (client, { failed = "" }) => client.resumeRun(failed, "charge"),
      pauseRun: (client, { pending = "" }) => client.pauseRun(pending, "look"),
      forkRun: (client, { completed = "" }) =>
        client.forkRun(completed, { from: "pack", steps: { charge: { paid: true } }, data }),
      moveRun: (client, { sleeping = "" }) => client.moveRun(sleeping, { version: "2" }),
      patchStep: (client, { sleeping }) => client.patchStep(`${sleeping}:nap:0`, { by: "hand" }, "no time")
    }
  },
  bulk: {
    methods: only(Object.keys(clientMethods), ofBulk),
    noun: nouns.bulk,
    calls: {
      bulk: (client) =>
        client.bulk(
          "cancel",
          { functionId: "ship-order", status: ["failed", "waiting"], createdFrom: "2026-01-01" },
          { dryRun: true, reason: "recalled" }
        ),
      erase: (client) =>
        client.erase(
          {
            events: { where: "event.data.email == 'jane@example.com'", since: "2026-01-01" },
            runs: { ids: ["run_1"] },
            streams: ["customer-1"],
            configs: ["of-jane"]
          },
          { dryRun: true, cancel: true }
        ),
      listBulk: (client) => client.listBulk(),
      getBulk: (client, given) => client.getBulk(id(given)),
      cancelBulk: (client, given) => client.cancelBulk(id(given)),
      waitForBulk: (client, given) => client.waitForBulk(id(given), { timeout: 30_000 })
    }
  },
  functions: {
    methods: only(Object.keys(clientMethods), ofEngines),
    noun: nouns.functions,
    calls: {
      listFunctions: (client) => client.listFunctions(),
      pauseFunction: (client) => client.pauseFunction("ship-order", { reason: "the bank is down", by: "me" }),
      resumeFunction: (client) => client.resumeFunction("ship-order"),
      runFunction: (client) => client.runFunction("ship-order", data, { idempotencyKey: "once" }),
      functionHistory: (client) => client.functionHistory("ship-order"),
      liveVersions: (client) => client.liveVersions("ship-order"),
      deleteFunction: (client) => client.deleteFunction("ship-order"),
      listWorkers: (client) => client.listWorkers(),
      getCapabilities: (client) => client.getCapabilities(),
      health: (client) => client.health()
    }
  },
  streams: {
    methods: Object.keys(streamMethods),
    noun: nouns.streams,
    calls: {
      append: (client) =>
        client.streams.append("o-1", paid, {
          version: 2,
          metadata: { by: "me" },
          expectedVersion: 2,
          idempotencyKey: "once"
        }),
      appendAll: (client) =>
        client.streams.appendAll(
          "o-1",
          {
            entityType: "order",
            events: [
              { name: "order.paid", data: { a: 1 } },
              { name: "order.sent", data: 1 }
            ]
          },
          { expectedVersion: 2, idempotencyKey: "once" }
        ),
      read: (client) => client.streams.read("o-1", { fromVersion: 1, limit: 1, direction: "backward" }),
      getInfo: (client) => client.streams.getInfo("o-1"),
      findInfo: (client) => client.streams.findInfo("nobody"),
      listStreams: (client) => client.streams.listStreams({ entityType: "order", limit: 5, offset: 0 }),
      createSnapshot: (client) =>
        client.streams.createSnapshot("o-1", { entityType: "order", entityVersion: 2, state: { total: 1 } }),
      getSnapshot: (client) => client.streams.getSnapshot("o-1", { beforeVersion: 2 })
    }
  },
  kv: {
    methods: Object.keys(kvMethods),
    noun: nouns.kv,
    calls: {
      createBucket: (client) =>
        client.kv().createBucket({ name: "orders", description: "new", ttlSeconds: 60, history: 3 }),
      listBuckets: (client) => client.kv().listBuckets(),
      getBucketInfo: (client) => client.kv().getBucketInfo("carts"),
      deleteBucket: (client) => client.kv().deleteBucket("carts")
    }
  },
  keys: {
    methods: Object.keys(kvBucketMethods),
    noun: nouns.kv,
    calls: {
      get: (client) => carts(client).get("c-1"),
      put: (client) => carts(client).put("shelf/c-4", { items: [1] }),
      create: (client) => carts(client).create("c-5", new Uint8Array([0, 255])),
      update: (client) => carts(client).update("c-1", "text", 2),
      delete: (client) => carts(client).delete("c-1", { revision: 2 }),
      purge: (client) => carts(client).purge("c-1"),
      listKeys: (client) => carts(client).listKeys("c-*"),
      history: (client) => carts(client).history("c-1"),
      write: (client) =>
        carts(client).write([
          { op: "put", key: "c-6", value: 1 },
          { op: "delete", key: "c-2" }
        ])
    }
  },
  config: {
    methods: Object.keys(configMethods),
    noun: nouns.config,
    calls: {
      set: (client) => client.config().set("prices", { someVat: 0.2 }),
      get: (client) => client.config().get("prices"),
      patch: (client) => client.config().patch("prices", { fee: 1 }),
      list: (client) => client.config().list(),
      delete: (client) => client.config().delete("prices")
    }
  },
  secrets: {
    methods: Object.keys(secretsMethods),
    noun: nouns.secrets,
    calls: {
      set: (client) => client.secrets.set("STRIPE_KEY", "sk_2"),
      get: (client) => client.secrets.get("STRIPE_KEY"),
      list: (client) => client.secrets.list(),
      delete: (client) => client.secrets.delete("STRIPE_KEY")
    }
  },
  consumerGroups: {
    methods: Object.keys(consumerGroupsMethods),
    noun: nouns.groups,
    calls: {
      create: (client) =>
        client.consumerGroups.create({
          name: "mailers",
          pattern: "events:mail.*",
          maxInflight: 5,
          ackMode: "manual",
          filter: "event.data.total > 1"
        }),
      get: (client) => client.consumerGroups.get("readers", inLibrary),
      list: (client) =>
        client.consumerGroups.list({ namespace: "default", name: "printers", status: "active" }),
      update: (client) => client.consumerGroups.update("printers", { maxInflight: 7 }),
      pause: (client) => client.consumerGroups.pause("readers", { ...inLibrary, by: "me", reason: "paper" }),
      resume: (client) => client.consumerGroups.resume("readers", inLibrary),
      deadLetters: (client) => client.consumerGroups.deadLetters("printers", { limit: 1, after: 1 }),
      retryDeadLetter: (client) => client.consumerGroups.retryDeadLetter("printers", 1),
      retryDeadLetters: (client) => client.consumerGroups.retryDeadLetters("printers"),
      delete: (client) => client.consumerGroups.delete("printers")
    }
  },
  projections: {
    methods: Object.keys(projectionsMethods),
    noun: nouns.projections,
    calls: {
      get: (client) => client.projections.get("totals", { partition: "ada" }),
      list: (client) => client.projections.list(),
      status: (client) => client.projections.status("totals"),
      waitForCatchup: (client) => client.projections.waitForCatchup("totals", { after: 1, timeout: 30_000 }),
      rebuild: (client) => client.projections.rebuild("totals"),
      pause: (client) => client.projections.pause("totals", { by: "me", reason: "look" }),
      resume: (client) => client.projections.resume("stopped"),
      delete: (client) => client.projections.delete("totals"),
      deadLetters: (client) => client.projections.deadLetters("counts", { limit: 1, after: 1 }),
      retryDeadLetter: (client) => client.projections.retryDeadLetter("counts", 1),
      retryDeadLetters: (client) => client.projections.retryDeadLetters("counts")
    }
  },
  apiKeys: {
    methods: Object.keys(apiKeysMethods),
    noun: nouns.apikeys,
    calls: {
      create: (client) =>
        client.apiKeys.create({
          name: "ci",
          env_id: "env_default",
          role_ids: ["role_viewer"],
          expires_in: "1h"
        }),
      list: (client) => client.apiKeys.list(),
      get: (client, given) => client.apiKeys.get(id(given)),
      rotate: (client, given) => client.apiKeys.rotate(id(given), { overlap: "1h" }),
      delete: (client, given) => client.apiKeys.delete(id(given))
    }
  },
  orgs: {
    methods: Object.keys(orgsMethods),
    noun: nouns.orgs,
    calls: {
      create: (client) => client.orgs.create({ name: "Acme" }),
      list: (client) => client.orgs.list(),
      get: (client, given) => client.orgs.get(id(given)),
      update: (client, given) => client.orgs.update(id(given), { name: "Acme 2" }),
      delete: (client, given) => client.orgs.delete(id(given))
    }
  },
  roles: {
    methods: Object.keys(rolesMethods),
    noun: nouns.roles,
    calls: {
      create: (client) => client.roles.create({ name: "deployer", org_id: "org_default" }),
      list: (client) => client.roles.list("org_default"),
      get: (client, given) => client.roles.get(id(given)),
      update: (client, given) => client.roles.update(id(given), { name: "packer" }),
      delete: (client, given) => client.roles.delete(id(given)),
      assignPolicy: (client, { policy = "", ...given }) => client.roles.assignPolicy(id(given), policy),
      removePolicy: (client, { policy = "", ...given }) => client.roles.removePolicy(id(given), policy)
    }
  },
  policies: {
    methods: Object.keys(policiesMethods),
    noun: nouns.policies,
    calls: {
      create: (client) =>
        client.policies.create({
          ...rule,
          condition: 'request.environment == "default"',
          org_id: "org_default"
        }),
      list: (client) => client.policies.list("org_default"),
      get: (client, given) => client.policies.get(id(given)),
      update: (client, given) => client.policies.update(id(given), { name: "fewer orders", condition: "" }),
      delete: (client, given) => client.policies.delete(id(given))
    }
  },
  pushEndpoints: {
    methods: Object.keys(pushEndpointsMethods),
    noun: nouns.push,
    calls: {
      register: (client, { handler = "" }) => client.pushEndpoints.register(handler),
      list: (client) => client.pushEndpoints.list(),
      remove: (client, { handler = "" }) => client.pushEndpoints.remove(handler)
    }
  }
}
