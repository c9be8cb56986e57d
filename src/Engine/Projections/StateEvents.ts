/** System events about the states of projections. */
import { jsonObject } from "../../Client/HttpCalls.ts"
import { snakeKeys } from "../../Protocol/Codec.ts"
import type { ProjectionChange } from "../Store/Changes.ts"
import type { SystemEventsService } from "../SystemEvents/SystemEvents.ts"

/** About how many characters an event has besides the state. */
const ENVELOPE_LENGTH = 512

export const announceStates = (
  system: SystemEventsService,
  { cursor, environment, errorMessage, name, rebuilt, states, status }: ProjectionChange
): void => {
  const access = { action: "projection:read", resource: `projection:${name}` } as const
  for (const state of states) {
    system.announceNewest(environment, `system.projection.${name}.${state.partition}.updated`, {
      access,
      length: ENVELOPE_LENGTH + state.state.length,
      data: () =>
        jsonObject(
          snakeKeys({
            name: JSON.stringify(name),
            partition: JSON.stringify(state.partition),
            state: state.state,
            lastEventId: JSON.stringify(state.eventId),
            lastEventName: state.eventName === undefined ? undefined : JSON.stringify(state.eventName),
            lastEventSeq: String(state.position),
            lastEventTime: JSON.stringify(new Date(state.eventTime).toISOString()),
            version: String(state.version),
            mode: '"managed"',
            status: JSON.stringify(status),
            errorMessage: errorMessage === undefined ? undefined : JSON.stringify(errorMessage),
            cursor: JSON.stringify(cursor),
            updatedAt: JSON.stringify(new Date(state.updatedAt).toISOString())
          })
        )
    })
  }
  if (!rebuilt) return
  system.announceNewest(environment, `system.projection.${name}.rebuilt`, {
    access,
    length: ENVELOPE_LENGTH,
    data: () => JSON.stringify({ name, status, cursor })
  })
}
