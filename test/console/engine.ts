/** An engine with the console in a process of its own: `engine.ts <port> <database> <folder of the console>`. */
import process from "node:process"
import { start } from "../wire/Ironflow.ts"

const [port, filename = "", consoleFolder = ""] = process.argv.slice(2)
const { url } = await start({ port: Number(port), filename, consoleFolder })
console.log(`listens at ${url}`)
