/** Function registrations of legacy workers and clients. */
import { resolveRetry } from "../../Backoff.ts"
import { DEFAULT_TIMEOUTS } from "../../Constants.ts"
import { checkRegistration } from "../../Engine/Functions/CheckRegistration.ts"
import { CODE_HASH_KEY, type FunctionRequest } from "../../Protocol/Functions.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"

/** The registration of a legacy worker or client, checked and with defaults. */
export const fromLegacyRegistration = (request: FunctionRequest): FunctionRegistration => {
  const { id, name, preferredMode, endpointUrl, actorKey, metadata } = request
  const hash = metadata?.[CODE_HASH_KEY]
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
    // without a hash nothing is known of the code, and all workers count as having the same code
    codeHash: typeof hash === "string" ? hash : "",
    ...(request.concurrency === undefined ? {} : { concurrency: request.concurrency }),
    ...(actorKey === undefined || actorKey === "" ? {} : { actorKey }),
    ...(request.searchBy === undefined ? {} : { searchBy: request.searchBy }),
    ...(request.recording === undefined ? {} : { recording: request.recording }),
    ...(request.recordingRetention ? { recordingRetention: request.recordingRetention } : {}),
    ...(request.version ? { version: request.version } : {}),
    ...(request.versioning === undefined ? {} : { versioning: request.versioning }),
    ...(request.keepRuns === undefined ? {} : { keepRuns: request.keepRuns }),
    ...(metadata === undefined ? {} : { metadata })
  })
}
