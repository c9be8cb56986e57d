/** Which runs a caller may see, and whether it may have the data of a run or an event. */
import type { Run } from "../../Client/Client.ts"
import { isObject } from "../../Json.ts"
import { isFailureHandlerId } from "../../OnFailure.ts"
import type { StartedBy } from "../Runs/RunRows.ts"
import type { Visibility } from "../Runs/RunSearch.ts"
import type { Caller } from "./Access.ts"
import { mayHaveEvent, mayHaveStream } from "./WorkerAccess.ts"

/**
 * Whether the caller may have the data of an event: no policy denies the event's name, its entity, or the stream of the entity.
 */
export const mayKnowEvent = (
  caller: Caller | undefined,
  environment: string,
  { entity, name }: { readonly name: string; readonly entity?: Pick<Entity, "id" | "type"> }
): boolean =>
  mayHaveEvent(caller, environment, name, entity) &&
  (entity === undefined || mayHaveStream(caller, environment, entity.id))

type Entity = NonNullable<StartedBy["entity"]>

export const visibleTo = (caller: Caller | undefined, environment: string): Visibility => ({
  canSeeRun: (id) => caller?.may("run:read", `run:${id}`, environment) ?? true,
  canSeeInput: ({ run, startedBy, systemEvent }) =>
    mayKnowInput(
      caller,
      environment,
      run,
      startedBy ?? (systemEvent === undefined ? undefined : { name: systemEvent })
    )
})

/** Whether there may be runs whose input a policy denies the caller. */
export const mayLackInputs = (caller: Caller): boolean =>
  (["subscription:read", "stream:read", "run:read", "function:read"] as const).some((action) =>
    caller.isDenied(action)
  )

/** Whether the caller may have the input of a run. `startedBy` is the event that started the run, if there was one. */
export const mayKnowInput = (
  caller: Caller | undefined,
  environment: string,
  run: Pick<Run, "functionId" | "input">,
  startedBy: StartedBy | undefined
): boolean => {
  if (caller === undefined || !mayLackInputs(caller)) return true
  return (
    (startedBy === undefined ||
      (mayKnowEvent(caller, environment, startedBy) &&
        mayKnowSubject(caller, environment, startedBy.name))) &&
    eventsOfFailure(run).every((event) => mayKnowEvent(caller, environment, event))
  )
}

/** Whether the caller may know the run or function that the name of a system event reveals. */
const mayKnowSubject = (caller: Caller, environment: string, name: string): boolean => {
  const [, kind, id] = /^system\.(run|function)\.(.+)\.[^.]+$/.exec(name) ?? []
  if (id === undefined) return true
  return caller.isNotDenied(kind === "run" ? "run:read" : "function:read", `${kind}:${id}`, environment)
}

/** The events in the input of a failure handler: the event of the failed run, and the events that the run had waited for. */
const eventsOfFailure = ({ functionId, input }: Pick<Run, "functionId" | "input">) => {
  if (!isFailureHandlerId(functionId) || !isObject(input)) return []
  const steps: ReadonlyArray<unknown> = Array.isArray(input.steps) ? input.steps : []
  const received = steps.flatMap((step) =>
    isObject(step) && step.kind === "waitForEvent" ? [step.output] : []
  )
  return [input.event, ...received].flatMap((event) => eventOfData(event) ?? [])
}

/** The name and the entity of the event in `data`, for checks of policies; `undefined` when `data` is no event. */
export const eventOfData = (
  data: unknown
): { readonly name: string; readonly entity?: Pick<Entity, "id" | "type"> } | undefined => {
  if (!isObject(data) || typeof data.name !== "string") return undefined
  const { entity, name } = data
  return isObject(entity) && typeof entity.id === "string" && typeof entity.type === "string"
    ? { name, entity: { id: entity.id, type: entity.type } }
    : { name }
}
