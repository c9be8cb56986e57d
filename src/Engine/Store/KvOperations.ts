/** How operations and types of values are stored; the order is part of the database. */
import type { ValueType } from "../../KvValue.ts"
import type { KvOperation } from "./Store.ts"

export const operations = ["put", "delete", "purge", "expire"] as const satisfies ReadonlyArray<KvOperation>
export const types = ["json", "text", "bytes", "raw"] as const satisfies ReadonlyArray<ValueType>

export const PUT = operations.indexOf("put")
