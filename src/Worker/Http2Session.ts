/**
 * The one HTTP/2 connection of one stream, for ConnectRPC. Whatever goes wrong with it ends the stream, which says why; the
 * connection itself is listened to for as long as it is there, since an `error` that nobody hears ends the process.
 */
import * as http2 from "node:http2"
import type { createConnectTransport } from "@connectrpc/connect-node"

type SessionManager = NonNullable<
  Extract<Parameters<typeof createConnectTransport>[0], { readonly httpVersion: "2" }>["sessionManager"]
>

export class Http2Session implements SessionManager {
  readonly authority: string
  #session: http2.ClientHttp2Session | undefined

  constructor(url: string) {
    this.authority = new URL(url).origin
  }

  async request(
    method: string,
    path: string,
    headers: http2.OutgoingHttpHeaders,
    options: http2.ClientSessionRequestOptions
  ): Promise<http2.ClientHttp2Stream> {
    if (this.#session === undefined) {
      this.#session = http2.connect(this.authority)
      this.#session.on("error", () => undefined)
    }
    return this.#session.request({ ...headers, ":method": method, ":path": path }, options)
  }

  /** The engine sends heartbeats of its own: nothing has to be kept of what was read. */
  notifyResponseByteRead(): void {}

  close(): void {
    this.#session?.destroy(undefined, http2.constants.NGHTTP2_CANCEL)
  }
}
