/** Which runs, and events that have started runs, somebody may find. */
import type { StartedBy } from "../Runs/RunRows.ts"
import type { Visible } from "../Runs/RunSearch.ts"
import type { Caller } from "./Access.ts"
import { mayHaveEvent, mayHaveStream } from "./WorkerAccess.ts"

/** Whether the caller may have the data of an event: neither its name, nor its entity, nor the stream of that is denied. */
export const mayKnowEvent = (
  caller: Caller | undefined,
  environment: string,
  { entity, name }: StartedBy
): boolean =>
  mayHaveEvent(caller, environment, name, entity) &&
  (entity === undefined || mayHaveStream(caller, environment, entity.id))

export const visibleTo = (caller: Caller | undefined, environment: string): Visible => ({
  run: (id) => caller?.may("run:read", `run:${id}`, environment) ?? true,
  event: (event) => mayKnowEvent(caller, environment, event)
})
