/** The functions of workers that register them by id only. */
import type { FunctionsService } from "../../Engine/Functions/Functions.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"

/** The registrations of the known ones. */
export const functionsOf = (
  functions: FunctionsService,
  environment: string,
  ids: ReadonlyArray<string>
): ReadonlyArray<FunctionRegistration> =>
  ids.flatMap((id) => {
    const found = functions.find(environment, id)
    return found === undefined ? [] : [found]
  })
