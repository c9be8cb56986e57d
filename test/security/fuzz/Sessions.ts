/**
 * Odd messages in a working session: a worker has registered, its session is open, and it holds a real job of a real run. Over
 * polling, effect/rpc and ConnectRPC.
 */
import { once } from "node:events"
import { setTimeout as delay } from "node:timers/promises"
import { WebSocket } from "ws"
import type { Dice } from "../../durability/Plan.ts"
import { JOB, RawStream, REGISTERED } from "../../wire/RawStream.ts"
import { registrationOf } from "../../wire/RawTurnWorker.ts"
import { mutateBytes, mutateJson } from "./Mutate.ts"
import { ANSWER_MS, HELD_MS, Problem, type Target } from "./Target.ts"
import { opsOf } from "./Turns.ts"

export const sessionKinds = ["polling", "rpc", "connect"] as const
export type SessionKind = (typeof sessionKinds)[number]

/** How long a worker waits for a job, in milliseconds: another one may have taken the run. */
const JOB_MS = 2000

/**
 * What the session is about. There are few names, so that a long run of the fuzzer does not fill the registry of functions.
 */
interface Held {
  readonly worker: string
  readonly fn: string
  readonly event: string
  readonly runId: string
}

interface Job {
  readonly session: string
  readonly jobId: string
  readonly runId: string
}

/** A request over an open connection. */
type Odd = readonly [call: "reports" | "poll" | "late" | "room", body: unknown]

const oddOnes = (dice: Dice, { jobId, runId, session }: Job): ReadonlyArray<Odd> =>
  Array.from({ length: dice.between(2, 6) }, (_, i): Odd => {
    const report = { jobId, runId, ops: opsOf(dice, dice.between(1, 3) === 1) }
    return dice.pick<Odd>([
      ["reports", { session, batch: i + 1, reports: [report] }],
      ["reports", { session, batch: i + 1, reports: [report, report], asked: 2, holding: [jobId] }],
      ["poll", { session, asked: 2, withdrawn: 0, seen: 1, waitMs: 5, holding: [jobId] }],
      ["late", { session, runId, stepName: "a", lingerMs: 5 }],
      ["room", { session, asked: 3, withdrawn: 1, holding: [jobId] }]
    ])
  })

/** The value as JSON: unchanged, so that the engine accepts it, or mutated. */
const written = (dice: Dice, value: unknown): string =>
  dice.between(1, 3) === 1 ? JSON.stringify(value) : mutateJson(dice, value)

const registering = ({ event, fn, worker }: Held) => ({
  worker_id: worker,
  hostname: "host-1",
  function_ids: [],
  capabilities: { turns: 1, renewals: true },
  registration: registrationOf(worker, [{ id: fn, event }]),
  instance: `instance-${worker}`,
  jobs: []
})

const call = (target: Target, method: string, path: string, body: unknown, waits = false) =>
  target.call(
    target.url,
    method,
    path,
    target.adminHeaders,
    body === undefined ? undefined : Buffer.from(typeof body === "string" ? body : JSON.stringify(body)),
    waits
  )

const overPolling = async (dice: Dice, target: Target, held: Held): Promise<void> => {
  const path = `/api/v1/workers/${held.worker}`
  const registered = await call(target, "POST", `${path}/register`, registering(held))
  const session = /"session":"([^"]+)"/.exec(registered?.text ?? "")?.[1]
  if (session === undefined) throw new Problem(`did not register a worker: ${registered?.text}`)
  const polled = await call(
    target,
    "POST",
    `${path}/turns/poll`,
    { session, asked: 1, seen: 0, waitMs: 500 },
    true
  )
  const job = jobIn(polled?.text ?? "")
  for (const [name, body] of oddOnes(dice, { session, runId: held.runId, jobId: job ?? "job_1" })) {
    if (name !== "room") await call(target, "POST", `${path}/turns/${name}`, written(dice, body), true)
  }
  await call(target, "DELETE", `${path}?session=${session}`, undefined)
}

const jobIn = (text: string): string | undefined => /"jobId\\?":\\?"([^"\\]+)/.exec(text)?.[1]

