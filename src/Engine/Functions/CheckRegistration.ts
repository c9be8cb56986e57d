/** Checks functions that arrive over the wire. The engine rejects what `createFunction` rejects, but ignores unknown keys. */
import { checkEndpointUrl } from "../../EndpointUrl.ts"
import { checkConfig } from "../../FunctionChecks.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { LimitExceededError } from "../../Errors.ts"
import * as Limits from "../../Limits.ts"
import { checkTrigger } from "../../Trigger.ts"

/** Checks and returns the registration. Throws a `ValidationError` that names the function and the invalid field. */
export const checkRegistration = (registration: FunctionRegistration): FunctionRegistration => {
  const { timeoutMs, codeHash: _, endpointUrl, ...config } = registration
  if (endpointUrl !== undefined) checkEndpointUrl(endpointUrl)
  Limits.checkLength(
    `The code hash of function "${registration.id}"`,
    registration.codeHash,
    Limits.nameLength
  )
  checkConfig({ ...config, timeout: timeoutMs })
  return registration
}

/** Throws `ValidationError` when the functions of one program are not valid together, are too many, or are too large. */
export const checkRegistrations = (functions: ReadonlyArray<FunctionRegistration>): void => {
  Limits.checkFunctionCount(functions)
  let all = 0
  for (const fn of functions) {
    const what = `The registration of function "${fn.id}"`
    all += Limits.checkSize(what, JSON.stringify(fn), Limits.functionBytes).length
    for (const [i, trigger] of fn.triggers.entries()) {
      checkTrigger(trigger, `Trigger ${i} of function "${fn.id}"`)
    }
  }
  if (all > Limits.registrationBytes) {
    throw new LimitExceededError(
      "The registration of all functions of one worker",
      all,
      Limits.registrationBytes,
      "characters"
    )
  }
}
