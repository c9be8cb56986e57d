/** Finds the functions of legacy workers, which register them by id only. */
import type { FunctionsService } from "../../Engine/Functions/Functions.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"

/** The registrations of those ids that are known. */
export const functionsOf = (
  functions: FunctionsService,
  environment: string,
  ids: ReadonlyArray<string>
): ReadonlyArray<FunctionRegistration> =>
  ids.flatMap((id) => {
    const found = functions.find(environment, id)
    return found === undefined ? [] : [found]
  })
