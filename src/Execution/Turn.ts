/**
 * A turn: one pass of a handler from the start. `TurnEnd` lists the ways in which a turn may end. If the run has not
 * ended, another turn follows. That turn finds in the journal the steps that earlier turns have recorded.
 */
import type { IronflowEvent } from "../Event.ts"
import { type HandledEvent as PreparedEvent, validateEvent } from "../EventData.ts"
import { isEventTooNew } from "../EventVersions.ts"
import { type AnyFunction, isEffectFunction } from "../Function.ts"
import { decodeJson } from "../Json.ts"
import type { Job } from "../Protocol/Worker.ts"
import { startEffectHandler } from "./EffectStep.ts"
import { functionPlan } from "./FunctionPlan.ts"
import { startPromiseHandler } from "./PromiseStep.ts"
import { passTraceOn, traceTurn } from "./TurnTrace.ts"
import { TurnMachine } from "./TurnMachine.ts"
import type { TurnEnd, TurnHandle, TurnHost } from "./TurnHost.ts"

export type { TurnEnd, TurnHandle, TurnHost } from "./TurnHost.ts"

/**
 * Starts a turn of `fn` for `job`. `onEndUntraced` is called once: when the turn's last op was acknowledged, or after
 * `abort`. The turn reports to the host, `untracedHost`. If the turn is traced, its reports and its end go through the
 * trace.
 */
export const startTurn = (
  fn: AnyFunction,
  job: Job,
  untracedHost: TurnHost,
  onEndUntraced: (end: TurnEnd) => void
): TurnHandle => {
  const trace = traceTurn(job, untracedHost)
  const host: TurnHost =
    trace?.host ??
    (job.event.trace === undefined
      ? untracedHost
      : { ...untracedHost, report: (op, onAck) => untracedHost.report(passTraceOn(job, op), onAck) })
  const onEnd =
    trace === undefined
      ? onEndUntraced
      : (end: TurnEnd): void => {
          trace.turnEnded(end)
          onEndUntraced(end)
        }
  let interruptFiber: (() => void) | undefined
  let isInterrupted = false
  const turn = new TurnMachine(functionPlan(fn), job, host, {
    // Fibers may pass through Effect's scheduler, which takes one more turn of the event loop than promises.
    loopTurnsToDrain: isEffectFunction(fn) ? 2 : 1,
    abandonsSilently: !isEffectFunction(fn),
    interruptHandler: () => {
      isInterrupted = true
      interruptFiber?.()
    },
    onEnd
  })

  let storedEvent: StoredJson
  try {
    storedEvent = decodeEvent(job)
  } catch (error) {
    turn.pauseForDamagedEvent(error)
    return turn
  }

  const start = (preparedEvent: PreparedEvent): void => {
    if (turn.isOver) return
    const event = makeEvent(job, preparedEvent, storedEvent.metadata)
    const run = {
      id: job.runId,
      functionId: job.functionId,
      attempt: job.attempt,
      startedAt: new Date(job.createdAt)
    }
    if (!isEffectFunction(fn)) {
      startPromiseHandler(fn, turn, event, run)
      return
    }
    interruptFiber = startEffectHandler(fn, turn, event, run)
    if (isInterrupted) interruptFiber()
  }

  const failed = (error: unknown): void =>
    isEventTooNew(error) ? turn.pauseForNewEvent(error) : turn.handlerFailed(error)
  try {
    const preparedEvent = prepareEvent(fn, job, storedEvent.data, host)
    if (preparedEvent instanceof Promise) preparedEvent.then(start).catch(failed)
    else start(preparedEvent)
  } catch (error) {
    failed(error)
  }
  return turn
}

/** The fields of a stored event that hold JSON. */
interface StoredJson {
  readonly data: unknown
  readonly metadata: Record<string, unknown> | undefined
}

const decodeEvent = ({ event }: Job): StoredJson => ({
  data: decodeJson(event.data),
  metadata: decodeJson(event.metadata) as Record<string, unknown> | undefined
})

/**
 * The event for the handler, with its data upcast and validated. The result is a promise when the schema is
 * asynchronous.
 */
const prepareEvent = (
  fn: AnyFunction,
  { event }: Job,
  data: unknown,
  host: TurnHost
): PreparedEvent | Promise<PreparedEvent> => {
  const { eventDefinitions } = host
  const { name, version } = event
  const newest = eventDefinitions === undefined ? data : eventDefinitions.upcastEvent(name, data, version)
  return validateEvent(fn, { name, version, data: newest }, eventDefinitions)
}

const makeEvent = (
  job: Job,
  { data, name }: PreparedEvent,
  metadata: StoredJson["metadata"]
): IronflowEvent => {
  const { event } = job
  return {
    id: event.id,
    name,
    version: event.version,
    data,
    timestamp: new Date(event.timestamp),
    ...(metadata === undefined ? {} : { metadata }),
    ...(event.source === undefined ? {} : { source: event.source }),
    ...(event.idempotencyKey === undefined ? {} : { idempotencyKey: event.idempotencyKey }),
    ...(event.entity === undefined ? {} : { entity: event.entity })
  }
}
