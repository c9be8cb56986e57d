/** An engine with whole turns, played by a test behind Effect's `HttpClient`: it uses no sockets, and the clock of the test. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import { HttpClientError, TransportError } from "effect/http/HttpClientError"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import { readSealed } from "../../src/Protocol/Seal.ts"

export interface Turned {
  /** The last part of the path: `register`, `poll`, `reports`, `late`, or the worker's id for its sign-off. */
  readonly what: string
  readonly method: string
  readonly query: string
  readonly body: any
  readonly answer: (status: number, body?: unknown) => void
  readonly hangUp: () => void
  answered: boolean
}

/** The sealed content. Every request has a seal. */
const readUnsealed = (text: string): unknown => {
  const { sum, ...body } = readSealed(text, (text): { readonly sum?: string } => JSON.parse(text))
  if (sum === undefined) throw new Error("A request of a worker has no seal")
  return body
}

export class ScriptedTurns {
  readonly requests: Array<Turned> = []
  /** An immediate answer. `undefined` means the usual answer, which is none for a poll. */
  answer: (
    request: Turned
  ) => { readonly status: number; readonly body?: unknown } | "hang up" | "no answer" | undefined = () =>
    undefined
  terms: Record<string, unknown> = {
    capabilities: { turns: 1 },
    session: "ses-1",
    leaseMs: 30_000,
    presenceMs: 5000,
    waitMs: 20_000,
    maxBodyBytes: 1_000_000,
    lost: []
  }
  #watchers = new Set<() => void>()

  readonly layer: Layer.Layer<HttpClient.HttpClient> = Layer.succeed(
    HttpClient.HttpClient,
    HttpClient.make((request, url) =>
      Effect.suspend(() => {
        const done = Deferred.makeUnsafe<HttpClientResponse.HttpClientResponse, HttpClientError>()
        const text =
          request.body._tag === "Uint8Array" ? new TextDecoder().decode(request.body.body) : undefined
        const turned: Turned = {
          what: url.pathname.split("/").at(-1)!,
          method: request.method,
          query: url.search,
          body: text === undefined ? undefined : readUnsealed(text),
          answered: false,
          answer: (status, body) => {
            turned.answered = true
            const response = new Response(body === undefined ? null : JSON.stringify(body), { status })
            Deferred.doneUnsafe(done, Effect.succeed(HttpClientResponse.fromWeb(request, response)))
            this.changed()
          },
          hangUp: () => {
            turned.answered = true
            const cause = Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" })
            Deferred.doneUnsafe(
              done,
              Effect.fail(new HttpClientError({ reason: new TransportError({ request, cause }) }))
            )
            this.changed()
          }
        }
        this.requests.push(turned)
        const reply = this.answer(turned) ?? this.#usual(turned)
        if (reply === "hang up") turned.hangUp()
        else if (reply !== undefined && reply !== "no answer") turned.answer(reply.status, reply.body)
        this.changed()
        return Deferred.await(done)
      })
    )
  )

  #usual({ body, method, what }: Turned) {
    if (what === "register") return { status: 200, body: this.terms }
    if (what === "late" || method === "DELETE") return { status: 204 }
    if (what !== "reports") return undefined
    const acks = body.reports.map((report: any) => ({
      _tag: "Accepted",
      outcomes: report.ops.map(() => null)
    }))
    return { status: 200, body: { acks } }
  }

  of(what: string): Array<Turned> {
    return this.requests.filter((request) => request.what === what)
  }

  /** The poll that waits for an answer. */
  get openPoll(): Turned | undefined {
    return this.of("poll").findLast(({ answered }) => !answered)
  }

  /** Waits for an open poll with these fields. */
  poll(fields: Record<string, unknown> = {}): Effect.Effect<Turned> {
    const matching = () => {
      const open = this.openPoll
      return open !== undefined && Object.entries(fields).every(([key, value]) => open.body[key] === value)
    }
    return Effect.map(this.until(matching), () => this.openPoll!)
  }

  until(holds: () => boolean): Effect.Effect<void> {
    return Effect.promise(
      () =>
        new Promise<void>((resolve) => {
          const look = () => {
            if (!holds()) return
            this.#watchers.delete(look)
            resolve()
          }
          this.#watchers.add(look)
          look()
        })
    )
  }

  changed(): void {
    for (const look of this.#watchers) look()
  }
}
