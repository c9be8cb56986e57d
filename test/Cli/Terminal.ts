/** A terminal in a folder of its own: it runs the real command there, and watches its output. */
import { type ChildProcess, spawn } from "node:child_process"
import fs from "node:fs"
import { createServer } from "node:net"
import os from "node:os"
import path from "node:path"
import { commandArguments, nodeArguments, packageFolder } from "../Built.ts"

const repository = path.join(import.meta.dirname, "../..")

/** The environment without the variables for Ironflow of the developer's own shell. */
const environment = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("IRONFLOW_"))),
  NO_COLOR: "1"
}

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly input?: string
  readonly env?: { readonly [name: string]: string }
  /** The largest size of its files, in blocks of 512 or 1024 bytes: a write past it fails as on a full disk. */
  readonly mostBlocks?: number
}

/** A started command. */
export interface Running {
  readonly pid: number
  /** Everything that it has printed so far. */
  readonly output: () => string
  /** Waits until it has printed this `times` times. Fails when it ends before, or after 45 seconds. */
  readonly until: (text: string | RegExp, times?: number) => Promise<string>
  readonly signal: (signal: NodeJS.Signals) => void
  /** Reads no more of its standard output, as `head` does when it has enough. */
  readonly hangUp: () => void
  /** Resolves when it has ended. */
  readonly ended: Promise<Ended>
}

export class Terminal implements AsyncDisposable {
  readonly folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-cli-"))
  readonly #running = new Set<Running>()

  constructor(files: { readonly [name: string]: string } = {}) {
    fs.mkdirSync(this.pathOf("node_modules/@ironflow"), { recursive: true })
    fs.symlinkSync(packageFolder(), this.pathOf("node_modules/@ironflow/node"))
    fs.symlinkSync(path.join(repository, "node_modules/effect"), this.pathOf("node_modules/effect"))
    for (const [name, content] of Object.entries(files)) this.write(name, content)
  }

  pathOf(name: string): string {
    return path.join(this.folder, name)
  }

  write(name: string, content: string): void {
    fs.writeFileSync(this.pathOf(name), content)
  }

  /** Runs `ironflow` with these arguments until it ends. */
  async run(args: ReadonlyArray<string>, options: RunOptions = {}): Promise<Ended> {
    const running = this.start(args, options)
    return await running.ended
  }

  /** Runs `ironflow ... --json` and returns what it printed. Fails when the exit code is not 0. */
  async json(args: ReadonlyArray<string>, options: RunOptions = {}): Promise<any> {
    const { code, stdout, stderr } = await this.run([...args, "--json"], options)
    if (code !== 0) throw new Error(`ironflow ${args.join(" ")} ended with ${code}: ${stderr}`)
    return JSON.parse(stdout)
  }

  start(args: ReadonlyArray<string>, options: RunOptions = {}): Running {
    return this.#spawn([...commandArguments(), ...args], args, options)
  }

  /** Runs a program in the folder. */
  node(file: string, options: RunOptions = {}): Running {
    return this.#spawn([...nodeArguments(), this.pathOf(file)], [file], options)
  }

  #spawn(program: ReadonlyArray<string>, args: ReadonlyArray<string>, options: RunOptions): Running {
    const { env, input, mostBlocks } = options
    const [command = "", ...rest] =
      mostBlocks === undefined
        ? [process.execPath, ...program]
        : ["sh", "-c", `ulimit -f ${mostBlocks}; exec "$0" "$@"`, process.execPath, ...program]
    const child = spawn(command, rest, {
      cwd: this.folder,
      env: { ...environment, ...env }
    })
    child.stdin.end(input ?? "")
    const running = follow(child, args)
    this.#running.add(running)
    running.ended.finally(() => this.#running.delete(running)).catch(() => undefined)
    return running
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [...this.#running]
    for (const running of all) running.signal("SIGKILL")
    await Promise.all(all.map((running) => running.ended))
    fs.rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 })
  }
}

const follow = (child: ChildProcess, args: ReadonlyArray<string>): Running => {
  let stdout = ""
  let stderr = ""
  let exited = false
  const watchers = new Set<() => void>()
  const wake = () => {
    for (const watcher of watchers) watcher()
  }
  child.stdout?.on("data", (chunk: Buffer) => {
    stdout += chunk
    wake()
  })
  child.stderr?.on("data", (chunk: Buffer) => {
    stderr += chunk
    wake()
  })
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once("error", reject)
    // a worker that it has started may hold the pipes for a moment longer
    child.once("exit", (code) => {
      setImmediate(() => {
        exited = true
        wake()
        resolve({ code, stdout, stderr })
      })
    })
  })
  const output = () => stdout + stderr
  return {
    pid: child.pid ?? 0,
    output,
    ended,
    signal: (signal) => void child.kill(signal),
    hangUp: () => void child.stdout?.destroy(),
    until: (text, times = 1) =>
      new Promise((resolve, reject) => {
        const settle = (act: () => void) => {
          clearTimeout(limit)
          watchers.delete(check)
          act()
        }
        const missing = (why: string) =>
          new Error(`ironflow ${args.join(" ")} ${why} before it printed ${text}. It printed:\n${output()}`)
        const check = () => {
          const found = output().split(text).length - 1
          if (found >= times) settle(() => resolve(output()))
          else if (exited) settle(() => reject(missing("ended")))
        }
        const limit = setTimeout(() => settle(() => reject(missing("took 45 seconds"))), 45_000)
        watchers.add(check)
        check()
      })
  }
}

/** A port on which nothing listens. */
export const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await new Promise((resolve) => server.once("listening", resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === "string") throw new Error("A port was asked for")
  return address.port
}

/** Waits until a run has ended, and returns it. */
export const waitForRun = async (url: string, runId: string): Promise<{ state: string; output?: any }> => {
  const response = await fetch(`${url}/api/v1/runs/${runId}/wait?timeout=15000`)
  if (response.status !== 200) throw new Error(`Run ${runId} has not ended: ${response.status}`)
  return (await response.json()) as { state: string; output?: any }
}
