/** An engine with the console in a separate process, and its processor time. Linux only. */
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"
import process from "node:process"
import { createInterface } from "node:readline"
import { buildConsole } from "../console.config.ts"

/** Starts the engine on a database in a new folder. The caller ends the process and removes the folder. */
export const startConsole = async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "ironflow-bench-console-"))
  await buildConsole(path.join(folder, "console"))
  const engine = spawn(
    process.execPath,
    [
      "--conditions=@ironflow/source",
      "--disable-warning=ExperimentalWarning",
      path.join(import.meta.dirname, "../test/console/engine.ts"),
      "0",
      path.join(folder, "ironflow.db"),
      path.join(folder, "console")
    ],
    { stdio: ["ignore", "pipe", "inherit"] }
  )
  let url = ""
  for await (const line of createInterface({ input: engine.stdout })) {
    url = /http:\S+/.exec(line)?.[0] ?? ""
    break
  }

  /** The engine's processor time so far, in milliseconds. */
  const cpuMs = (): number => {
    const fields = readFileSync(`/proc/${engine.pid}/stat`, "utf8").split(") ")[1]!.split(" ")
    return (Number(fields[11]) + Number(fields[12])) * 10
  }
  return { cpuMs, engine, folder, url }
}
