/** What buckets and their keys take and give. */
import type { KvOperation, StoredValue } from "../../KvValue.ts"
import type { KvChange } from "../Store/Changes.ts"

/** A bucket of keys to make. Names that begin with `$` are the engine's own. */
export interface NewKvBucket {
  readonly name: string
  readonly description?: string
  readonly ttlMs?: number
  readonly maxValueBytes: number
  readonly maxBytes?: number
  /** Revisions that are kept of each key, the present one included. */
  readonly history: number
}

export interface KvBucketRow extends NewKvBucket {
  /** Of the last write. */
  readonly revision: number
  readonly values: number
  readonly bytes: number
  /** Epoch milliseconds. */
  readonly createdAt: number
}

export interface KvEntryRow {
  readonly key: string
  readonly revision: number
  readonly operation: KvOperation
  /** Without bytes unless the operation is `put`. */
  readonly value: StoredValue
  /** Epoch milliseconds. */
  readonly createdAt: number
  /** Epoch milliseconds. */
  readonly expiresAt?: number
}

export interface KvHistoryQuery {
  readonly key: string
  /** Revisions after this one. */
  readonly after: number
  readonly limit: number
}

export interface KvHistoryPage {
  readonly entries: Array<KvEntryRow>
  /** The revision to go on after; absent at the end. */
  readonly next?: number
}

export interface KvKeysQuery {
  /** Begins after this key; "" for the first. */
  readonly after: string
  /** Keys that are looked at, whether they have a value or not. */
  readonly limit: number
}

export interface KvKeysPage {
  readonly keys: ReadonlyArray<string>
  /** The key after which to go on; absent at the end. */
  readonly nextCursor?: string
}

export interface KvChangePage {
  readonly bucket: number
  readonly changes: ReadonlyArray<KvChange>
  /** Where to read on. */
  readonly revision: number
  /** Whether that is the last revision of the bucket, for now. */
  readonly atEnd: boolean
}

/** A change of a key; deletes it when there is no value. */
export interface KvWriteRow {
  readonly key: string
  readonly value?: StoredValue
  /** The revision that the key must have; 0: it must not exist. */
  readonly expected?: number
  /** Deletes the history too. */
  readonly purge?: boolean
}
