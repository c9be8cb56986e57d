/** The files in `deploy/` are valid, and what they start runs, as far as this machine allows. */
import { spawnSync } from "node:child_process"
import fs from "node:fs"
import path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { parse, parseAllDocuments } from "yaml"
import { z } from "zod"
import { freePort, Terminal } from "./Terminal.ts"

const folder = path.join(import.meta.dirname, "../../deploy")
const read = (name: string): string => fs.readFileSync(path.join(folder, name), "utf8")

const KEY = "k".repeat(40)
const env = { IRONFLOW_BOOTSTRAP_KEY: KEY, IRONFLOW_MASTER_KEY: "ab".repeat(32) }

/** The sections of a unit, with the values of each name. */
const unit = (name: string) => {
  const sections: Record<string, Record<string, Array<string>>> = {}
  let section: Record<string, Array<string>> = {}
  for (const line of read(name).split("\n")) {
    if (line === "" || line.startsWith("#")) continue
    const [, heading] = /^\[(\w+)\]$/.exec(line) ?? []
    if (heading !== undefined) {
      section = sections[heading] ??= {}
      continue
    }
    const [, key, value] = /^(\w+)=(.*)$/.exec(line) ?? []
    if (key === undefined || value === undefined) throw new Error(`${name}: "${line}" is no setting`)
    ;(section[key] ??= []).push(value)
  }
  return sections
}

/** The instructions of the Dockerfile, in their order. */
const instructions = read("Dockerfile")
  .split("\n")
  .filter((line) => line !== "" && !line.startsWith("#"))
  .map((line) => {
    const [, name = "", rest = ""] = /^([A-Z]+) (.*)$/.exec(line) ?? []
    return { name, rest }
  })
const instruction = (name: string): string => {
  const found = instructions.find((one) => one.name === name)
  if (found === undefined) throw new Error(`There is no ${name}`)
  return found.rest
}
const command: ReadonlyArray<string> = JSON.parse(instruction("CMD"))

const compose = parse(read("docker-compose.yml"))
const manifest = parseAllDocuments(read("kubernetes.yaml")).map((document) => {
  if (document.errors.length > 0) throw document.errors[0]
  return document.toJS()
})

const seconds = (text: string): number => Number(/^(\d+)s?$/.exec(text)?.[1])
const flagOf = (args: ReadonlyArray<string>, flag: string): string => args[args.indexOf(flag) + 1] ?? ""
/** The same command on a free port of this machine, with its data in a temporary folder. */
const here = (args: ReadonlyArray<string>, port: number): ReadonlyArray<string> =>
  args.map((arg, i) =>
    args[i - 1] === "--port"
      ? String(port)
      : args[i - 1] === "--host"
        ? "127.0.0.1"
        : args[i - 1] === "--data"
          ? `${port}-${path.basename(arg)}`
          : arg
  )

const terminal = new Terminal({
  "functions.ts": `
import { createFunction } from "@ironflow/node"
export default createFunction({ id: "hello", triggers: [{ event: "greeted" }] }, ({ step }) => step.run("greet", () => "hello"))
`
})
beforeAll(() => fs.mkdirSync(terminal.pathOf("data")))
afterAll(() => terminal[Symbol.asyncDispose]())

const engineOfUnit = unit("ironflow.service")
const workerOfUnit = unit("ironflow-worker.service")
const argsOf = (sections: typeof engineOfUnit): ReadonlyArray<string> =>
  (sections.Service?.ExecStart?.[0] ?? "").split(" ").slice(1)
const [service, engine, workers] = manifest
const container = engine.spec.template.spec.containers[0]
const workerContainer = workers.spec.template.spec.containers[0]

const waysToStart: ReadonlyArray<readonly [string, ReadonlyArray<string>, number]> = [
  ["the unit of systemd", argsOf(engineOfUnit), seconds(engineOfUnit.Service?.TimeoutStopSec?.[0] ?? "")],
  ["the Dockerfile, and compose", command, seconds(compose.services.engine.stop_grace_period)],
  ["Kubernetes", container.args, engine.spec.template.spec.terminationGracePeriodSeconds]
]

