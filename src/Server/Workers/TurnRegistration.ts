/** Registers a worker that exchanges turns, whatever its transport. */
import type { Duplex } from "node:stream"
import * as Effect from "effect/Effect"
import { type IronflowError, ValidationError } from "../../Errors.ts"
import { checkFunctionCount, checkMaxConcurrentJobs, checkName, keyLength } from "../../Limits.ts"
import { type RegisterTurnsResponse, TURNS_VERSION } from "../../Protocol/Http/Turns.ts"
import { damagedError } from "../../Protocol/Seal.ts"
import type { WorkerRegistration } from "../../Protocol/Worker.ts"
import type { RegisterRequest } from "../../Protocol/Workers.ts"
import type { Caller } from "../../Engine/Access/Access.ts"
import { checkWorker, limitsOf } from "../../Engine/Access/WorkerAccess.ts"
import { checked } from "../../CheckAsEffect.ts"
import { checkRegistration } from "../../Engine/Functions/CheckRegistration.ts"
import type { StreamSignals } from "../../Engine/Workers/WorkerConnectionOptions.ts"
import type { WorkerConnection } from "../../Engine/Workers/WorkerConnection.ts"
import type { RemoteWorkers } from "../../Engine/Workers/RemoteWorkers.ts"
import { watchedConnection } from "./WatchedConnections.ts"
import { encodeDelivery } from "./TurnMessages.ts"

/** The longest poll that a worker is told to use, in milliseconds. */
const MAX_POLL_MS = 20_000

/** Where a registration comes from. */
export interface Origin {
  /** The environment that the request names outside of the registration, if it does. */
  readonly environment: string | undefined
  /** The id in the path, if there is one. */
  readonly workerId: string | undefined
  /** Whether the registration has a valid seal. */
  readonly isSealed: boolean
  /** The connection of the worker. The worker counts as present while the connection is open. */
  readonly connection: Duplex
  readonly transport: string
  /** The largest request of this worker, in bytes. */
  readonly maxBodyBytes: number
  /** How to reach a worker that has a stream; absent for a worker that polls. */
  readonly stream?: StreamSignals
  /** Who owns the worker; absent where no key is required. */
  readonly caller: Caller | undefined
}

export const registerTurns = (
  workers: RemoteWorkers,
  request: RegisterRequest,
  origin: Origin
): Effect.Effect<
  {
    readonly worker: WorkerConnection
    readonly registration: WorkerRegistration
    readonly response: RegisterTurnsResponse
  },
  IronflowError
> =>
  Effect.gen(function* () {
    const { caller, connection, maxBodyBytes, stream, transport } = origin
    const announcement = yield* checked(() => readAnnouncement(request, origin))
    const { worker, lost } = yield* workers.registerTurnWorker({
      ...announcement,
      connection: watchedConnection(connection),
      encode: encodeDelivery,
      transport,
      ...(stream === undefined ? {} : { stream }),
      ...(caller === undefined ? {} : { limits: limitsOf(caller, announcement.registration.environment) })
    })
    const { leaseMs } = workers
    const response: RegisterTurnsResponse = {
      capabilities: { turns: TURNS_VERSION, renewals: true, ...(worker.seals ? { seals: true } : {}) },
      session: worker.session,
      leaseMs,
      presenceMs: leaseMs,
      waitMs: Math.min(MAX_POLL_MS, Math.floor(leaseMs / 3)),
      maxBodyBytes,
      lost,
      ...(worker.since === undefined ? {} : { since: worker.since })
    }
    return { worker, registration: announcement.registration, response }
  })

const readAnnouncement = (
  { capabilities, registration, instance, jobs = [], number, process, since }: RegisterRequest,
  { caller, environment, isSealed, workerId }: Origin
) => {
  const seals = capabilities?.seals === true
  if (seals && !isSealed) throw damagedError()
  if (registration === undefined || instance === undefined || instance === "") {
    throw new ValidationError("Register: a worker that speaks turns must send `registration` and `instance`")
  }
  if (workerId === undefined) checkName("worker id", registration.workerId)
  else if (registration.workerId !== workerId) {
    // a worker that seals sends the same id in both places, so one of the two was damaged
    if (seals) throw damagedError()
    throw new ValidationError(
      `Register: \`registration.workerId\` is "${registration.workerId}" and the path says "${workerId}"`
    )
  }
  // a worker that seals names the same environment in the request and in the registration, so one of the two was
  // damaged; if the worker's key is bound to an environment, the registration may name another one
  const isOtherEnvironment = environment !== undefined && environment !== registration.environment
  if (seals && isOtherEnvironment && caller?.key?.environment === undefined) throw damagedError()
  checkFunctionCount(registration.functions)
  checkMaxConcurrentJobs(registration.maxConcurrentJobs)
  const checkedRegistration: WorkerRegistration = {
    ...registration,
    environment: environment ?? checkName("environment", registration.environment),
    functions: registration.functions.map(checkRegistration)
  }
  if (caller !== undefined) checkWorker(caller, checkedRegistration)
  return {
    registration: checkedRegistration,
    instance: instance.slice(0, keyLength),
    jobs,
    renews: capabilities?.renewals === true,
    seals,
    process,
    ...(number === undefined ? {} : { number }),
    ...(since === undefined ? {} : { since })
  }
}
