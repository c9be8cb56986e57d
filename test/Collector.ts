/** A receiver of OTLP over HTTP, which shows the spans that it has received as trees. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

interface Received {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes: ReadonlyArray<{
    readonly key: string
    readonly value: { readonly [type: string]: unknown }
  }>
  readonly events: ReadonlyArray<{ readonly name: string }>
  readonly links: ReadonlyArray<{ readonly traceId: string; readonly spanId: string }>
  readonly status: { readonly code?: number }
}

export class Collector implements AsyncDisposable {
  readonly spans: Array<Received> = []
  readonly #server = createServer((request, response) => {
    const parts: Array<Buffer> = []
    request.on("data", (part: Buffer) => parts.push(part))
    request.on("end", () => {
      const body = JSON.parse(Buffer.concat(parts).toString())
      for (const { scopeSpans } of body.resourceSpans ?? [])
        for (const { spans } of scopeSpans) this.spans.push(...spans)
      response.writeHead(200, { "content-type": "application/json" }).end("{}")
    })
  })
  url = ""

  static async open(): Promise<Collector> {
    const collector = new Collector()
    await new Promise<void>((resolve) => collector.#server.listen(0, "127.0.0.1", resolve))
    collector.url = `http://127.0.0.1:${(collector.#server.address() as AddressInfo).port}`
    return collector
  }

  named(name: string): Received {
    const span = this.spans.find((span) => span.name === name)
    if (span === undefined)
      throw new Error(`no span "${name}" among ${this.spans.map(({ name }) => name).join(", ")}`)
    return span
  }

  /** The names of the spans below one, indented, in the order in which they began. Equal siblings appear once. */
  tree({ spanId, traceId }: { readonly spanId: string; readonly traceId: string }, indent = ""): string {
    const below = this.spans
      .filter((span) => span.traceId === traceId && span.parentSpanId === spanId)
      .sort((a, b) => (BigInt(a.startTimeUnixNano) < BigInt(b.startTimeUnixNano) ? -1 : 1))
    const texts = below.map((span) => `${indent}${span.name}\n${this.tree(span, `${indent}  `)}`)
    return texts.join("")
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}