describe("an engine that is started from its systemd unit", () => {
  it.each(waysToStart)(
    "by %s answers its probes, and stops within its time",
    { timeout: 60_000 },
    async (_, args, graceSeconds) => {
      const port = await freePort()
      const url = `http://127.0.0.1:${port}`
      const running = terminal.start(here(args, port), { env })
      await running.until("listens at")
      const workerArgs = here(argsOf(workerOfUnit), port)
      const worker = terminal.start([...workerArgs, "--worker-id", `w-${port}`], {
        env: { IRONFLOW_SERVER_URL: url, IRONFLOW_API_KEY: KEY }
      })
      await worker.until(`Worker w-${port} runs hello`)
      const probes = await Promise.all(
        ["/health", "/ready"].map(async (at) => (await fetch(url + at)).status)
      )
      const denied = (await fetch(`${url}/api/v1/workers`)).status
      const check = terminal.start(["doctor"], { env: { IRONFLOW_SERVER_URL: url, IRONFLOW_API_KEY: KEY } })
      const { code } = await check.ended
      const probe = compose.services.engine.healthcheck.test.slice(2) as ReadonlyArray<string>
      const healthy = await new Promise<number | null>((resolve) => {
        const { status } = spawnSync(process.execPath, [
          ...probe.slice(0, 1),
          probe[1]!.replace("127.0.0.1:9123", `127.0.0.1:${port}`)
        ])
        resolve(status)
      })
      running.signal("SIGTERM")
      await running.until("reports that it is not ready")
      const draining = (await fetch(`${url}/ready`)).status
      worker.signal("SIGTERM")
      const [ended] = await Promise.all([running.ended, worker.ended])

      assert.deepStrictEqual(
        { probes, denied, draining, healthy, code },
        { probes: [200, 200], denied: 401, draining: 503, healthy: 0, code: 0 }
      )
      assert.strictEqual(ended.code, 0, ended.stderr)
      // there is time left for what it does after its drain
      assert.isAtLeast(graceSeconds - seconds(flagOf(args, "--drain")), 5)
    }
  )
})

describe("a worker that is started from its systemd unit", () => {
  it("has the time of its turns, and a little more, to stop", () => {
    const times = [
      seconds(workerOfUnit.Service?.TimeoutStopSec?.[0] ?? ""),
      seconds(compose.services.worker.stop_grace_period),
      workers.spec.template.spec.terminationGracePeriodSeconds
    ]
    assert.isTrue(
      times.every((time) => time > 30),
      String(times)
    )
    assert.deepStrictEqual(compose.services.worker.command.slice(0, 2), ["worker", "./functions.ts"])
    assert.deepStrictEqual(workerContainer.args.slice(0, 2), ["worker", "./functions.ts"])
  })
})

describe("systemd", () => {
  const has = spawnSync("systemd-analyze", ["--version"]).status === 0

  it.skipIf(!has)("accepts the units", () => {
    for (const name of ["ironflow.service", "ironflow-worker.service"]) {
      // the programs are not installed on this machine
      const text = read(name).replace(/^ExecStart=\S+/m, "ExecStart=/bin/true")
      terminal.write(name, text)
      const { stderr } = spawnSync("systemd-analyze", ["verify", "--man=no", terminal.pathOf(name)], {
        encoding: "utf8"
      })
      assert.deepStrictEqual(
        stderr.split("\n").filter((line) => line.includes(name)),
        []
      )
    }
  })

  it("keeps the data private to the user of the engine, and restarts the engine", () => {
    const { Service } = engineOfUnit
    assert.deepInclude(Service, {
      StateDirectory: ["ironflow"],
      StateDirectoryMode: ["0700"],
      Restart: ["always"]
    })
    assert.strictEqual(path.dirname(flagOf(argsOf(engineOfUnit), "--data")), "/var/lib/ironflow")
  })
})

describe("the Dockerfile", () => {
  it("has only valid instructions, and does not run as root", () => {
    assert.deepStrictEqual(
      instructions.map(({ name }) => name),
      [
        "FROM",
        "ENV",
        "WORKDIR",
        "COPY",
        "RUN",
        "COPY",
        "RUN",
        "VOLUME",
        "USER",
        "EXPOSE",
        "ENTRYPOINT",
        "CMD"
      ]
    )
    assert.strictEqual(instruction("USER"), "node")
    assert.strictEqual(path.dirname(flagOf(command, "--data")), instruction("VOLUME"))
    assert.deepStrictEqual(JSON.parse(instruction("ENTRYPOINT")), ["node_modules/.bin/ironflow"])
  })
})

describe("compose", () => {
  it("follows the format", () => {
    const common = {
      build: z.string(),
      environment: z.record(z.string().regex(/^IRONFLOW_/), z.string()),
      restart: z.literal("unless-stopped"),
      stop_grace_period: z.string().regex(/^\d+s$/)
    }
    const format = z.strictObject({
      services: z.strictObject({
        engine: z.strictObject({
          ...common,
          volumes: z.tuple([z.literal("data:/data")]),
          ports: z.array(z.string().regex(/^127\.0\.0\.1:\d+:\d+$/)),
          healthcheck: z.strictObject({
            test: z.array(z.string()),
            interval: z.string(),
            timeout: z.string(),
            start_period: z.string()
          })
        }),
        worker: z.strictObject({
          ...common,
          command: z.array(z.string()),
          depends_on: z.strictObject({ engine: z.strictObject({ condition: z.literal("service_healthy") }) }),
          deploy: z.strictObject({ replicas: z.int() })
        })
      }),
      volumes: z.strictObject({ data: z.null() })
    })
    assert.isUndefined(format.safeParse(compose).error)
  })
})

