/** What an editor shows for a file: the answers of the language server that editors use. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process"
import fs from "node:fs"
import path from "node:path"
import process from "node:process"
import { pathToFileURL } from "node:url"
import { tsc } from "./Declarations.ts"

interface Place {
  /** Both start at 0. */
  readonly line: number
  readonly character: number
}

export interface Editor extends AsyncDisposable {
  /** The code that the editor shows when the pointer rests on each of the places. */
  readonly hovers: (file: string, places: ReadonlyArray<Place>) => Promise<ReadonlyArray<string>>
}

interface Message {
  readonly id?: number | string
  readonly method?: string
  readonly result?: unknown
  readonly error?: { readonly message: string }
}

interface Hover {
  readonly contents: { readonly value: string }
}

const patienceMs = 30_000

/** Opens an editor at a folder that has a tsconfig.json. */
export const openEditor = async (folder: string): Promise<Editor> => {
  const server = spawn(process.execPath, [tsc, "--lsp", "--stdio"], { cwd: folder })
  const ended = new Promise<void>((resolve) => server.once("exit", () => resolve()))
  const { notify, request } = connect(server)
  await request("initialize", {
    processId: process.pid,
    rootUri: pathToFileURL(folder).href,
    capabilities: { textDocument: { hover: { contentFormat: ["markdown"] } } }
  })
  notify("initialized", {})

  return {
    hovers: async (file, places) => {
      const uri = pathToFileURL(path.join(folder, file)).href
      const text = fs.readFileSync(path.join(folder, file), "utf8")
      notify("textDocument/didOpen", { textDocument: { uri, languageId: "typescript", version: 1, text } })
      const answers = await Promise.all(
        places.map((position) => request("textDocument/hover", { textDocument: { uri }, position }))
      )
      return answers.map((answer) => codeOf(answer as Hover | null))
    },
    [Symbol.asyncDispose]: async () => {
      await request("shutdown", undefined)
      notify("exit", undefined)
      server.stdin.end()
      await ended
    }
  }
}

const codeOf = (hover: Hover | null): string =>
  /^```\w*\n(?<code>[^]*?)\n```/.exec(hover?.contents.value ?? "")?.groups?.code ?? "(nothing)"

/** JSON-RPC of language servers: each message follows a header with its length. */
const connect = (server: ChildProcessWithoutNullStreams) => {
  const waiting = new Map<number | string, (message: Message) => void>()
  let received = Buffer.alloc(0)
  let lastId = 0

  const send = (message: object): void => {
    const body = JSON.stringify({ jsonrpc: "2.0", ...message })
    server.stdin.write(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
  }
  const take = (message: Message): void => {
    if (message.id === undefined) return
    if (message.method === undefined) waiting.get(message.id)?.(message)
    // the server asks for settings or registers a capability: an empty answer is enough
    else send({ id: message.id, result: null })
  }
  server.stdout.on("data", (chunk: Buffer) => {
    received = Buffer.concat([received, chunk])
    for (;;) {
      const header = /^Content-Length: (\d+)\r\n(?:[^\r]+\r\n)*\r\n/.exec(received.toString("latin1"))
      if (header === null) return
      const end = header[0].length + Number(header[1])
      if (received.length < end) return
      take(JSON.parse(received.subarray(header[0].length, end).toString("utf8")))
      received = received.subarray(end)
    }
  })

  return {
    notify: (method: string, params: unknown) => send({ method, params }),
    request: (method: string, params: unknown): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const id = ++lastId
        const timer = setTimeout(
          () => reject(new Error(`No answer to ${method} in ${patienceMs} ms`)),
          patienceMs
        )
        waiting.set(id, ({ error, result }) => {
          clearTimeout(timer)
          waiting.delete(id)
          if (error === undefined) resolve(result)
          else reject(new Error(`${method}: ${error.message}`))
        })
        send({ id, method, params })
      })
  }
}
