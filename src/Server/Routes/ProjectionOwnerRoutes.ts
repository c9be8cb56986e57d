/**
 * The calls of projection owners, as JSON requests. Owners are workers of this package;
 * `Protocol/ProjectionOwners.ts` describes the calls.
 *
 * A read, a save and a renewal extend the lease of the worker's claim. When a read is aborted, the worker has a few
 * seconds to come back before another worker may claim the projection. A worker that sends nothing keeps its claim
 * until the lease ends.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import {
  type IronflowError,
  LimitExceededError,
  type SerializedError,
  UnavailableError,
  ValidationError
} from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import { checkShape, ShapeCounts } from "../../JsonLimits.ts"
import { show } from "../../Show.ts"
import { checkName, checkSize, declaredListLength, jsonDepth, projectionStateBytes } from "../../Limits.ts"
import { maxReadEvents } from "../../Projection/Projection.ts"
import type { ProjectionSave, SaveBody } from "../../Protocol/ProjectionOwners.ts"
import { callSpecs } from "../../Protocol/ProjectionOwners.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import type { ProjectionToken } from "../../Engine/Records/ProjectionRecords.ts"
import { checkMayReceive, checkMaySubscribe } from "./ProjectionRunnerRoutes.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"
import { bodyRoute } from "./CallRoute.ts"

/** How long a claim holds without a request, in milliseconds. */
const LEASE_MS = 30_000

/** How long a claim holds after an aborted read, in milliseconds. */
const PRESENCE_MS = 5000

/** The longest wait of a request, in milliseconds. */
const WAIT_MS = 10_000

/** Maximum number of claims for which the time of the last extension is remembered. */
const MAX_REMEMBERED_CLAIMS = 10_000

export const projectionOwnerRoutes = (
  engine: EngineService,
  stopSignal: Effect.Effect<void>
): ReadonlyArray<Route> => {
  const { projections } = engine
  /** When each claim was last extended, by its token. */
  const extendedAt = new Map<string, number>()

  const tokenOf = (
    call: Call,
    request: { readonly token: string; readonly generation: number }
  ): ProjectionToken => ({
    environment: call.environment,
    name: variable(call, "name"),
    token: request.token,
    generation: request.generation
  })

  /** Extends the claim, unless it was extended a moment ago. Returns whether the claim still holds, as far as known. */
  const extend = (token: ProjectionToken): Effect.Effect<boolean, IronflowError> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      if (now - (extendedAt.get(token.token) ?? 0) < LEASE_MS / 6) return Effect.succeed(true)
      return Effect.map(projections.renew(token, LEASE_MS), (isHeld) => {
        if (extendedAt.size >= MAX_REMEMBERED_CLAIMS) extendedAt.clear()
        if (isHeld) extendedAt.set(token.token, now)
        else extendedAt.delete(token.token)
        return isHeld
      })
    })

  /** Shortens the lease of the claim to {@link PRESENCE_MS}. */
  const shorten = (token: ProjectionToken): Effect.Effect<void> =>
    Effect.suspend(() => {
      extendedAt.delete(token.token)
      return Effect.ignore(projections.renew(token, PRESENCE_MS))
    })

  const unlessClosing = <A>(answer: Effect.Effect<A, IronflowError>): Effect.Effect<A, IronflowError> =>
    Effect.raceFirst(
      answer,
      Effect.andThen(
        stopSignal,
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
    bodyRoute(callSpecs.claimProjection, "Claim", ({ registration, waitMs = WAIT_MS, workerId }, call) =>
      Effect.gen(function* () {
        const { environment } = call
        yield* checked(() => {
          checkName("worker id", workerId)
          if (registration.name !== variable(call, "name")) {
            throw new ValidationError(
              `Claim: the path names projection ${show(variable(call, "name"))}, and the body names ${show(registration.name)}`
            )
          }
          checkMaySubscribe(call, registration.events)
        })
        return yield* unlessClosing(
          projections.claim(
            { environment, workerId, leaseMs: LEASE_MS, registration },
            Math.min(Math.max(0, waitMs), WAIT_MS)
          )
        )
      })
    ),
    bodyRoute(callSpecs.readProjection, "Read", (request, call) =>
      Effect.gen(function* () {
        const token = tokenOf(call, request)
        if (!(yield* extend(token))) return {}
        const batch = yield* unlessClosing(
          Effect.onInterrupt(projections.read(token, request.limit, WAIT_MS), () => shorten(token))
        )
        if (batch === undefined) return {}
        yield* checked(() => checkMayReceive(call, [...batch.events, ...batch.retries]))
        return { batch }
      })
    ),
    bodyRoute(callSpecs.projectionStates, "States", (request, call) =>
      Effect.gen(function* () {
        yield* checked(() => checkLength("partitions", request.partitions, MAX_PARTITIONS))
        const states = yield* projections.states(tokenOf(call, request), request.partitions)
        return states === undefined ? {} : { states }
      })
    ),
    bodyRoute(callSpecs.saveProjection, "Save", (request, call) =>
      Effect.gen(function* () {
        const token = tokenOf(call, request)
        const save = yield* checked(() => checkSave(request.save))
        const saved = yield* projections.save(token, save)
        if (saved._tag === "Saved") yield* extend(token)
        return saved
      })
    ),
    bodyRoute(callSpecs.renewProjection, "Owner", (request, call) =>
      Effect.map(projections.renew(tokenOf(call, request), LEASE_MS), (held) => ({ held }))
    ),
    bodyRoute(callSpecs.releaseProjection, "Owner", (request, call) =>
      Effect.as(projections.release(tokenOf(call, request)), undefined)
    )
  ]
}

/** Maximum number of partitions whose states one request may read or save. A batch has no more. */
const MAX_PARTITIONS = maxReadEvents

const checkSave = (save: SaveBody): ProjectionSave => {
  checkLength("states", save.states, MAX_PARTITIONS)
  checkLength("deadLetters", save.deadLetters, MAX_PARTITIONS)
  checkLength("resolved", save.resolved, declaredListLength)
  const counts = new ShapeCounts()
  for (const { partition, state } of save.states) {
    checkName("partition", partition)
    checkSize(`State of partition "${partition}"`, state, projectionStateBytes)
    checkShape("the states of a save", state, jsonDepth, counts)
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

const checkLength = (name: string, { length }: ReadonlyArray<unknown>, max: number): void => {
  if (length > max) throw new LimitExceededError(`The list \`${name}\``, length, max, "items")
}

const readError = (error: unknown): SerializedError => {
  if (isObject(error) && typeof error.name === "string" && typeof error.message === "string") {
    // the two required fields were checked; the others are only shown
    return error as unknown as SerializedError
  }
  throw new ValidationError("Save: an error must be an object with `name` and `message`")
}
