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
