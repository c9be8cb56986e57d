/**
 * The engine of a storm, with the functions in it when the transport is memory: `node --conditions=@ironflow/source
 * engine.ts '<EngineOptions as JSON>'`. Prints `ready` when it listens. SIGTERM closes it.
 */
import process from "node:process"
import { startEngine } from "@ironflow/node/engine"
import { openSideLog } from "../SideLog.ts"
import { makeAllFunctions, SIGNING_KEY } from "./functions.ts"
import { pushTimeoutMs } from "./Plan.ts"

export interface EngineOptions {
  readonly by: string
  readonly life: number
  readonly database: string
  readonly port: number
  readonly leaseMs: number
  /** Set when the functions run in this process. */
  readonly memory?: { readonly sideLog: string; readonly bells: ReadonlyArray<string> } | undefined
}

const { by, database, leaseMs, life, memory, port } = JSON.parse(process.argv[2] ?? "") as EngineOptions

const embed = ({ bells, sideLog }: NonNullable<EngineOptions["memory"]>) => {
  const log = openSideLog(sideLog, () => undefined, by)
  log.append({ t: "life", life })
  return { functions: makeAllFunctions(log, bells), maxConcurrentJobs: 32 }
}

const options = {
  filename: database,
  listen: { port, leaseTerm: leaseMs },
  logger: false,
  push: { allowPrivateNetworks: true, signingKey: SIGNING_KEY, timeout: pushTimeoutMs(leaseMs) },
  ...(memory === undefined ? {} : embed(memory))
} as const
const engine = await startEngine(options)
process.once("SIGTERM", () => void engine.close())
process.stdout.write("ready\n")
