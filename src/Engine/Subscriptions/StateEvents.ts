/** System events about what has a newest value: states of projections, configurations. */
import { object } from "../../Client/HttpCalls.ts"
import type { ProjectionChange } from "../Store/ProjectionStore.ts"
import type { ConfigChange } from "../Store/Store.ts"
import type { SystemEvents } from "./SystemEvents.ts"

/** Room for what surrounds a state, characters. */
const AROUND = 512

export const announceStates = (
  system: SystemEvents,
  { cursor, environment, errorMessage, name, rebuilt, states, status }: ProjectionChange
): void => {
  const access = { action: "projection:read", resource: `projection:${name}` } as const
  for (const state of states) {
    system.announceNewest(environment, `system.projection.${name}.${state.partition}.updated`, {
      access,
      length: AROUND + state.state.length,
      data: () =>
        object({
          name: JSON.stringify(name),
          partition: JSON.stringify(state.partition),
          state: state.state,
          last_event_id: JSON.stringify(state.eventId),
          last_event_name: state.eventName === undefined ? undefined : JSON.stringify(state.eventName),
          last_event_seq: String(state.position),
          last_event_time: JSON.stringify(new Date(state.eventTime).toISOString()),
          version: String(state.version),
          mode: '"managed"',
          status: JSON.stringify(status),
          error_message: errorMessage === undefined ? undefined : JSON.stringify(errorMessage),
          cursor: JSON.stringify(cursor),
          updated_at: JSON.stringify(new Date(state.updatedAt).toISOString())
        })
    })
  }
  if (!rebuilt) return
  system.announceNewest(environment, `system.projection.${name}.rebuilt`, {
    access,
    length: AROUND,
    data: () => JSON.stringify({ name, status, cursor })
  })
}

export const announceConfig = (
  system: SystemEvents,
  { data, environment, name, revision, updatedAt }: ConfigChange
): void =>
  system.announce(
    environment,
    `system.config.${name}.${data === undefined ? "deleted" : "updated"}`,
    () => ({
      name,
      ...(data === undefined ? {} : { data: JSON.parse(data) }),
      revision,
      updatedAt: new Date(updatedAt).toISOString()
    }),
    AROUND + (data?.length ?? 0),
    { action: "config:read", resource: `config:${name}` }
  )
