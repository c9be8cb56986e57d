/** The numbers by which operations on keys and types of values are stored. The numbers are part of the database. */
import type { KvOperation, ValueType } from "../../KvValue.ts"

const storedOperation = { put: 0, delete: 1, purge: 2, expire: 3 } as const satisfies {
  readonly [O in KvOperation]: number
}
const storedType = { json: 0, text: 1, bytes: 2, raw: 3 } as const satisfies {
  readonly [T in ValueType]: number
}

// in both lists, the index of a name is its number
export const operationsByCode = Object.keys(storedOperation) as ReadonlyArray<KvOperation>
export const typesByCode = Object.keys(storedType) as ReadonlyArray<ValueType>

export const PUT_CODE = storedOperation.put
