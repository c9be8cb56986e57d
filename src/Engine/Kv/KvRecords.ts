/** The types of stored buckets, keys and changes, and of the pages in which they are read. */
import type { KvOperation, StoredValue } from "../../KvValue.ts"
import type { KvChange } from "../Store/Changes.ts"

/** A bucket to create. Names that begin with `$` are reserved for the engine. */
export interface NewKvBucket {
  readonly name: string
  readonly description?: string
  readonly ttlMs?: number
  readonly maxValueBytes: number
  readonly maxBytes?: number
  /** How many revisions of each key are kept, including the current one. */
  readonly history: number
}

export interface KvBucketRow extends NewKvBucket {
  /** The revision of the last write in the bucket. */
  readonly revision: number
  /** How many keys have a value. */
  readonly values: number
  /** The size of all keys and values in the bucket, including the history. */
  readonly bytes: number
  /** Epoch milliseconds. */
  readonly createdAt: number
}

export interface KvEntryRow {
  readonly key: string
  readonly revision: number
  readonly operation: KvOperation
  /** Empty unless the operation is `put`. */
  readonly value: StoredValue
  /** Epoch milliseconds. */
  readonly createdAt: number
  /** Epoch milliseconds. */
  readonly expiresAt?: number
}

export interface KvHistoryQuery {
  readonly key: string
  /** Only revisions after this one. */
  readonly after: number
  readonly limit: number
}

export interface KvHistoryPage {
  readonly entries: Array<KvEntryRow>
  /** The revision after which the next page begins; absent on the last page. */
  readonly next?: number
}

export interface KvKeysQuery {
  /** The page begins after this key; `""` for the first page. */
  readonly after: string
  /** How many keys to read, whether they have a value or not. */
  readonly limit: number
}

export interface KvKeysPage {
  readonly keys: ReadonlyArray<string>
  /** The key after which the next page begins; absent on the last page. */
  readonly nextCursor?: string
}

export interface KvChangePage {
  /** The key of the bucket in its table. */
  readonly bucket: number
  readonly changes: ReadonlyArray<KvChange>
  /** The revision after which the next read begins. */
  readonly revision: number
  /** Whether `revision` is the last one of the bucket for now. */
  readonly atEnd: boolean
}

/** A change of a key. Without a value, it deletes the key. */
export interface KvWriteRow {
  readonly key: string
  readonly value?: StoredValue
  /** The revision that the key must have; 0 if it must not exist. */
  readonly expected?: number
  /** Whether to delete the history too. */
  readonly purge?: boolean
}