/**
 * What Kubernetes accepts of what these files use: https://kubernetes.io/docs/reference/kubernetes-api. Other members are
 * refused.
 */
const kubernetes = () => {
  const name = z.string().regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/)
  const labels = z.record(z.string(), z.string())
  const metadata = z.strictObject({ name, labels: labels.optional() })
  const probe = z.strictObject({
    httpGet: z.strictObject({ path: z.enum(["/health", "/ready"]), port: z.literal("http") }),
    periodSeconds: z.int().min(1).optional(),
    timeoutSeconds: z.int().min(1).optional(),
    failureThreshold: z.int().min(1).optional()
  })
  const quantity = z.string().regex(/^\d+(m|Mi|Gi)?$/)
  const amounts = z.strictObject({ cpu: quantity.optional(), memory: quantity.optional() })
  const env = z.strictObject({
    name: z.string().regex(/^IRONFLOW_/),
    value: z.string().optional(),
    valueFrom: z.strictObject({ secretKeyRef: z.strictObject({ name, key: z.string() }) }).optional()
  })
  const container = z.strictObject({
    name,
    image: z.string(),
    args: z.array(z.string()),
    env: z.array(env),
    ports: z.array(z.strictObject({ name, containerPort: z.int() })).optional(),
    startupProbe: probe.optional(),
    livenessProbe: probe.optional(),
    readinessProbe: probe.optional(),
    resources: z.strictObject({ requests: amounts, limits: amounts }),
    volumeMounts: z.array(z.strictObject({ name, mountPath: z.string() })).optional()
  })
  const template = z.strictObject({
    metadata: z.strictObject({ labels, annotations: labels.optional() }),
    spec: z.strictObject({
      terminationGracePeriodSeconds: z.int(),
      securityContext: z.strictObject({
        runAsNonRoot: z.literal(true),
        runAsUser: z.int(),
        fsGroup: z.int().optional(),
        fsGroupChangePolicy: z.enum(["OnRootMismatch", "Always"]).optional()
      }),
      containers: z.tuple([container])
    })
  })
  const selector = z.strictObject({ matchLabels: labels })
  return z.tuple([
    z.strictObject({
      apiVersion: z.literal("v1"),
      kind: z.literal("Service"),
      metadata,
      spec: z.strictObject({
        selector: labels,
        ports: z.array(z.strictObject({ name, port: z.int(), targetPort: z.literal("http") }))
      })
    }),
    z.strictObject({
      apiVersion: z.literal("apps/v1"),
      kind: z.literal("StatefulSet"),
      metadata,
      spec: z.strictObject({
        serviceName: name,
        replicas: z.literal(1),
        selector,
        template,
        volumeClaimTemplates: z.array(
          z.strictObject({
            metadata: z.strictObject({ name }),
            spec: z.strictObject({
              accessModes: z.tuple([z.literal("ReadWriteOnce")]),
              resources: z.strictObject({ requests: z.strictObject({ storage: quantity }) })
            })
          })
        )
      })
    }),
    z.strictObject({
      apiVersion: z.literal("apps/v1"),
      kind: z.literal("Deployment"),
      metadata,
      spec: z.strictObject({ replicas: z.int(), selector, template })
    })
  ])
}

describe("the manifest for Kubernetes", () => {
  it("follows the API", () => {
    assert.isUndefined(kubernetes().safeParse(manifest).error)
  })

  it("is consistent: labels, ports, volumes and the data folder", () => {
    for (const { spec } of [engine, workers]) {
      assert.deepStrictEqual(spec.template.metadata.labels, spec.selector.matchLabels)
    }
    assert.deepStrictEqual(service.spec.selector, engine.spec.selector.matchLabels)
    assert.strictEqual(engine.spec.serviceName, service.metadata.name)
    assert.strictEqual(String(container.ports[0].containerPort), flagOf(container.args, "--port"))
    assert.strictEqual(path.dirname(flagOf(container.args, "--data")), container.volumeMounts[0].mountPath)
    assert.strictEqual(container.volumeMounts[0].name, engine.spec.volumeClaimTemplates[0].metadata.name)
    assert.strictEqual(
      workerContainer.env[0].value,
      `http://${service.metadata.name}:${service.spec.ports[0].port}`
    )
  })
})
