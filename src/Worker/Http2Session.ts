/**
 * The HTTP/2 connection of one stream, for ConnectRPC. Any error ends the stream with that error. The `error`
 * listener stays as long as the connection, since an `error` event without a listener ends the process.
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

  /** Does nothing with the reads that ConnectRPC reports: the engine sends heartbeats of its own. */
  notifyResponseByteRead(): void {}

  close(): void {
    this.#session?.destroy(undefined, http2.constants.NGHTTP2_CANCEL)
  }
}
