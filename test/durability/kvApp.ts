/**
 * An engine with its server, which the durability test of keys kills. `node --conditions=@ironflow/source kvApp.ts
 * <database> <port>`; prints `ready <url>`.
 */
import process from "node:process"
import { startEngine } from "@ironflow/node/engine"

const [, , filename = "", port = "0"] = process.argv
const engine = await startEngine({ filename, logger: false, listen: { port: Number(port) } })
process.stdout.write(`ready ${engine.url}\n`)
