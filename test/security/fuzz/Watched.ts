/** The fuzzer's side of `watcher.ts`: starts it, receives what broke, and requests its figures at the end. */
import { type ChildProcess, fork } from "node:child_process"
import path from "node:path"
import { freePort } from "../../Cli/Terminal.ts"
import { nodeArguments } from "../../Built.ts"

export interface Bounds {
  readonly healthMs: number
  readonly loopMs: number
  readonly rssMb: number
  /** The limit from an event of the good client to the end of its run. */
  readonly runMs: number
}

export interface WatcherOptions {
  readonly folder: string
  readonly port: number
  readonly appPort: number
  readonly bootstrapKey?: string
  readonly bounds: Bounds
}

/** The highest values observed. */
export interface Report {
  readonly server: { readonly healthMs: number; readonly rssMb: number; readonly loopMs: number }
  readonly app: Report["server"]
  /** Runs of the good client. */
  readonly runs: number
  readonly runMs: number
}

export type FromWatcher =
  | { readonly type: "ready"; readonly url: string; readonly appUrl: string }
  | { readonly type: "broken"; readonly how: string }
  | { readonly type: "report"; readonly report: Report }

export class Watcher {
  readonly #child: ChildProcess
  /** Describes what broke. */
  broken: string | undefined
  url = ""
  appUrl = ""

  private constructor(child: ChildProcess) {
    this.#child = child
    child.on("message", (message: FromWatcher) => {
      if (message.type === "broken") this.#break(message.how)
    })
    child.once("exit", (code) => {
      if (code !== 0) this.#break(`The watcher has ended with ${code}`)
    })
  }

  static async start(options: Omit<WatcherOptions, "port" | "appPort">): Promise<Watcher> {
    const ports = { port: await freePort(), appPort: await freePort() }
    const child = fork(
      path.join(import.meta.dirname, "watcher.ts"),
      [JSON.stringify({ ...options, ...ports })],
      {
        execArgv: [...nodeArguments()]
      }
    )
    const watcher = new Watcher(child)
    const { appUrl, url } = await watcher.#next("ready")
    watcher.url = url
    watcher.appUrl = appUrl
    return watcher
  }

  /** Ends the watcher, and all that it has started. Returns its figures; `undefined` if it had already ended. */
  async end(): Promise<Report | undefined> {
    if (this.#child.exitCode !== null) return undefined
    const report = this.#next("report").then(
      (message) => message.report,
      () => undefined
    )
    this.#child.send("end")
    return await report
  }

  /** Keeps several messages, because the first is not always the cause. A limit cuts off a long list. */
  #break(how: string): void {
    if (this.broken === undefined) this.broken = how
    else if (this.broken.length < 10_000 && !this.broken.includes(how)) this.broken += `\n${how}`
  }

  #next<Type extends FromWatcher["type"]>(
    type: Type
  ): Promise<Extract<FromWatcher, { readonly type: Type }>> {
    return new Promise((resolve, reject) => {
      const settle = (act: () => void): void => {
        clearTimeout(limit)
        this.#child.off("message", hear).off("exit", ended)
        act()
      }
      const hear = (message: FromWatcher): void => {
        if (message.type === type)
          settle(() => resolve(message as Extract<FromWatcher, { readonly type: Type }>))
      }
      const ended = (): void => settle(() => reject(new Error(this.broken ?? "The watcher has ended")))
      const limit = setTimeout(() => {
        // the watcher notices this, and ends all that it has started
        this.#child.disconnect()
        settle(() => reject(new Error(`The watcher did not say "${type}" within a minute`)))
      }, 60_000)
      this.#child.on("message", hear).once("exit", ended)
    })
  }
}
