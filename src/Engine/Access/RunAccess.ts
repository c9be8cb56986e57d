/** Which runs, and events that have started runs, somebody may find. */
import type { Visible } from "../Runs/RunSearch.ts"
import type { Caller } from "./Access.ts"
import { mayHaveEvent, mayHaveStream } from "./WorkerAccess.ts"

export const visibleTo = (caller: Caller | undefined, environment: string): Visible => ({
  run: (id) => caller?.may("run:read", `run:${id}`, environment) ?? true,
  event: ({ entity, name }) =>
    mayHaveEvent(caller, environment, name, entity) &&
    (entity === undefined || mayHaveStream(caller, environment, entity.id))
})
