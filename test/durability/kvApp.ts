/**
 * An engine with its server, and nothing else: what the durability test of keys kills.
 * `node --conditions=@ironflow/source kvApp.ts <database>`; says `ready <url>`.
 */
import process from "node:process"
import { startEngine } from "@ironflow/node/engine"

const engine = await startEngine({ filename: process.argv[2] ?? "", logger: false, listen: { port: 0 } })
process.stdout.write(`ready ${engine.url}\n`)
