/**
 * A streaming worker like that of another SDK: HTTP/2, with envelopes and protocol buffers written and read by hand, by the
 * tables of the protocol. It shares no code with this package.
 */
import { once } from "node:events"
import * as http2 from "node:http2"

// ---------------------------------------------------------------------------------------------------------------------
// Protocol buffers
// ---------------------------------------------------------------------------------------------------------------------

const varint = (n: number): Array<number> =>
  n < 128 ? [n] : [(n % 128) | 128, ...varint(Math.floor(n / 128))]

export const int = (field: number, value: number): Buffer =>
  Buffer.from([...varint(field * 8), ...varint(value)])
/** The tag and the length that precede the bytes of a field. */
export const head = (field: number, length: number): Buffer =>
  Buffer.from([...varint(field * 8 + 2), ...varint(length)])
export const message = (field: number, ...parts: ReadonlyArray<Buffer>): Buffer => {
  const bytes = Buffer.concat(parts)
  return Buffer.concat([head(field, bytes.length), bytes])
}
export const text = (field: number, value: string): Buffer => message(field, Buffer.from(value))

/** A `Struct` with texts and numbers. */
export const struct = (field: number, object: Record<string, string | number>): Buffer =>
  message(
    field,
    ...Object.entries(object).map(([key, value]) => {
      const number = Buffer.alloc(9)
      number[0] = 17
      if (typeof value === "number") number.writeDoubleLE(value, 1)
      return message(1, text(1, key), message(2, typeof value === "string" ? text(3, value) : number))
    })
  )

export const timestamp = (field: number, epochMs: number): Buffer =>
  message(field, int(1, Math.floor(epochMs / 1000)), int(2, (epochMs % 1000) * 1e6))

/** The fields of a message by number: numbers, and bytes that may be messages. */
export class Fields {
  readonly #values = new Map<number, Array<number | Buffer>>()

  constructor(bytes: Buffer) {
    let at = 0
    const number = (): number => {
      let value = 0
      for (let scale = 1; ; scale *= 128) {
        const byte = bytes[at++]!
        value += (byte & 127) * scale
        if (byte < 128) return value
      }
    }
    while (at < bytes.length) {
      const tag = number()
      const field = Math.floor(tag / 8)
      const values = this.#values.get(field) ?? []
      this.#values.set(field, values)
      if (tag % 8 === 0) values.push(number())
      else if (tag % 8 === 1) values.push(bytes.readDoubleLE((at += 8) - 8))
      else {
        const length = number()
        values.push(bytes.subarray(at, (at += length)))
      }
    }
  }

  has(field: number): boolean {
    return this.#values.has(field)
  }

  text(field: number): string {
    return String(this.#values.get(field)?.[0] ?? "")
  }

  int(field: number): number {
    return Number(this.#values.get(field)?.[0] ?? 0)
  }

  all(field: number): ReadonlyArray<Fields> {
    return (this.#values.get(field) ?? []).map((bytes) => new Fields(bytes as Buffer))
  }

  message(field: number): Fields {
    return this.all(field)[0] ?? new Fields(Buffer.alloc(0))
  }

  /** A `Struct` with texts and numbers. */
  struct(field: number): Record<string, unknown> {
    return Object.fromEntries(
      this.message(field)
        .all(1)
        .map((entry) => {
          const value = entry.message(2)
          return [entry.text(1), value.has(3) ? value.text(3) : value.has(2) ? value.int(2) : null]
        })
    )
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// The stream
// ---------------------------------------------------------------------------------------------------------------------

export const envelope = (payload: Buffer, flags = 0): Buffer => {
  const head = Buffer.alloc(5)
  head[0] = flags
  head.writeUInt32BE(payload.length, 1)
  return Buffer.concat([head, payload])
}

/** The field numbers of the engine's messages. */
export const REGISTERED = 1
export const JOB = 2
export const STEP_ACK = 3
export const CANCEL = 5

export class RawStream implements AsyncDisposable {
  readonly session: http2.ClientHttp2Session
  readonly stream: http2.ClientHttp2Stream
  readonly #waiting: Array<Buffer> = []
  #rest = Buffer.alloc(0)
  #wake: () => void = () => undefined
  /** The JSON that the stream ended with. */
  end: { readonly error?: { readonly code: string; readonly message: string } } | undefined
  sawGoAway = false

  constructor(url: string, headers: Record<string, string> = {}) {
    this.session = http2.connect(url)
    this.session.on("error", () => undefined)
    this.session.on("goaway", () => (this.sawGoAway = true))
    this.stream = this.session.request({
      ":method": "POST",
      ":path": "/ironflow.v1.WorkerService/Connect",
      "content-type": "application/connect+proto",
      "connect-protocol-version": "1",
      "connect-accept-encoding": "gzip,br",
      "user-agent": "connect-es/1.0.0",
      ...headers
    })
    this.stream.on("error", () => undefined)
    this.stream.on("data", (chunk: Buffer) => {
      this.#rest = Buffer.concat([this.#rest, chunk])
      while (this.#rest.length >= 5 && this.#rest.length >= 5 + this.#rest.readUInt32BE(1)) {
        const length = this.#rest.readUInt32BE(1)
        const payload = this.#rest.subarray(5, 5 + length)
        if (this.#rest[0] === 2) this.end = JSON.parse(payload.toString())
        else this.#waiting.push(payload)
        this.#rest = this.#rest.subarray(5 + length)
      }
      this.#wake()
    })
    this.stream.on("close", () => this.#wake())
  }

  send(payload: Buffer): void {
    this.stream.write(envelope(payload))
  }

  /** The bytes of the next message. */
  async bytes(): Promise<Buffer> {
    for (;;) {
      const next = this.#waiting.shift()
      if (next !== undefined) return next
      if (this.stream.closed) throw new Error(`The stream has ended: ${JSON.stringify(this.end)}`)
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  /** How many messages have arrived and were not taken. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** The next message; fails if it is of another kind. */
  async next(kind: number): Promise<Fields> {
    const fields = new Fields(await this.bytes())
    if (!fields.has(kind)) throw new Error(`The next message is not of kind ${kind}`)
    return fields.message(kind)
  }

  register(workerId: string, functionIds: ReadonlyArray<string>, maxConcurrentJobs = 10): void {
    this.send(
      message(
        1,
        text(1, workerId),
        text(2, "host"),
        ...functionIds.map((id) => text(3, id)),
        int(4, maxConcurrentJobs),
        message(6, text(1, "0.8.0"), text(2, "node-v22"))
      )
    )
  }

  /** Takes the next job and acknowledges it. */
  async job(): Promise<Fields> {
    const job = await this.next(JOB)
    this.send(message(9, text(1, job.text(1))))
    return job
  }

  heartbeat(workerId: string, jobIds: ReadonlyArray<string>): void {
    const jobs = jobIds.map((id) => message(3, text(1, id), timestamp(2, Date.now())))
    this.send(message(2, text(1, workerId), int(2, jobs.length), ...jobs))
  }

  async closed(): Promise<void> {
    if (!this.stream.closed) await once(this.stream, "close")
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.session.destroy()
  }
}
