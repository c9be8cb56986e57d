/** The functions of workers that name them by id only. */
import type { FunctionsService } from "../../Engine/Functions/Functions.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"

/** Those that are known, as they are registered. */
export const functionsOf = (
  functions: FunctionsService,
  environment: string,
  ids: ReadonlyArray<string>
): ReadonlyArray<FunctionRegistration> =>
  ids.flatMap((id) => {
    const found = functions.find(environment, id)
    return found === undefined ? [] : [found]
  })
