/** The files in `deploy/` for several engines on Postgres are valid, and the engines that they start work together. */
import fs from "node:fs"
import path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { parse, parseAllDocuments } from "yaml"
import { z } from "zod"
import { createClient } from "../../src/index.ts"
import { runSql } from "../postgres/Schemas.ts"
import { sharedUrl } from "../postgres/Server.ts"
import { freePort, Terminal } from "./Terminal.ts"

const folder = path.join(import.meta.dirname, "../../deploy")
const read = (name: string): string => fs.readFileSync(path.join(folder, name), "utf8")

const compose = parse(read("docker-compose-postgres.yml"))
const documentsOf = (name: string) =>
  parseAllDocuments(read(name)).map((document) => {
    if (document.errors.length > 0) throw document.errors[0]
    return document.toJS()
  })
const [service, engine, budget, workers] = documentsOf("kubernetes-postgres.yaml")
const onFile = documentsOf("kubernetes.yaml")
const container = engine.spec.template.spec.containers[0]

const KEY = "k".repeat(40)
const database = `deploy_${process.pid}`
const terminal = new Terminal({
  "functions.ts": `
import { createFunction } from "@ironflow/node"
export default createFunction({ id: "hello", triggers: [{ event: "greeted" }] }, ({ step }) => step.run("greet", () => "hello"))
`
})
let url: URL
beforeAll(async () => {
  url = new URL(await sharedUrl())
  await runSql(`CREATE DATABASE ${database}`)
  url.pathname = `/${database}`
})
afterAll(async () => {
  await terminal[Symbol.asyncDispose]()
  await runSql(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`)
})

describe("engines that are started from the manifest", () => {
  it("share work, and one continues when the other stops", { timeout: 240_000 }, async () => {
    const args: ReadonlyArray<string> = container.args
    const graceSeconds: number = engine.spec.template.spec.terminationGracePeriodSeconds
    const env = {
      IRONFLOW_DATABASE_URL: url.href,
      IRONFLOW_BOOTSTRAP_KEY: KEY,
      IRONFLOW_MASTER_KEY: "ab".repeat(32)
    }
    const start = async () => {
      const port = String(await freePort())
      const here = args.map((arg, i) =>
        args[i - 1] === "--port" ? port : args[i - 1] === "--host" ? "127.0.0.1" : arg
      )
      const running = terminal.start(here, { env })
      await running.until("listens at")
      return { running, serverUrl: `http://127.0.0.1:${port}` }
    }
    const [first, second] = [await start(), await start()]
    const worker = terminal.start(["worker", "./functions.ts"], {
      env: { IRONFLOW_SERVER_URL: second.serverUrl, IRONFLOW_API_KEY: KEY }
    })
    await worker.until("runs hello")
    const clientOf = ({ serverUrl }: { serverUrl: string }) => createClient({ serverUrl, apiKey: KEY })
    const [one, other] = [clientOf(first), clientOf(second)]
    const { runIds } = await one.emit("greeted", {})
    assert.strictEqual((await one.waitForRun(runIds[0] ?? "")).output, "hello")

    const begunAt = performance.now()
    first.running.signal("SIGTERM")
    const ended = await first.running.ended
    assert.strictEqual(ended.code, 0, ended.stderr)
    assert.isBelow(performance.now() - begunAt, graceSeconds * 1000)
    const again = await other.emit("greeted", {})
    assert.strictEqual((await other.waitForRun(again.runIds[0] ?? "")).output, "hello")
    await Promise.all([one.close(), other.close()])
    worker.signal("SIGTERM")
    await worker.ended
    second.running.signal("SIGTERM")
    await second.running.ended
  })
})

describe("the manifest for Kubernetes with Postgres", () => {
  it("follows the API where it differs from the manifest for a file", () => {
    const [serviceOnFile, engineOnFile, workersOnFile] = onFile
    assert.deepStrictEqual(service, serviceOnFile)
    assert.deepStrictEqual(workers, workersOnFile)
    const {
      args: _args,
      env,
      image,
      name,
      volumeMounts: _mounts,
      ...rest
    } = engineOnFile.spec.template.spec.containers[0]
    assert.deepStrictEqual(
      { ...container, args: undefined, env: undefined },
      { ...rest, image, name, args: undefined, env: undefined }
    )
    assert.deepStrictEqual(container.env.slice(1), env)
    const labels = z.record(z.string(), z.string())
    const selector = z.strictObject({ matchLabels: labels })
    const spread = z.strictObject({
      maxSkew: z.int().min(1),
      topologyKey: z.string(),
      whenUnsatisfiable: z.enum(["DoNotSchedule", "ScheduleAnyway"]),
      labelSelector: selector
    })
    const deployment = z.strictObject({
      apiVersion: z.literal("apps/v1"),
      kind: z.literal("Deployment"),
      metadata: z.strictObject({ name: z.string(), labels }),
      spec: z.strictObject({
        replicas: z.int().min(2),
        strategy: z.strictObject({
          type: z.literal("RollingUpdate"),
          rollingUpdate: z.strictObject({ maxSurge: z.int(), maxUnavailable: z.int() })
        }),
        selector,
        template: z.strictObject({
          metadata: z.strictObject({ labels, annotations: labels }),
          spec: z.looseObject({ topologySpreadConstraints: z.tuple([spread]) })
        })
      })
    })
    assert.isUndefined(deployment.safeParse(engine).error)
    const disruption = z.strictObject({
      apiVersion: z.literal("policy/v1"),
      kind: z.literal("PodDisruptionBudget"),
      metadata: z.strictObject({ name: z.string(), labels }),
      spec: z.strictObject({ maxUnavailable: z.int().min(1), selector })
    })
    assert.isUndefined(disruption.safeParse(budget).error)
    assert.deepStrictEqual(engine.spec.template.metadata.labels, engine.spec.selector.matchLabels)
    assert.deepStrictEqual(budget.spec.selector, engine.spec.selector)
  })
})

describe("compose with Postgres", () => {
  it("has the services of the compose file without it, and Postgres starts first", () => {
    const compared = parse(read("docker-compose.yml"))
    assert.deepStrictEqual(compose.services.worker, compared.services.worker)
    const { environment, healthcheck } = compared.services.engine
    assert.deepStrictEqual(compose.services.engine.healthcheck, healthcheck)
    assert.containSubset(compose.services.engine, {
      environment,
      depends_on: { postgres: { condition: "service_healthy" } },
      deploy: { replicas: 2 }
    })
    const withoutDrain = (args: ReadonlyArray<string>) =>
      args.filter((arg, i) => arg !== "--drain" && args[i - 1] !== "--drain")
    assert.deepStrictEqual(withoutDrain(compose.services.engine.command), withoutDrain(container.args))
    assert.match(compose.services.engine.ports[0], /^127\.0\.0\.1:\d+-\d+:9123$/)
  })
})