const overRpc = async (dice: Dice, target: Target, held: Held): Promise<void> => {
  const socket = new WebSocket(`${target.url.replace("http", "ws")}/rpc/worker`, {
    headers: target.adminHeaders
  })
  let received = ""
  let onMessage: () => void = () => undefined
  socket.on("error", () => undefined)
  socket.on("message", (data) => {
    received += String(data)
    onMessage()
  })
  socket.on("close", () => onMessage())
  const until = async (pattern: RegExp, limitMs: number): Promise<string | undefined> => {
    const limit = delay(limitMs, true)
    for (;;) {
      const found = pattern.exec(received)?.[1]
      if (found !== undefined || socket.readyState !== socket.OPEN) return found
      if ((await Promise.race([new Promise<void>((resolve) => (onMessage = resolve)), limit])) === true)
        return undefined
    }
  }
  try {
    await once(socket, "open")
    let id = 0
    const request = (tag: string, payload: unknown): string =>
      JSON.stringify({ _tag: "Request", id: String(++id), tag, payload, headers: [] })
    socket.send(request("work", registering(held)))
    const begun = performance.now()
    const session = await until(/"session\\?":\\?"([^"\\]+)/, ANSWER_MS)
    if (session === undefined) {
      const after = Math.round(performance.now() - begun)
      throw new Problem(`did not register a worker within ${after} ms: ${received.slice(0, 500)}`)
    }
    // the server sends the next message after an acknowledgement of the first
    socket.send(JSON.stringify({ _tag: "Ack", requestId: "1" }))
    socket.send(request("room", { session, asked: 1, withdrawn: 0 }))
    const jobId = (await until(/"jobId\\?":\\?"([^"\\]+)/, JOB_MS)) ?? "job_1"
    for (const [name, body] of oddOnes(dice, { session, jobId, runId: held.runId })) {
      const frame = request(name === "reports" ? "report" : name === "poll" ? "leave" : name, body)
      socket.send(dice.between(1, 3) === 1 ? frame : mutateJson(dice, JSON.parse(frame)), () => undefined)
      await delay(5)
    }
    await delay(HELD_MS / 4)
    if (/INTERNAL_ERROR|"_tag":"Die"/.test(received)) throw new Problem(`sent ${received.slice(-500)}`)
  } finally {
    socket.terminate()
  }
}

const overConnect = async (
  dice: Dice,
  target: Target,
  held: Held,
  messages: (jobId: string) => ReadonlyArray<Buffer>
): Promise<void> => {
  await using stream = new RawStream(target.url, target.adminHeaders)
  stream.register(held.worker, [held.fn])
  const jobId = await Promise.race([
    (async () => {
      await stream.next(REGISTERED)
      return (await stream.next(JOB)).text(1)
    })(),
    delay(JOB_MS).then(() => "job_1")
  ])
  for (let n = dice.between(2, 6); n > 0; n--) {
    const chosen = dice.pick(messages(jobId))
    stream.send(dice.between(1, 3) === 1 ? chosen : mutateBytes(dice, chosen))
    await delay(5)
  }
  await delay(HELD_MS / 4)
  if (stream.end?.error?.code === "internal") throw new Problem(`sent ${JSON.stringify(stream.end)}`)
}

/** Opens a session, takes a job, and sends odd messages about it. Cancels the run in the end. */
export const inSession = async (
  dice: Dice,
  target: Target,
  index: number,
  kind: SessionKind,
  messages: (jobId: string) => ReadonlyArray<Buffer>
): Promise<void> => {
  const nameNumber = index % 16
  const fn = `held-${kind}-${nameNumber}`
  const event = `held.${kind}.${nameNumber}`
  const [registration] = registrationOf("w", [{ id: fn, event }]).functions
  await call(target, "POST", "/ironflow.v1.IronflowService/RegisterFunction", registration)
  const emitted = await call(target, "POST", "/ironflow.v1.IronflowService/Trigger", {
    event,
    data: { id: "o-1" }
  })
  const runId = /"(run_[^"]+)"/.exec(emitted?.text ?? "")?.[1]
  if (runId === undefined) throw new Problem(`started no run: ${emitted?.text}`)
  const held = { worker: `worker-${kind}-${index}`, fn, event, runId }
  try {
    if (kind === "polling") await overPolling(dice, target, held)
    else if (kind === "rpc") await overRpc(dice, target, held)
    else await overConnect(dice, target, held, messages)
  } finally {
    await call(target, "POST", "/ironflow.v1.IronflowService/CancelRun", { id: runId })
  }
}
