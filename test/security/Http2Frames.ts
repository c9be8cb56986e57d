/** Frames of HTTP/2, written by hand. */

export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

export const http2Frame = (
  type: number,
  flags: number,
  stream: number,
  payload: Buffer,
  length = payload.length
): Buffer => {
  const head = Buffer.alloc(9)
  head.writeUIntBE(length & 0xffffff, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream >>> 0, 5)
  return Buffer.concat([head, payload])
}

/** Header fields as literals without an index. */
export const hpack = (fields: ReadonlyArray<readonly [string, string]>): Buffer =>
  Buffer.concat(
    fields.map(([name, value]) => {
      const part = (written: string): Buffer => {
        const bytes = Buffer.from(written)
        return Buffer.concat([
          Buffer.from(bytes.length < 127 ? [bytes.length] : [127, ...rest(bytes.length - 127)]),
          bytes
        ])
      }
      return Buffer.concat([Buffer.from([0]), part(name), part(value)])
    })
  )
const rest = (n: number): Array<number> => (n < 128 ? [n] : [(n % 128) | 128, ...rest(Math.floor(n / 128))])

/** The beginning of a client's connection, with the default settings of the protocol. */
export const BEGIN = Buffer.concat([PREFACE, http2Frame(4, 0, 0, Buffer.alloc(0))])

/** The headers of a request, with or without a body. */
export const http2Request = (stream: number, path: string, method: "GET" | "POST" = "GET"): Buffer =>
  http2Frame(
    1,
    method === "GET" ? 5 : 4,
    stream,
    hpack([
      [":method", method],
      [":path", path],
      [":scheme", "http"],
      [":authority", "127.0.0.1"],
      ...(method === "GET" ? [] : [["content-type", "application/json"] as const])
    ])
  )

/** Resets a request. */
export const http2Reset = (stream: number): Buffer => http2Frame(3, 0, stream, Buffer.from([0, 0, 0, 8]))
