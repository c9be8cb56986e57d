/** How the REST calls about projections spell what a client sees: fields in snake case, 64-bit integers as numbers. */
import type { ProjectionStatusInfo } from "../../Client/Projections.ts"

export const encodeProjectionStatus = (info: ProjectionStatusInfo): { readonly [field: string]: unknown } =>
  Object.fromEntries(
    Object.entries(info).map(([name, value]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      value
    ])
  )
