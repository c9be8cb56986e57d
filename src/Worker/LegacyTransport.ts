import type * as E from "effect/Effect"
import type * as S from "effect/Scope"
import type { WorkerSession } from "../Protocol/Worker.ts"
import type { ServerLink } from "./ServerLink.ts"
export const open = (_: ServerLink): E.Effect<WorkerSession, never, S.Scope> => {
  throw new Error()
}
