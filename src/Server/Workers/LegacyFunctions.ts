/** Finds the functions of a legacy worker, which registers only their ids. */
import type { FunctionsService } from "../../Engine/Functions/Functions.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"

/** The registrations of the functions with these ids. Unknown ids are left out. */
export const findFunctions = (
  functions: FunctionsService,
  environment: string,
  ids: ReadonlyArray<string>
): ReadonlyArray<FunctionRegistration> =>
  ids.flatMap((id) => {
    const registration = functions.find(environment, id)
    return registration === undefined ? [] : [registration]
  })
