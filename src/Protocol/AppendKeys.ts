/** The keys of what is appended to a stream, apart from the checks of it: clients have no use for these. */
import type { AppendAllInput, AppendEventInput, StreamEventInput } from "../EntityStream.ts"
import type { Keys } from "../OptionKeys.ts"

export const appendInputKeys = { name: true, data: true, entityType: true } satisfies Keys<AppendEventInput>

export const appendAllInputKeys = {
  entityType: true,
  events: [{ name: true, data: true, version: true, metadata: true } satisfies Keys<StreamEventInput>]
} satisfies Keys<AppendAllInput>
