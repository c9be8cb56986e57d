/** A push endpoint that answers garbage. The seed and the number of the input decide the answer. */
import http from "node:http"
import type { AddressInfo } from "node:net"
import type { Dice } from "../../durability/Plan.ts"
import { description, diceFor } from "./Inputs.ts"
import { mutateBytes, mutateJson } from "./Mutate.ts"
import { opsOf } from "./Turns.ts"

export class Garbage {
  readonly url: string
  readonly #server: http.Server

  private constructor(server: http.Server, url: string) {
    this.#server = server
    this.url = url
  }

  static async listen(seed: number): Promise<Garbage> {
    const server = http.createServer((request, response) => {
      const parts: Array<Buffer> = []
      request.on("data", (chunk: Buffer) => parts.push(chunk))
      request.on("error", () => undefined)
      response.on("error", () => undefined)
      request.on("end", () => answer(seed, request.url ?? "/", Buffer.concat(parts).toString(), response))
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    return new Garbage(server, `http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }
}

const answer = (seed: number, url: string, question: string, response: http.ServerResponse): void => {
  const number = /"index\\*":(\d+)/.exec(question)?.[1] ?? /\/odd\/(\d+)/.exec(url)?.[1] ?? "0"
  // another seed than that of the input, so that the two do not roll the same numbers
  const dice = diceFor(seed ^ 0x5bd1e995, Number(number))
  const isTurn = question.includes('"type":"turn"')
  if (!isTurn && url === "/good") {
    response.setHeader("content-type", "application/json")
    return void response.end(JSON.stringify(description))
  }
  respond(dice, isTurn ? turnAnswer(dice) : description, response)
}

/** Half of the answers let the run continue. */
const turnAnswer = (dice: Dice): unknown => ({ type: "turn", ops: opsOf(dice, dice.between(1, 6) > 1) })

const respond = (dice: Dice, value: unknown, response: http.ServerResponse): void => {
  const text = dice.between(1, 2) === 1 ? JSON.stringify(value) : mutateJson(dice, value)
  const { socket } = response
  switch (dice.between(1, 16)) {
    case 1:
      return void socket?.destroy()
    case 2:
      return void socket?.end(
        mutateBytes(dice, Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`))
      )
    case 3:
      response.writeHead(dice.pick([204, 301, 302, 304, 400, 401, 404, 410, 429, 500, 503]), {
        location: dice.pick(["/good", "http://127.0.0.1:1/", "file:///x"]),
        "retry-after": dice.pick(["-1", "1e9", "x"])
      })
      return void response.end(text)
    case 4:
      response.writeHead(200, {
        "content-type": "application/json",
        "content-encoding": dice.pick(["gzip", "br", "deflate", "x"])
      })
      return void response.end(text)
    case 5:
      // sends less than its content-length says
      response.writeHead(200, { "content-length": String(text.length + 10) })
      response.write(text)
      return void setTimeout(() => socket?.destroy(), 200)
    case 6:
      response.writeHead(200, { "content-type": "application/json" })
      for (let i = 0; i < dice.pick([20, 330]); i++) response.write("x".repeat(65_536))
      return void response.end()
    case 7:
      return void response.writeHead(200).end(mutateBytes(dice, Buffer.from(text)))
    default:
      response.writeHead(200, { "content-type": "application/json" })
      response.end(text)
  }
}
