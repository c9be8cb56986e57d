/**
 * The engine of a shop whose worker is another process: `node --conditions=@ironflow/source engine.ts '{"database",
 * "port"}'`. Prints `ready` when it listens. SIGTERM closes it.
 */
import process from "node:process"
import { startEngine } from "@ironflow/node/engine"

const { database, port } = JSON.parse(process.argv[2] ?? "") as {
  readonly database: string
  readonly port: number
}

const engine = await startEngine({ filename: database, listen: { port }, logger: false })
process.once("SIGTERM", () => void engine.close())
process.stdout.write("ready\n")
