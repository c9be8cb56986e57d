/** Owners of projections. Claims are given, renewed, released, and taken back when the engine starts. */
import type { InvalidStateError } from "../../Errors.ts"
import {
  acrossEnvironments,
  affected,
  get,
  inEnvironment,
  type Program,
  statement,
  write
} from "../Store/Program.ts"
import { hasLiveEngine } from "../Runs/EngineWorkers.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { LEGACY_RUNNERS, TOKENLESS_OWNER } from "../../Projection/OwnerName.ts"
import type {
  ProjectionClaimResult,
  ProjectionClaimRequest,
  ProjectionToken
} from "../Records/ProjectionRecords.ts"
import { markProjection, registerProjection } from "./ProjectionRows.ts"

/** The longest lease of a projection, in milliseconds. */
const LONGEST_LEASE_MS = 30_000

const FIND_OTHER_OWNER = statement(
  "ProjectionOwnerRows.findOtherOwner",
  "SELECT owner, lease_until FROM projections WHERE environment = ? AND name = ? AND token IS NOT NULL AND owner <> ? AND (lease_until IS NULL OR lease_until > ?)"
)

const UPDATE_OWNER = statement(
  "ProjectionOwnerRows.updateOwner",
  "UPDATE projections SET token = ?, owner = ?, lease_until = ?, generation = generation + 1 WHERE environment = ? AND name = ?"
)

const FIND_PROJECTION = statement(
  "ProjectionOwnerRows.findProjection",
  "SELECT * FROM projections WHERE environment = ? AND name = ?"
)

/** Registers a projection and makes the worker its owner. While another worker is the owner, does nothing. */
export const claimProjection = inEnvironment(
  "claimProjection",
  function* (
    tx: Transaction,
    request: ProjectionClaimRequest
  ): Program<ProjectionClaimResult, InvalidStateError> {
    const { environment, leaseMs, registration, workerId } = request
    const { name } = registration
    const now = tx.now()
    const otherOwner = yield* get(FIND_OTHER_OWNER, tx.environment(environment), name, workerId, now)
    if (otherOwner !== undefined) {
      return {
        _tag: "Busy",
        owner: String(otherOwner.owner),
        ...(otherOwner.lease_until === null ? {} : { until: Number(otherOwner.lease_until) })
      }
    }
    // only the owner defines the projection: otherwise two versions of a program would take turns in rebuilding the projection
    yield* registerProjection(tx, environment, registration)
    const token = tx.ids.job()
    yield* write(
      UPDATE_OWNER,
      token,
      workerId,
      leaseMs === undefined ? null : now + leaseMs,
      tx.environment(environment),
      name
    )
    markProjection(tx, environment, name)
    const row = (yield* get(FIND_PROJECTION, tx.environment(environment), name))!
    return {
      _tag: "Granted",
      lease: {
        name,
        token,
        generation: Number(row.generation),
        position: Number(row.position),
        ...(row.failing === null
          ? {}
          : { failing: { position: Number(row.failing), failures: Number(row.failures) } })
      }
    }
  },
  (request) => `claim projection "${request.registration.name}"`
)

const CLEAR_OWNERS = statement(
  "ProjectionOwnerRows.clearOwners",
  "UPDATE projections SET token = NULL, owner = NULL WHERE token IS NOT NULL AND lease_until IS NULL",
  {
    scans: "there are few projections, and this runs only when an engine starts or is gone",
    postgres: `UPDATE projections SET token = NULL, owner = NULL
     WHERE token IS NOT NULL AND lease_until IS NULL AND NOT ${hasLiveEngine("projections.owner")}`
  }
)

const SHORTEN_LEASES = statement(
  "ProjectionOwnerRows.shortenLeases",
  "UPDATE projections SET lease_until = ? WHERE lease_until > ?",
  { scans: "there are few projections, and this runs only when an engine starts or is gone" }
)

/**
 * Releases the projections of workers that ran in the same process as an engine that is gone. The claims of other workers have leases,
 * which expire. This program is called when the database is opened, and when one of several engines is gone. It runs across
 * environments, because the workers may be in any environment.
 */
export const recoverProjections = acrossEnvironments(
  "recoverProjections",
  function* (tx: Transaction): Program<void> {
    yield* write(CLEAR_OWNERS)
    // a lease that was given while the clock was ahead may last too long
    const latest = tx.now() + LONGEST_LEASE_MS
    yield* write(SHORTEN_LEASES, latest, latest)
  },
  () => "take back projections"
)

const UPDATE_LEASE = statement(
  "ProjectionOwnerRows.updateLease",
  "UPDATE projections SET lease_until = ? WHERE environment = ? AND name = ? AND token = ? AND generation = ?"
)

/** Extends a claim. Returns whether the claim still holds. */
export const renewProjection = inEnvironment(
  "renewProjection",
  function* (
    tx: Transaction,
    { environment, generation, name, token }: ProjectionToken,
    leaseMs?: number
  ): Program<boolean> {
    return (
      (yield* affected(
        UPDATE_LEASE,
        leaseMs === undefined ? null : tx.now() + leaseMs,
        tx.environment(environment),
        name,
        token,
        generation
      )) > 0
    )
  },
  (token, _leaseMs?: number) => `keep projection "${token.name}"`
)

const CLEAR_OWNER = statement(
  "ProjectionOwnerRows.clearOwner",
  "UPDATE projections SET token = NULL, owner = NULL, lease_until = NULL WHERE environment = ? AND name = ? AND token = ?"
)

export const releaseProjection = inEnvironment(
  "releaseProjection",
  function* (tx: Transaction, { environment, name, token }: ProjectionToken): Program<void> {
    const releasedCount = yield* affected(CLEAR_OWNER, tx.environment(environment), name, token)
    if (releasedCount > 0) markProjection(tx, environment, name)
  },
  (token) => `release projection "${token.name}"`
)

const FIND_OWNED_PROJECTION = statement(
  "ProjectionOwnerRows.findOwnedProjection",
  "SELECT * FROM projections WHERE environment = ? AND name = ? AND token = ? AND generation = ?"
)

/** The row of the projection, if the token belongs to the current claim. */
export function* findOwnedProjection(
  tx: Transaction,
  { environment, generation, name, token }: ProjectionToken
): Program<Row | undefined> {
  const key = tx.findEnvironment(environment)
  return key === undefined ? undefined : yield* get(FIND_OWNED_PROJECTION, key, name, token, generation)
}

const FIND_OWNER = statement(
  "ProjectionOwnerRows.findOwner",
  "SELECT token, owner, generation FROM projections WHERE environment = ? AND name = ?"
)

/** Why the token is not that of the current claim, as a clause. */
export function* whyNotOwned(
  tx: Transaction,
  { environment, generation, name, token }: ProjectionToken
): Program<string> {
  const row = yield* get(FIND_OWNER, tx.environment(environment), name)
  if (row === undefined) return "the projection was deleted"
  return row.token === token
    ? `the projection was reset: its generation is ${row.generation}, and the save is from generation ${generation}`
    : `the projection belongs to ${row.owner === null ? "nobody" : row.owner === TOKENLESS_OWNER ? LEGACY_RUNNERS : `worker ${row.owner}`} now`
}
