/** Our runner of projections on a legacy Ironflow server, which is played by a script. */
import { assert, describe, it } from "vitest"
import { createNoopLogger, createProjection, createWorker } from "@ironflow/node"
import { LegacyServer } from "./LegacyServer.ts"

const SERVICE = "/ironflow.v1.ProjectionService/"

const event = (seq: number, amount: number, more: object = {}) => ({
  id: `evt-${seq}`,
  name: "order.placed",
  data: { amount },
  seq: String(seq),
  timestamp: "2026-01-02T03:04:05.000Z",
  ...more
})

/** The part of such a server that keeps one projection: it hands out the events after its position. */
class Projection {
  readonly registrations: Array<any> = []
  readonly saves: Array<any> = []
  readonly acks: Array<any> = []
  readonly log: Array<any>
  readonly states = new Map<string, any>()
  position = 0
  refuse = 0

  constructor(log: Array<any>) {
    this.log = log
  }

  answer(method: string, body: any): { readonly status?: number; readonly body?: unknown } {
    switch (method) {
      case "RegisterProjection":
        this.registrations.push(body)
        return { body: {} }
      case "GetProjection":
        return { body: { state: this.states.get(body.partition ?? "__global__") } }
      case "PollProjectionEvents": {
        const events = this.log.filter(({ seq }) => Number(seq) > this.position).slice(0, body.batchSize)
        return { body: { events, currentState: this.states.get("__global__") ?? null } }
      }
      case "SaveProjectionState":
        if (this.refuse-- > 0) return { status: 409, body: { code: "aborted", message: "stale" } }
        this.saves.push(body)
        this.states.set(body.partitionKey, body.state)
        this.position = Math.max(this.position, Number(body.lastEventSeq))
        return { body: {} }
      case "AckProjectionEvents":
        this.acks.push(body)
        this.position = Number(body.lastEventSeq)
        return { body: {} }
      default:
        return { status: 404, body: "404 page not found" }
    }
  }
}

/** Starts a worker for the server. */
const startWorker = (server: LegacyServer, projection: any) => {
  const worker = createWorker({
    serverUrl: server.url,
    functions: [],
    projections: [projection],
    logger: createNoopLogger(),
    environment: "staging",
    apiKey: "key-1"
  })
  const stopped = worker.start()
  return {
    worker,
    [Symbol.asyncDispose]: async () => {
      await worker.stop()
      await stopped
    }
  }
}

const working = async (projection: any, log: Array<any>) => {
  const server = await LegacyServer.start()
  const kept = new Projection(log)
  server.override = ({ body, path }) =>
    path.startsWith(SERVICE) ? kept.answer(path.slice(SERVICE.length), body) : undefined
  const started = startWorker(server, projection)
  return {
    server,
    kept,
    [Symbol.asyncDispose]: async () => {
      await started[Symbol.asyncDispose]()
      await server[Symbol.asyncDispose]()
    }
  }
}

const totals = createProjection({
  name: "totals",
  events: ["order.placed"],
  batchSize: 2,
  maxRetries: 0,
  initialState: () => ({ total: 0 }),
  handler: (state, event) => {
    if (event.data.amount < 0) throw new Error("negative")
    return { total: state.total + event.data.amount }
  }
})

describe("a projection on a legacy server", () => {
  it("is registered and polled in the legacy protocol, and saves its state", async () => {
    await using it = await working(totals, [event(1, 1), event(2, 2), event(5, 4)])
    await it.server.http.until(() => it.kept.position === 5)

    const asked = it.server.http.asked.find(({ path }) => path.endsWith("/PollProjectionEvents"))
    assert.deepStrictEqual(it.kept.registrations, [
      { name: "totals", events: ["order.placed"], mode: "managed", version: 1, partitionKey: "" }
    ])
    assert.deepStrictEqual(asked?.body, { name: "totals", batchSize: 2 })
    assert.strictEqual(asked?.headers["x-ironflow-environment"], "staging")
    assert.strictEqual(asked?.headers.authorization, "Bearer key-1")
    assert.deepStrictEqual(it.kept.saves, [
      {
        name: "totals",
        partitionKey: "__global__",
        state: { total: 3 },
        lastEventId: "evt-2",
        lastEventSeq: 2,
        lastEventTime: "2026-01-02T03:04:05.000Z"
      },
      {
        name: "totals",
        partitionKey: "__global__",
        state: { total: 7 },
        lastEventId: "evt-5",
        lastEventSeq: 5,
        lastEventTime: "2026-01-02T03:04:05.000Z"
      }
    ])
  })

  it("continues from the state of the server", async () => {
    const log: Array<any> = []
    await using it = await working(totals, log)
    it.kept.states.set("__global__", { total: 40 })
    log.push(event(9, 2))
    await it.server.http.until(() => it.kept.position === 9)

    assert.deepStrictEqual(it.kept.states.get("__global__"), { total: 42 })
  })

  it("continues after an event that cannot be folded, and after a refused save", async () => {
    const log: Array<any> = []
    await using it = await working(totals, log)
    it.kept.refuse = 1
    log.push(event(1, 1), event(2, -1), event(3, 2))
    await it.server.http.until(() => it.kept.position === 3)

    assert.deepStrictEqual(it.kept.states.get("__global__"), { total: 3 })
  })

  it("starts over when the server was reset", async () => {
    await using it = await working(totals, [event(1, 1), event(2, 2)])
    await it.server.http.until(() => it.kept.position === 2)
    it.kept.position = 0
    it.kept.states.clear()
    await it.server.http.until(() => it.kept.saves.length === 2)

    assert.strictEqual(it.kept.registrations.length, 2)
    assert.deepStrictEqual(it.kept.states.get("__global__"), { total: 3 })
  })

  it("acknowledges a batch when every handler has ended, and skips heartbeats", async () => {
    const seen: Array<unknown> = []
    const mails = createProjection({
      name: "mails",
      events: ["order.placed"],
      handler: async (event) => {
        await Promise.resolve()
        seen.push(event.entity === undefined ? event.seq : [event.seq, event.entity])
      }
    })
    const entity = { id: "o-1", type: "order", version: 1 }
    await using it = await working(mails, [
      event(1, 1, { entity }),
      event(2, 0, { kind: "PROJECTION_EVENT_KIND_HEARTBEAT" }),
      event(3, 1)
    ])
    await it.server.http.until(() => it.kept.acks.length === 1)

    assert.deepStrictEqual(seen, [[1, entity], 3])
    assert.deepStrictEqual(it.kept.acks, [{ name: "mails", lastEventId: "evt-3", lastEventSeq: 3 }])
  })

  it("is skipped when the server has no projections, and the worker still becomes ready", async () => {
    await using server = await LegacyServer.start()
    server.override = ({ path }) =>
      path.startsWith(SERVICE) ? { status: 404, body: "404 page not found" } : undefined
    await using started = startWorker(server, totals)
    await started.worker.ready()

    const asked = server.http.asked.filter(({ path }) => path.startsWith(SERVICE))

    assert.deepStrictEqual(
      asked.map(({ path }) => path),
      [`${SERVICE}RegisterProjection`]
    )
  })

  it("is registered by the time its worker is ready", async () => {
    await using server = await LegacyServer.start()
    const kept = new Projection([])
    let outages = 1
    server.override = ({ body, path }) => {
      if (!path.startsWith(SERVICE)) return undefined
      if (outages-- > 0) return { status: 503 }
      return kept.answer(path.slice(SERVICE.length), body)
    }
    await using started = startWorker(server, totals)
    await started.worker.ready()

    assert.strictEqual(kept.registrations.length, 1)
  })
})
