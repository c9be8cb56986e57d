/**
 * What workers of this package ask as owners of projections, over HTTP: `Protocol/ProjectionOwners.ts`, as JSON requests.
 *
 * A claim holds for a while after each request. A worker whose request is cut off has a few seconds to come back before
 * another one may have its projections; one that says nothing at all has until its claim runs out.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { type IronflowError, type SerializedError, UnavailableError, ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import { checkShape, Counted } from "../../JsonShape.ts"
import { checkName, checkSize, jsonDepth, listLength, projectionStateBytes } from "../../Limits.ts"
import { maxReadEvents } from "../../Projection/Projection.ts"
import type { ProjectionSave, SaveBody } from "../../Protocol/ProjectionOwners.ts"
import { rows } from "../../Protocol/ProjectionOwners.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import type { ProjectionToken } from "../../Engine/Projections/ProjectionRecords.ts"
import { checkHandedOut, checkProjectionEvents } from "./ProjectionRunnerRoutes.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { checked } from "../../Checked.ts"
import { reading } from "./RowRoute.ts"

/** How long a claim holds without a sign of life, milliseconds. */
const LEASE_MS = 30_000

/** How long it holds when a request of its worker was cut off, milliseconds. */
const PRESENCE_MS = 5000

/** How long a request waits for something to happen, milliseconds. */
const WAIT_MS = 10_000

/** Claims of which is remembered when they were last extended, at most. */
const REMEMBERED = 10_000

export const projectionOwnerRoutes = (
  engine: EngineService,
  closing: Effect.Effect<void>
): ReadonlyArray<Route> => {
  const { projections } = engine
  /** When each claim was last extended, by its token. */
  const extended = new Map<string, number>()

  const tokenOf = (
    call: Call,
    request: { readonly token: string; readonly generation: number }
  ): ProjectionToken => ({
    environment: call.environment,
    name: variable(call, "name"),
    token: request.token,
    generation: request.generation
  })

  /** Extends the claim, unless that was done a moment ago; says whether it holds. */
  const extend = (token: ProjectionToken): Effect.Effect<boolean, IronflowError> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      if (now - (extended.get(token.token) ?? 0) < LEASE_MS / 6) return Effect.succeed(true)
      return Effect.map(projections.renew(token, LEASE_MS), (held) => {
        if (extended.size >= REMEMBERED) extended.clear()
        if (held) extended.set(token.token, now)
        else extended.delete(token.token)
        return held
      })
    })

  const cutOff = (token: ProjectionToken): Effect.Effect<void> =>
    Effect.suspend(() => {
      extended.delete(token.token)
      return Effect.ignore(projections.renew(token, PRESENCE_MS))
    })

  const unlessClosing = <A>(self: Effect.Effect<A, IronflowError>): Effect.Effect<A, IronflowError> =>
    Effect.raceFirst(
      self,
      Effect.andThen(
        closing,
        Effect.suspend(() =>
          Effect.fail(
            new UnavailableError("The engine is about to stop: ask again when it is back", {
              code: "CLOSING"
            })
          )
        )
      )
    )

  return [
    reading(rows.claimProjection, "Claim", ({ registration, waitMs = WAIT_MS, workerId }, call) =>
      Effect.gen(function* () {
        const { environment } = call
        yield* checked(() => {
          checkName("worker id", workerId)
          if (registration.name !== variable(call, "name")) {
            throw new ValidationError("The projection in the path is another one than that in the body")
          }
          checkProjectionEvents(call, registration.events)
        })
        return yield* unlessClosing(
          projections.claim(
            { environment, workerId, leaseMs: LEASE_MS, registration },
            Math.min(Math.max(0, waitMs), WAIT_MS)
          )
        )
      })
    ),
    reading(rows.readProjection, "Read", (request, call) =>
      Effect.gen(function* () {
        const token = tokenOf(call, request)
        if (!(yield* extend(token))) return {}
        const batch = yield* unlessClosing(
          Effect.onInterrupt(projections.read(token, request.limit, WAIT_MS), () => cutOff(token))
        )
        if (batch === undefined) return {}
        yield* checked(() => checkHandedOut(call, [...batch.events, ...batch.retries]))
        return { batch }
      })
    ),
    reading(rows.projectionStates, "States", (request, call) =>
      Effect.gen(function* () {
        const { length } = request.partitions
        if (length > PARTITIONS) {
          return yield* new ValidationError(`States: at most ${PARTITIONS} partitions, got ${length}`)
        }
        const states = yield* projections.states(tokenOf(call, request), request.partitions)
        return states === undefined ? {} : { states }
      })
    ),
    reading(rows.saveProjection, "Save", (request, call) =>
      Effect.gen(function* () {
        const token = tokenOf(call, request)
        const save = yield* checked(() => checkSave(request.save))
        const saved = yield* projections.save(token, save)
        if (saved._tag === "Saved") yield* extend(token)
        return saved
      })
    ),
    reading(rows.renewProjection, "Owner", (request, call) =>
      Effect.map(projections.renew(tokenOf(call, request), LEASE_MS), (held) => ({ held }))
    ),
    reading(rows.releaseProjection, "Owner", (request, call) =>
      Effect.as(projections.release(tokenOf(call, request)), undefined)
    )
  ]
}

/** Partitions whose states one request may ask for or save; a batch has no more. */
const PARTITIONS = maxReadEvents

const checkSave = (save: SaveBody): ProjectionSave => {
  if (
    save.states.length > PARTITIONS ||
    save.deadLetters.length > PARTITIONS ||
    save.resolved.length > listLength
  ) {
    throw new ValidationError(`Save: a save has at most ${PARTITIONS} states and dead letters`)
  }
  const counted = new Counted()
  for (const { partition, state } of save.states) {
    checkName("partition", partition)
    checkSize(`State of partition "${partition}"`, state, projectionStateBytes)
    checkShape("the states of a save", state, jsonDepth, counted)
    try {
      JSON.parse(state)
    } catch (cause) {
      throw new ValidationError(`Save: the state of partition "${partition}" is not JSON text`, { cause })
    }
  }
  const { failing, ...rest } = save
  return {
    ...rest,
    deadLetters: save.deadLetters.map((letter) => ({ ...letter, error: readError(letter.error) })),
    ...(failing === undefined ? {} : { failing: { ...failing, error: readError(failing.error) } })
  }
}

const readError = (error: unknown): SerializedError => {
  if (isObject(error) && typeof error.name === "string" && typeof error.message === "string") {
    // the two fields that everything relies on are there; the rest is shown as it comes
    return error as unknown as SerializedError
  }
  throw new ValidationError("Save: an error must be an object with `name` and `message`")
}
