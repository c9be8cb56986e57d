/**
 * The engine's side of a stream of a worker that exchanges turns, whatever the transport: the registration,
 * the calls, and the pushes. The rules are in `Protocol/TurnStream.ts`.
 */
import type { Duplex } from "node:stream"
import * as Effect from "effect/Effect"
import { type IronflowError, ValidationError } from "../../Errors.ts"
import type { JsonText } from "../../Json.ts"
import { decoder } from "../../Protocol/ServerCodec.ts"
import { TURNS_VERSION } from "../../Protocol/Http/Turns.ts"
import type { WorkerRegistration } from "../../Protocol/Worker.ts"
import { Room, LateTurnBody, DeregisterBody, Register } from "../../Protocol/Workers.ts"
import type { StreamCall } from "../../Protocol/TurnStream.ts"
import type { Caller } from "../../Engine/Access/Access.ts"
import { logLeftOut } from "../../Engine/Workers/LogLeftOut.ts"
import { checkWorker, permittedReports } from "../../Engine/Access/WorkerAccess.ts"
import { type RemoteWorkers, unknownWorker } from "../../Engine/Workers/RemoteWorkers.ts"
import type { WorkerConnection } from "../../Engine/Workers/WorkerConnection.ts"
import { checked } from "../../CheckAsEffect.ts"
import { readReports } from "../../Protocol/TurnReports.ts"
import { checkSeal, encodeDelivered, sealAnswer } from "./TurnMessages.ts"
import { registerTurns } from "./TurnRegistration.ts"

/** What a stream needs to know of its transport. */
export interface StreamConnection {
  /** The name of the transport, for lists of workers. */
  readonly transport: string
  /** The underlying connection. */
  readonly connection: Duplex
  /** Who owns the stream. */
  readonly caller: Caller
  /** The environment that the request for the stream names, if it names one. */
  readonly environment: string | undefined
  /** The largest call, in bytes. */
  readonly maxBodyBytes: number
  /** Called when {@link TurnStream.take} has something to return. */
  readonly wake: () => void
  /** Called when the session is over. Nothing is sent after that. */
  readonly end: () => void
}

const readRegister = decoder(Register, "Register")
const readRoom = decoder(Room, "Room")
const readLate = decoder(LateTurnBody, "Late")
const readLeave = decoder(DeregisterBody, "Leave")

/** The JSON of a response without content. */
const DONE = '{"ok":true}'

export class TurnStream {
  readonly #workers: RemoteWorkers
  readonly #streamConnection: StreamConnection
  #worker: WorkerConnection | undefined
  #registration: WorkerRegistration | undefined

  constructor(workers: RemoteWorkers, streamConnection: StreamConnection) {
    this.#workers = workers
    this.#streamConnection = streamConnection
  }

  /**
   * Registers the worker. Answers with the JSON of a `RegisterTurnsResponse`; nothing is pushed before that answer.
   * `isSealed` says whether the message has a valid seal.
   */
  register(body: unknown, isSealed: boolean): Effect.Effect<JsonText, IronflowError> {
    return Effect.gen({ self: this }, function* () {
      if (this.#worker !== undefined) {
        return yield* new ValidationError(
          "A stream takes one registration, and the worker has already registered on this stream"
        )
      }
      const request = yield* checked(() => readRegister(body))
      if ((request.capabilities?.turns ?? 0) < TURNS_VERSION) {
        return yield* new ValidationError(
          `This engine exchanges turns in version ${TURNS_VERSION} of the protocol, and the worker does not: use the same version of ` +
            "@ironflow/node for the worker and the engine"
        )
      }
      const { caller, connection, end, environment, maxBodyBytes, transport, wake } = this.#streamConnection
      yield* checked(() => caller.checkAlive())
      const { registration, response, worker } = yield* registerTurns(this.#workers, request, {
        environment,
        workerId: undefined,
        isSealed,
        connection,
        transport,
        maxBodyBytes,
        caller,
        stream: { wake: () => this.#worker !== undefined && wake(), end }
      })
      this.#worker = worker
      this.#registration = registration
      return JSON.stringify(response)
    })
  }

  /** Throws an `IronflowError` when the worker may no longer use the stream. */
  check(): void {
    if (this.#registration !== undefined) checkWorker(this.#streamConnection.caller, this.#registration)
  }

  /** Throws an `IronflowError` when a message has no seal although the worker seals all messages. */
  checkSeal(isSealed: boolean): void {
    if (this.#worker !== undefined) checkSeal(this.#worker, isSealed)
  }

  /** The message, with a seal if the worker seals. For a transport that does not seal its frames itself. */
  seal(text: JsonText, sealContext?: string): JsonText {
    return this.#worker === undefined ? text : sealAnswer(this.#worker, text, sealContext)
  }

  /** Whether there is something to push. */
  get hasMore(): boolean {
    return this.#worker?.hasMore ?? false
  }

  /** The JSON of a `PollResponse` with everything that has not been pushed yet. */
  take(): JsonText {
    return this.#worker === undefined ? DONE : encodeDelivered(this.#worker.takeNew())
  }

  /** Answers a call with JSON. */
  call(call: StreamCall, body: unknown): Effect.Effect<JsonText, IronflowError> {
    return Effect.suspend(() => {
      const worker = this.#worker
      if (worker === undefined || worker.hasEnded) return Effect.fail(unknownWorker(worker?.workerId ?? ""))
      worker.noteMessage()
      switch (call) {
        case "report":
          return Effect.flatMap(
            checked(() => readReports(body)),
            ({ leftOut, ...request }) => {
              const { toAnswers, reports } = permittedReports(
                this.#streamConnection.caller,
                worker.environment,
                request.reports
              )
              return Effect.andThen(
                logLeftOut(`worker ${worker.workerId}`, leftOut),
                Effect.map(
                  worker.report({ ...request, reports }),
                  (acks) => `{"acks":${JSON.stringify(toAnswers(acks))}}`
                )
              )
            }
          )
        case "room":
          return Effect.flatMap(
            checked(() => readRoom(body)),
            (request) => Effect.as(worker.takeRoom(request), DONE)
          )
        case "late":
          return Effect.flatMap(
            checked(() => readLate(body)),
            (request) => Effect.as(worker.late(request), DONE)
          )
        case "leave":
          return Effect.flatMap(
            checked(() => readLeave(body)),
            ({ session }) => Effect.as(this.#workers.dismiss(worker.workerId, session), DONE)
          )
      }
    })
  }
}
