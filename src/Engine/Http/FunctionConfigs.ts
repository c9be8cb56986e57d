/** Functions that come over the wire: what `createFunction` does not accept, the engine does not either, but for keys that nobody knows. */
import { resolveRetry } from "../../Backoff.ts"
import { DEFAULT_TIMEOUTS } from "../../Constants.ts"
import { checkEndpointUrl } from "../Push/Settings.ts"
import { checkConfig } from "../../Function.ts"
import type { RegisterFunctionRequest } from "../../Protocol/Http/Schemas.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { checkLength, nameLength } from "../../Limits.ts"
import { checkGets } from "../Access/WorkerAccess.ts"
import type { Call } from "./Route.ts"

/** The registration again. Throws `ValidationError` naming the function and the field when it is not acceptable. */
export const checkRegistration = (registration: FunctionRegistration): FunctionRegistration => {
  const { timeoutMs, codeHash: _, endpointUrl, ...config } = registration
  if (endpointUrl !== undefined) checkEndpointUrl(endpointUrl)
  checkLength(`The code hash of function "${registration.id}"`, registration.codeHash, nameLength)
  checkConfig({ ...config, timeout: timeoutMs })
  return registration
}

/** Throws `UnauthorizedError` when the caller may not register the function, or not have what its runs bring. */
export const checkRegistering = ({ caller, environment }: Call, fn: FunctionRegistration): void => {
  if (caller === undefined) return
  caller.check("function:register", `function:${fn.id}`, environment)
  checkGets(caller, environment, fn)
}

/** What an existing worker or client registers, checked, with defaults filled in. */
export const toRegistration = (request: typeof RegisterFunctionRequest.Type): FunctionRegistration => {
  const { id, name, preferredMode, endpointUrl, actorKey, metadata } = request
  const hash = metadata?.["__ironflow_code_hash"]
  const isPush =
    preferredMode === "EXECUTION_MODE_PUSH" || preferredMode === "push" || (!preferredMode && endpointUrl)
  return checkRegistration({
    id,
    name: name || id,
    triggers: request.triggers ?? [],
    retry: resolveRetry(request.retry, `retry of function "${id}"`),
    timeoutMs: request.timeoutMs || DEFAULT_TIMEOUTS.FUNCTION,
    mode: isPush ? "push" : "pull",
    ...(isPush && endpointUrl ? { endpointUrl } : {}),
    secrets: request.secrets ?? [],
    // of workers that send none the code is unknown, and every worker is as good as another
    codeHash: typeof hash === "string" ? hash : "",
    ...(request.concurrency === undefined ? {} : { concurrency: request.concurrency }),
    ...(actorKey === undefined || actorKey === "" ? {} : { actorKey }),
    ...(request.recording === undefined ? {} : { recording: request.recording }),
    ...(request.recordingRetention ? { recordingRetention: request.recordingRetention } : {}),
    ...(metadata === undefined ? {} : { metadata })
  })
}
