/**
 * A host, which is a process with several subscribers, and is killed: `node --conditions=@ironflow/source client.ts
 * '{"host", "serverUrl", "log"}'`. Each subscriber writes what happens to it into the log, as one appended line with
 * the time of the machine's monotonic clock, so that lines of different processes can be compared. Prints `ready` when
 * all have subscribed.
 */
import fs from "node:fs"
import process from "node:process"
import { setTimeout as delay } from "node:timers/promises"
import { createSubscriptionClient, isIronflowError, type SubscriptionEvent } from "@ironflow/node"
import { WebSocket } from "ws"

export interface HostOptions {
  readonly host: number
  readonly serverUrl: string
  readonly log: string
  /** Decides how long members work on an event, and which events they nak. */
  readonly seed: number
}

/** Milliseconds of a clock that all processes of the machine share. */
export const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6

type Settling = "ack" | "nak" | "term"

interface Entries {
  /** Its process has begun. */
  readonly life: object
  /** It has a connection, or has lost it. */
  readonly up: object
  readonly down: object
  /** The first subscription of this life is confirmed. */
  readonly subscribed: { readonly position?: number }
  readonly got: { readonly id: string; readonly position: number }
  /** The handler of a member that acks by returning is done. */
  readonly done: { readonly id: string }
  /** A member is about to settle an event, and then has the answer. */
  readonly settling: { readonly id: string; readonly how: Settling }
  readonly settled: { readonly id: string; readonly how: Settling }
  readonly refused: { readonly id: string; readonly how: Settling; readonly code: string }
}

export type ClientLine = {
  [T in keyof Entries]: { readonly t: T; readonly who: string; readonly at: number } & Entries[T]
}[keyof Entries]

const run = async ({ host, log, seed, serverUrl }: HostOptions): Promise<void> => {
  const past = fs.existsSync(log)
    ? fs
        .readFileSync(log, "utf8")
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line) as ClientLine)
    : []
  const fd = fs.openSync(log, "a")
  const diary =
    (who: string) =>
    <T extends keyof Entries>(t: T, more: Entries[T]): void =>
      void fs.writeSync(fd, `${JSON.stringify({ t, who, at: monotonic(), ...more })}\n`)

  const connected = (name: string) => {
    const who = `${name}.${host}`
    const say = diary(who)
    say("life", {})
    const client = createSubscriptionClient({
      serverUrl,
      reconnectDelay: 5,
      maxReconnectDelay: 100,
      connectionTimeout: 2000
    })
    let isUp = false
    client.onConnectionChange((state) => {
      if (isUp === (state === "connected")) return
      isUp = !isUp
      say(isUp ? "up" : "down", {})
    })
    /** Repeats until the engine has confirmed the subscription. */
    const insist = async <A>(subscribe: () => Promise<A>): Promise<A> => {
      for (;;) {
        try {
          await client.connect()
          const subscription = await subscribe()
          say("subscribed", {})
          return subscription
        } catch (error) {
          if (!isIronflowError(error) || !error.retryable) throw error
          await delay(5)
        }
      }
    }
    const got = ({ eventId, meta }: SubscriptionEvent): string => {
      const id = String(eventId)
      say("got", { id, position: Number(meta?.sequence) })
      return id
    }
    return { who, client, say, insist, got }
  }

  const watch = (name: string, pattern: string, filter?: string) => {
    const { client, got, insist } = connected(name)
    return insist(() =>
      client.subscribe(pattern, {
        includeMetadata: true,
        onEvent: got,
        ...(filter === undefined ? {} : { filter })
      })
    )
  }

  /** Subscribes and settles events after a while; without a group it acks everything. */
  const settle = async (name: string, pattern: string, consumerGroup?: string) => {
    const { client, got, insist, say, who } = connected(name)
    const settledBefore = new Set(
      past.flatMap((line) =>
        line.t === "settling" && line.who === who && line.how === "nak" ? [line.id] : []
      )
    )
    let turn = seed
    const subscription = await insist(() =>
      client.subscribe(pattern, {
        includeMetadata: true,
        ackMode: "manual",
        ...(consumerGroup === undefined ? {} : { consumerGroup }),
        onEvent: async (event) => {
          const id = got(event)
          turn = (turn * 48_271) % 2_147_483_647
          const chance = turn % 100
          if (turn % 3 > 0) await delay(turn % 17)
          const how =
            consumerGroup === undefined || chance >= 13
              ? "ack"
              : chance < 10 && !settledBefore.has(id)
                ? "nak"
                : "term"
          settledBefore.add(id)
          say("settling", { id, how })
          try {
            await (how === "nak" ? subscription.nak(id, 10) : subscription[how](id))
            say("settled", { id, how })
          } catch (error) {
            say("refused", { id, how, code: isIronflowError(error) ? error.code : String(error) })
          }
        }
      })
    )
  }

  const ackByReturning = (name: string, pattern: string, consumerGroup: string) => {
    const { client, got, insist, say } = connected(name)
    return insist(() =>
      client.subscribe(pattern, {
        includeMetadata: true,
        consumerGroup,
        onEvent: async (event) => {
          const id = got(event)
          if (event.data.even === true) await delay(3)
          say("done", { id })
        }
      })
    )
  }

  /** Subscribes by the protocol itself, and resumes after its own death where its log ends. */
  const resume = async (name: string, pattern: string): Promise<void> => {
    const who = `${name}.${host}`
    const say = diary(who)
    let after = past.findLast(
      (line): line is ClientLine & { readonly position: number } =>
        line.who === who && "position" in line && line.position !== undefined
    )?.position
    say("life", {})
    await new Promise<void>((ready) => {
      const dial = (): void => {
        const socket = new WebSocket(`${serverUrl.replace("http", "ws")}/ws`)
        socket.on("open", () => {
          say("up", {})
          const resume = after === undefined ? {} : { after: String(after) }
          socket.send(JSON.stringify({ type: "subscribe", subscription: { pattern, resume } }))
        })
        socket.on("message", (data) => {
          const message = JSON.parse(String(data))
          if (message.type === "event") {
            after = Number(message.position)
            say("got", { id: message.eventId, position: after })
          } else if (message.type === "subscription_result") {
            after ??= Number(message.results[0].position)
            say("subscribed", { position: after })
            ready()
          } else throw new Error(String(data))
        })
        socket.on("error", () => undefined)
        socket.on("close", () => {
          say("down", {})
          setTimeout(dial, 5)
        })
      }
      dial()
    })
  }

  await Promise.all([
    watch("news", "topic:news.>"),
    watch("even", "topic:news.*", "event.data.even"),
    watch("all", ">"),
    resume("resumer", "events:order.*"),
    settle("careful", "events:order.*"),
    settle("packer", "events:order.*", "packers"),
    settle("second packer", "events:order.*", "packers"),
    ackByReturning("printer", "topic:news.>", "printers")
  ])
  process.stdout.write("ready\n")
}

if (process.argv[1] === import.meta.filename) {
  await run(JSON.parse(process.argv[2] ?? "") as HostOptions)
}
