/** System events about configurations. */
import type { SystemEventsService } from "../SystemEvents/SystemEvents.ts"
import type { ConfigChange } from "../Store/Changes.ts"

/** About how many characters an announcement has in addition to the data of the configuration. */
const OVERHEAD_LENGTH = 512

export const announceConfig = (
  system: SystemEventsService,
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
    OVERHEAD_LENGTH + (data?.length ?? 0),
    { action: "config:read", resource: `config:${name}` }
  )
