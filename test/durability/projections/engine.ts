/** An engine in its own process: `node engine.ts <database> <port>`. */
import { startEngine } from "@ironflow/node/engine"

const [filename = "", port = "0"] = process.argv.slice(2)
const engine = await startEngine({ filename, listen: { port: Number(port) }, logger: false })
process.stdout.write(`ready ${engine.url}\n`)
