/**
 * Appends events to the log. In the same transaction, creates the runs that an event starts, and fires the waits that it satisfies.
 */
import { inEnvironment, type Program, acrossEnvironments, refuse } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { type NewEvent, type AppendedEvent, LogKind } from "../Log/LogRecords.ts"
import { type RegisteredFunction, registryOf, eventView } from "../Functions/Registry.ts"
import { fingerprint, recall, recallLegacyWebhook, remember } from "../Log/Idempotency.ts"
import { LimitExceededError } from "../../Errors.ts"
import * as Limits from "../../Limits.ts"
import { insertLogRow } from "../Log/LogRows.ts"
import { startRun } from "../Runs/RunRows.ts"
import type { JobEvent } from "../../Protocol/Worker.ts"
import { satisfyWaits } from "./FireWaits.ts"

/**
 * Stores an event. If an event with the same idempotency key was stored before, stores nothing and returns that event. `firing` is
 * the function whose cron trigger has fired the event.
 */
export const appendEvent = inEnvironment(
  "appendEvent",
  function* (tx: Transaction, input: NewEvent, firing?: RegisteredFunction): Program<AppendedEvent> {
    const { idempotencyKey } = input
    if (idempotencyKey === undefined) return yield* storeEvent(tx, input, firing)
    const environment = tx.environment(input.environment)
    const digest = fingerprint([], [input])
    const scope =
      input.webhook === undefined ? `emit ${input.name}` : `webhook ${input.webhook} ${input.name}`
    type Emitted = { eventId: string; position: number; runIds: Array<string> }
    const earlier =
      (yield* recall<Emitted>(tx, environment, scope, idempotencyKey, digest)) ??
      (input.webhook === undefined
        ? undefined
        : yield* recallLegacyWebhook<Emitted>(tx, environment, idempotencyKey, digest))
    if (earlier !== undefined) {
      return { ...earlier.result, duplicate: true, conflicting: earlier.conflicting, warnings: [] }
    }

    const stored = yield* storeEvent(tx, input, firing)
    const { eventId, position, runIds } = stored
    yield* remember(tx, environment, scope, idempotencyKey, digest, { eventId, position, runIds })
    return stored
  },
  (event, _firing?: RegisteredFunction) => `store event "${event.name}"`,
  { allowsHeldWrites: true }
)

/**
 * The error for several events that would start too many runs in one transaction, which would block everything else for long;
 * `undefined` for other events. A single event is always accepted. `what` names the events in the error.
 */
export const tooManyRunsError = (
  tx: Transaction,
  environment: string,
  what: string,
  events: ReadonlyArray<{ readonly name: string }>
): LimitExceededError | undefined => {
  let runs = 0
  for (const { name } of events) runs += registryOf(tx).countListeners(environment, name)
  return runs > Limits.runsOfAppend && events.length > 1
    ? new LimitExceededError(`The number of runs that ${what} may start`, runs, Limits.runsOfAppend, "runs")
    : undefined
}

/**
 * Stores events of one environment in order, each as {@link appendEvent} does. Fails with `LimitExceededError` when they would
 * start too many runs.
 */
export const appendEvents = acrossEnvironments(
  "appendEvents",
  function* (
    tx: Transaction,
    inputs: ReadonlyArray<NewEvent>
  ): Program<ReadonlyArray<AppendedEvent>, LimitExceededError> {
    const [first] = inputs
    const refusal = first && tooManyRunsError(tx, first.environment, "the batch of events", inputs)
    if (refusal !== undefined) return yield* refuse(refusal)
    const stored: Array<AppendedEvent> = []
    for (const input of inputs) stored.push(yield* appendEvent.in(tx, input))
    return stored
  },
  (events) => `store ${events.length} events`,
  { allowsHeldWrites: true }
)

/**
 * Appends an event to the log, creates the runs that it starts, and fires the waits that it satisfies. Events that are stored
 * together may share a `timestamp`.
 */
export function* storeEvent(
  tx: Transaction,
  input: NewEvent & { readonly timestamp?: number },
  firing?: RegisteredFunction
): Program<AppendedEvent> {
  const environment = tx.environment(input.environment)
  const { id, position, timestamp } = yield* insertLogRow(tx, environment, LogKind.event, input)
  tx.changes.counts.events++
  const event: JobEvent = {
    id,
    name: input.name,
    version: input.version,
    data: input.data,
    timestamp,
    ...(input.metadata === undefined ? {} : { metadata: input.metadata }),
    ...(input.source === undefined ? {} : { source: input.source }),
    ...(input.idempotencyKey === undefined ? {} : { idempotencyKey: input.idempotencyKey }),
    ...(input.entity === undefined ? {} : { entity: input.entity }),
    ...(input.trace === undefined ? {} : { trace: input.trace })
  }
  const view = eventView(event)
  const matched = registryOf(tx).match(input.environment, view, firing)
  const runIds: Array<string> = []
  for (const fn of matched.functions)
    runIds.push(yield* startRun(tx, { environment, fn, position, event, view }))
  const warnings = [...matched.warnings, ...(yield* satisfyWaits(tx, environment, position, view))]
  return { eventId: id, position, runIds, duplicate: false, conflicting: false, warnings }
}
