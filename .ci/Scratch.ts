/**
 * Empty projects in which the packed packages are tested, and the programs that run there. Every command has a time limit, and
 * everything is removed at the end.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"

/** How long a command may take, such as an install from a slow registry or a build on a busy machine. */
const COMMAND_MS = 300_000
/** How long a program may take until it is ready. */
const READY_MS = 60_000

const { NODE_OPTIONS: _options, ...environment } = process.env

export class Scratch {
  readonly folder: string

  constructor(name: string, packages: ReadonlyArray<string>, manifest: object = { type: "module" }) {
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), `ironflow-${name}-`))
    process.on("exit", () => fs.rmSync(this.folder, { recursive: true, force: true }))
    this.write("package.json", JSON.stringify({ name, private: true, ...manifest }))
    this.install(packages)
  }

  install(packages: ReadonlyArray<string>): void {
    this.run("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", "--silent", ...packages])
  }

  write(file: string, content: string): void {
    const where = path.join(this.folder, file)
    fs.mkdirSync(path.dirname(where), { recursive: true })
    fs.writeFileSync(where, content)
  }

  path(file: string): string {
    return path.join(this.folder, file)
  }

  /** The path of a file in `node_modules`. */
  bin(file: string): string {
    return this.path(path.join("node_modules", file))
  }

  /** Runs a program and returns what it prints. If it fails, the error has its whole output. */
  run(program: string, args: ReadonlyArray<string>, env: Record<string, string> = {}): string {
    try {
      return execFileSync(program, args, {
        cwd: this.folder,
        encoding: "utf8",
        env: { ...environment, ...env },
        stdio: ["ignore", "pipe", "pipe"],
        timeout: COMMAND_MS,
        killSignal: "SIGKILL",
        maxBuffer: 64 * 1024 * 1024
      })
    } catch (error) {
      const { stderr = "", stdout = "" } = error as { readonly stderr?: string; readonly stdout?: string }
      throw new Error(`${program} ${args.join(" ")} failed:\n${stdout}${stderr}`, { cause: error })
    }
  }

  /** Starts a program and waits until its output matches `ready`. */
  async start(
    program: string,
    args: ReadonlyArray<string>,
    ready: RegExp,
    env: Record<string, string> = {}
  ): Promise<Started> {
    const child = spawn(program, args, {
      cwd: this.folder,
      env: { ...environment, ...env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    process.on("exit", () => child.kill("SIGKILL"))
    let printed = ""
    const timeout = Promise.withResolvers<never>()
    const found = Promise.withResolvers<RegExpExecArray>()
    const timer = setTimeout(
      () => timeout.reject(new Error(`${program} ${args.join(" ")} is not ready:\n${printed}`)),
      READY_MS
    )
    const read = (text: string): void => {
      printed += text
      const match = ready.exec(printed)
      if (match !== null) found.resolve(match)
    }
    child.stdout.setEncoding("utf8").on("data", read)
    child.stderr.setEncoding("utf8").on("data", read)
    const ended = new Promise<number | null>((resolve) => child.once("close", resolve))
    void ended.then((code) =>
      found.reject(new Error(`${program} ${args.join(" ")} ended with ${code}:\n${printed}`))
    )
    try {
      return new Started(child, ended, await Promise.race([found.promise, timeout.promise]))
    } finally {
      clearTimeout(timer)
    }
  }
}

export class Started {
  readonly match: RegExpExecArray
  readonly #child: ChildProcess
  readonly #ended: Promise<number | null>

  constructor(child: ChildProcess, ended: Promise<number | null>, match: RegExpExecArray) {
    this.#child = child
    this.#ended = ended
    this.match = match
  }

  /** Ends the program with SIGTERM, and after ten seconds with SIGKILL. Resolves to its exit code. */
  async stop(): Promise<number | null> {
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 10_000)
    this.#child.kill("SIGTERM")
    const code = await this.#ended
    clearTimeout(timer)
    return code
  }
}
