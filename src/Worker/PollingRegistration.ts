/** Registers a worker with a server, and reads from the answer what the server supports. */
import * as Effect from "effect/Effect"
import {
  isFromEngine,
  isFromServer,
  notAnIronflowServerError,
  serverFailureOf
} from "../Client/HttpFailures.ts"
import type { IronflowError } from "../Errors.ts"
import { isObject, numberOf } from "../Json.ts"
import { pathOf } from "../Protocol/Http/CallAddress.ts"
import * as Turns from "../Protocol/Http/Turns.ts"
import { legacyRegistration } from "../Protocol/Registration.ts"
import { damagedError, isSealed, MESSAGE_DAMAGED, parseSealed, seal } from "../Protocol/Seal.ts"
import { registerWorker } from "../Protocol/Workers.ts"
import { identityOf } from "./ProcessIdentity.ts"
import { isAccessError } from "./AccessErrors.ts"
import { isSuccess, type ServerLink } from "./ServerLink.ts"

/** The answer to a registration; `undefined` from a legacy server. */
export type RegistrationAnswer = Turns.RegisterTurnsResponse | undefined

/** Makes the registration of the worker. `jobs` are the jobs of the turns in flight, which the worker wants to keep. */
export const registrationOf = (
  { nextRegistration, registration }: ServerLink,
  instance: string,
  jobs: ReadonlyArray<string>,
  since?: string,
  ownProcess = identityOf()
): Turns.RegisterTurnsRequest => ({
  ...legacyRegistration(registration),
  capabilities: { turns: Turns.TURNS_VERSION, renewals: true, seals: true },
  registration,
  ...(ownProcess === undefined ? {} : { process: ownProcess }),
  instance,
  jobs,
  number: nextRegistration(),
  ...(since === undefined ? {} : { since })
})

/** Registers the worker. `jobs` are the jobs of the turns in flight, which the worker wants to keep. */
export const register = (
  link: ServerLink,
  instance: string,
  jobs: ReadonlyArray<string>,
  timeoutMs = link.options.server.timeoutMs,
  since?: string
): Effect.Effect<RegistrationAnswer, IronflowError> => {
  const { connection, registration } = link
  const what = `The registration of worker ${registration.workerId}`
  const request = registrationOf(link, instance, jobs, since)
  const answered = Effect.flatMap(
    connection.send({
      method: "POST",
      path: pathOf(registerWorker, { id: registration.workerId }),
      body: seal(JSON.stringify(request)),
      what,
      timeoutMs
    }),
    (answer): Effect.Effect<RegistrationAnswer, IronflowError> => {
      if (isSuccess(answer)) {
        return Effect.flatMap(parseSealed(answer.text, false), (body) =>
          // A legacy server answers with JSON, or with nothing. A page comes from something in between, such
          // as a login portal.
          isObject(body) || answer.text === ""
            ? checkRegistrationAnswer(body)
            : Effect.fail(notAnIronflowServerError(answer, what))
        )
      }
      const error = serverFailureOf(answer, what)
      // A legacy server may require that each function is registered first. Then it refuses this request, with any
      // client error.
      const isFromLegacy =
        answer.status >= 400 && answer.status < 500 && isFromServer(answer) && !isFromEngine(answer)
      return isFromLegacy && answer.status !== 408 && answer.status !== 429 && !isAccessError(error)
        ? Effect.succeed(undefined)
        : Effect.fail(error)
    }
  )
  return Effect.tapError(answered, ({ code }) =>
    Effect.sync(() => {
      // The message that opened the channel may have been damaged. `useApiKey` leaves the channel, so that a later
      // message opens a new one.
      if (code === MESSAGE_DAMAGED) connection.useApiKey(connection.server.apiKey)
    })
  )
}

/**
 * Does what {@link readRegistrationAnswer} does. Fails when the answer has no seal, although it says that the server
 * seals its messages.
 */
const checkRegistrationAnswer = (body: unknown): Effect.Effect<RegistrationAnswer, IronflowError> => {
  const registered = readRegistrationAnswer(body)
  return registered?.capabilities.seals === true && !isSealed(body)
    ? Effect.fail(damagedError())
    : Effect.succeed(registered)
}

/** Reads the answer to a registration; `undefined` when the server is a legacy server. */
export const readRegistrationAnswer = (body: unknown): RegistrationAnswer => {
  if (!isObject(body) || !isObject(body.capabilities) || numberOf(body.capabilities.turns) < 1) {
    return undefined
  }
  // a server that announces turns follows `Protocol/Http/Turns.ts`, so the answer has this shape
  return body as unknown as Turns.RegisterTurnsResponse
}
