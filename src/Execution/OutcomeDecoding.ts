/** Converts the outcomes of steps for handlers of both APIs. */
import { withCallSite } from "../CallSite.ts"
import { asStandard } from "../EffectSchema.ts"
import { deserializeError, messageOf, type SerializedError, StepError, withoutEncoding } from "../Errors.ts"
import type { EventDefinition, IronflowEvent } from "../Event.ts"
import { decodeForReader } from "../EventVersions.ts"
import { isObject } from "../Json.ts"
import type { TxOutcome } from "../Protocol/Worker.ts"
import { callSiteOf } from "./FunctionPlan.ts"
import type { StandardSchemaV1 } from "../StandardSchema.ts"
import { stepId } from "../StepId.ts"
import type { StepCall } from "./StepCall.ts"
import type { TurnMachine } from "./TurnMachine.ts"

/**
 * The error of a step, restored. If its stack has no line in the user's code, the place where the step was called is
 * added.
 */
export const storedError = (turn: TurnMachine, call: StepCall, stored: SerializedError): Error => {
  const error = deserializeError(stored)
  error.stack = withCallSite(error.stack ?? "", callSiteOf(turn.plan, call.kind, call.name))
  return error
}

/** The error that a failed step rejects with. */
export const stepError = (turn: TurnMachine, call: StepCall, error: SerializedError): StepError => {
  const thrownError = withoutEncoding(error)
  const cause = storedError(turn, call, thrownError)
  return new StepError(messageOf(thrownError), {
    stepId: stepId(turn.job.runId, call.key),
    stepName: call.name,
    retryable: false,
    cause
  })
}

/**
 * The result of a `step.tx` for handlers. A user may have patched the result: without `writes`, the whole result is
 * taken as the value.
 */
export const readTx = (stored: unknown): TxOutcome =>
  isObject(stored) && Array.isArray(stored.writes)
    ? // this is the shape that the engine stores
      { value: stored.value, writes: stored.writes as TxOutcome["writes"] }
    : { value: stored, writes: [] }

/** The event that a wait received, for handlers. */
export const readEvent = (turn: TurnMachine, value: unknown): IronflowEvent => {
  const { data, name, timestamp, traceparent: _, version, ...rest } = value as StoredEvent
  const { eventDefinitions } = turn.host
  return {
    ...rest,
    name,
    version,
    data: eventDefinitions === undefined ? data : eventDefinitions.upcastEvent(name, data, version),
    timestamp: new Date(timestamp)
  }
}

/** Decodes the data of an event that a wait for `definition` has received. `validate` may be asynchronous. */
export const decodeAwaited = (
  turn: TurnMachine,
  definition: EventDefinition,
  event: IronflowEvent,
  validate: (schema: StandardSchemaV1, data: unknown, what: string) => unknown
): unknown =>
  decodeForReader(event, definition, turn.host.eventDefinitions, (data) =>
    definition.schema === undefined
      ? data
      : validate(asStandard(definition.schema), data, `Data of event "${event.name}"`)
  )

/** An event in the outcome of a wait, in the form in which the engine stores it. */
interface StoredEvent extends Omit<IronflowEvent, "timestamp"> {
  readonly timestamp: string | number
  /** The trace that the event belongs to. */
  readonly traceparent?: string
}
