import { ValidationError } from "../../Errors.ts"
import * as Limits from "../../Limits.ts"
import { checkProjectionEvents, checkProjectionName } from "../../Projection/Projection.ts"
import type { ProjectionRegistration } from "../../Protocol/ProjectionOwners.ts"
import { show } from "../../Show.ts"

/** Throws `ValidationError` when the registration of a projection is invalid. */
export const checkRegistration = ({ events, mode, name, partitionKey }: ProjectionRegistration): void => {
  const label = `Projection "${checkProjectionName(name)}"`
  checkProjectionEvents(events, label)
  if (partitionKey !== undefined && partitionKey.length > Limits.expressionLength) {
    throw new ValidationError(
      `${label}: \`partitionKey\` has ${partitionKey.length} characters, and at most ${Limits.expressionLength} are allowed`
    )
  }
  if (mode !== "managed" && mode !== "external") {
    throw new ValidationError(`${label}: \`mode\` must be "managed" or "external", got ${show(mode)}`)
  }
}
