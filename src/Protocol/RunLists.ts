/** The filters of a list of runs, in requests. */
import { fields, integer, list, object, optional, text } from "./Codec.ts"

/**
 * A request for a list of runs. `functionId` (one function) and `status` (one status, in any spelling) are the filters of version
 * 0.8.0; the filters below `cursor` came later. Times are ISO strings.
 */
export interface ListRuns {
  readonly functionId?: string
  readonly status?: string
  readonly limit?: number
  readonly cursor?: string
  readonly functionIds?: Array<string>
  readonly statuses?: Array<string>
  readonly createdFrom?: string
  readonly createdTo?: string
  readonly endedFrom?: string
  readonly endedTo?: string
  readonly eventName?: string
  readonly entityId?: string
  readonly idempotencyKey?: string
  readonly error?: string
  readonly attributes?: { readonly [path: string]: unknown }
  readonly where?: string
}
export const ListRunsRequest = fields<ListRuns>({
  functionId: optional(text),
  status: optional(text),
  limit: optional(integer),
  cursor: optional(text),
  functionIds: optional(list(text)),
  statuses: optional(list(text)),
  createdFrom: optional(text),
  createdTo: optional(text),
  endedFrom: optional(text),
  endedTo: optional(text),
  eventName: optional(text),
  entityId: optional(text),
  idempotencyKey: optional(text),
  error: optional(text),
  attributes: optional(object),
  where: optional(text)
})
/**
 * The filters below `cursor` in {@link ListRuns}, as query parameters. `function_ids`, `statuses` and
 * `attributes` (`path=value`) may be repeated.
 */
export const listFilters = [
  "function_ids",
  "statuses",
  "created_from",
  "created_to",
  "ended_from",
  "ended_to",
  "event_name",
  "entity_id",
  "idempotency_key",
  "error",
  "attributes",
  "where"
] as const
