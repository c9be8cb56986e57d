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
  if (endpointUrl !== undefined)
    checkEndpointUrl(endpointUrl, `\`endpointUrl\` of function "${registration.id}"`)
  Limits.checkLength(
    `The code hash of function "${registration.id}"`,
    registration.codeHash,
    Limits.nameLength
  )
  checkConfig({ ...config, timeout: timeoutMs })
  return registration
}

/** Throws `ValidationError` when the functions of one worker or push endpoint are invalid, are too many, or are too large. */
export const checkRegistrations = (functions: ReadonlyArray<FunctionRegistration>): void => {
  Limits.checkFunctionCount(functions)
  let total = 0
  for (const fn of functions) {
    const what = `The registration of function "${fn.id}"`
    total += Buffer.byteLength(Limits.checkSize(what, JSON.stringify(fn), Limits.functionBytes))
    for (const [i, trigger] of fn.triggers.entries()) {
      checkTrigger(trigger, `Trigger ${i} of function "${fn.id}"`)
    }
  }
  if (total > Limits.registrationBytes) {
    throw new LimitExceededError(
      "The total size of the function registrations of one worker or push endpoint",
      total,
      Limits.registrationBytes,
      "bytes",
      { advice: "Split the functions over several workers or push endpoints" }
    )
  }
}
