/** A program of each API that makes every documented call: it compiles, without a cast and without an `any`. */
import fs from "node:fs"
import path from "node:path"
import { afterAll, describe, expect, test } from "vitest"
import { makeProject } from "./Project.ts"

const read = (file: string): string => fs.readFileSync(path.join(import.meta.dirname, file), "utf8")

/** The types of an API's values, each with a variable, and members that users do not call. */
interface Api {
  readonly types: Readonly<Record<string, string>>
  readonly internal: ReadonlyArray<string>
}

const apis: Readonly<Record<string, Api>> = {
  promise: {
    types: {
      client: "Node.IronflowClient",
      streams: `Node.IronflowClient["streams"]`,
      kv: "Node.KVClient",
      bucket: "Node.KVBucketHandle",
      config: "Node.ConfigClient",
      projections: `Node.IronflowClient["projections"]`,
      apiKeys: `Node.IronflowClient["apiKeys"]`,
      orgs: `Node.IronflowClient["orgs"]`,
      roles: `Node.IronflowClient["roles"]`,
      policies: `Node.IronflowClient["policies"]`,
      secrets: `Node.IronflowClient["secrets"]`,
      consumerGroups: `Node.IronflowClient["consumerGroups"]`,
      pushEndpoints: `Node.IronflowClient["pushEndpoints"]`,
      context: "Node.FunctionContext<string>",
      step: "Node.StepClient",
      tx: "Node.Tx",
      txBucket: "Node.TxKvBucket",
      subscriptions: "Node.SubscriptionClient",
      acked: "Node.AckableSubscription",
      worker: "Node.Worker",
      engine: "Engine.IronflowEngine",
      engineSecrets: "Engine.EngineSecrets",
      handlerSecrets: "Node.SecretsClient",
      testClient: "Kit.TestClient",
      testRun: "Kit.TestRun",
      testEngine: "Kit.IronflowTestEngine",
      definitions: "Node.EventDefinitionRegistry",
      upcasters: "Node.UpcasterRegistry",
      watcher: "Node.KVWatcher"
    },
    // an internal member of a handle, and a name that the user has given
    internal: ["EngineHandle.connection", "KVBucketHandle.name"]
  },
  effect: {
    types: {
      client: `Effect.Client.Client["Service"]`,
      pushEndpoints: `Effect.Client.PushEndpoints["Service"]`,
      streams: `Effect.Streams.Streams["Service"]`,
      kv: `Effect.Kv.Kv["Service"]`,
      bucket: "Effect.Kv.KvBucket",
      config: `Effect.IronflowConfig.Config["Service"]`,
      projections: `Effect.Projections.Projections["Service"]`,
      apiKeys: `Effect.ApiKeys.ApiKeys["Service"]`,
      orgs: `Effect.Orgs.Orgs["Service"]`,
      roles: `Effect.Roles.Roles["Service"]`,
      policies: `Effect.Policies.Policies["Service"]`,
      secrets: `Effect.Secrets.Secrets["Service"]`,
      consumerGroups: `Effect.ConsumerGroups.ConsumerGroups["Service"]`,
      subscriptions: `Effect.Subscriptions.Subscriptions["Service"]`,
      context: "Effect.IronflowFunction.EffectFunctionContext<string>",
      step: `Effect.Step.Step["Service"]`,
      tx: "Effect.Step.EffectTx",
      worker: `Effect.Worker.Worker["Service"]`,
      testEngine: `Effect.Testing.TestEngine["Service"]`
    },
    internal: []
  }
}

const surfaceOf = (api: Api): string =>
  [
    'import type * as Node from "@ironflow/node"',
    'import type * as Engine from "@ironflow/node/engine"',
    'import type * as Effect from "@ironflow/node/effect"',
    'import type * as Kit from "@ironflow/node/test"',
    ...Object.entries(api.types).map(([name, type]) => `export declare const ${name}: ${type}`)
  ].join("\n")

/** Whether a member is used. `Step.run` of the module `Step` counts as a use of the service `Step`. */
const isUsed = (member: string, uses: ReadonlySet<string>): boolean =>
  uses.has(member) || uses.has(member.replace(/^StepService\./, "Step."))

const project = makeProject(
  Object.fromEntries(
    Object.entries(apis).flatMap(([name, api]) => [
      [`${name}.ts`, read(`program.${name}.ts`)],
      [`${name}-surface.ts`, surfaceOf(api)]
    ])
  )
)
afterAll(() => project[Symbol.dispose]())

test("the programs compile", () => {
  expect(project.complaints()).toEqual([])
})

describe.each(Object.entries(apis))("the program of the %s API", (name, api) => {
  test("makes every existing call", () => {
    const members = Object.keys(api.types).flatMap((variable) =>
      project.members(`${name}-surface.ts`, variable)
    )
    const uses = project.uses(`${name}.ts`)

    expect(members.filter((member) => !isUsed(member, uses) && !api.internal.includes(member))).toEqual([])
  })

  test("has no cast", () => {
    expect(project.casts(`${name}.ts`)).toEqual([])
  })

  test("has no value of type any", () => {
    expect(project.anys(`${name}.ts`)).toEqual([])
  })
})
