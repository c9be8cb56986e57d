/**
 * The checksum of a backup. The checksum is stored in the backup itself, and computed as if there were zeros in its place. It
 * detects even damage that leaves valid JSON and valid pages.
 */
import { createHash, randomBytes } from "node:crypto"
import { createReadStream } from "node:fs"
import { open } from "node:fs/promises"
import { StoreError } from "../../Errors.ts"
import { safeJsonParse } from "../../Json.ts"
import { DatabaseSync } from "./NodeSqlite.ts"
import { isDamage } from "./SqliteErrors.ts"

/** How many hex digits a checksum has. */
const LENGTH = 64
const ZEROS = Buffer.from("0".repeat(LENGTH))

/** The name of the row of `meta` with the {@link Mark}. */
export const BACKUP_META_KEY = "backup"

/** The mark that a backup has in its table `meta`. */
export interface Mark {
  /** ISO string. */
  readonly madeAt: string
  /** SHA-256 in hex; absent in backups that earlier versions have made. */
  readonly sha256?: string
}

export const markOf = (db: DatabaseSync): Mark | undefined => {
  const value = db.prepare("SELECT value FROM meta WHERE name = ?").get(BACKUP_META_KEY)?.value
  return value === undefined ? undefined : safeJsonParse<Mark>(String(value))
}

/** A random text that stands for the checksum until it is known. It occurs nowhere else in the file. */
export const placeholder = (): string => randomBytes(LENGTH / 2).toString("hex")

/** Computes the checksum of a file with zeros wherever `text` occurs. Also returns the positions at which `text` occurs. */
const digest = async (
  filename: string,
  text: string
): Promise<{ readonly sha256: string; readonly places: ReadonlyArray<number> }> => {
  const hash = createHash("sha256")
  const bytesOfText = Buffer.from(text)
  const places: Array<number> = []
  let unhashed: Buffer = Buffer.alloc(0)
  /** The position of `unhashed` in the file. */
  let position = 0
  const hashFirst = (length: number): void => {
    hash.update(unhashed.subarray(0, length))
    unhashed = unhashed.subarray(length)
    position += length
  }
  for await (const piece of createReadStream(filename, { highWaterMark: 256 * 1024 })) {
    unhashed = Buffer.concat([unhashed, piece as Buffer])
    for (let index = unhashed.indexOf(bytesOfText); index >= 0; index = unhashed.indexOf(bytesOfText)) {
      hashFirst(index)
      places.push(position)
      hash.update(ZEROS)
      unhashed = unhashed.subarray(LENGTH)
      position += LENGTH
    }
    // does not hash the end yet: `text` may begin there
    hashFirst(Math.max(0, unhashed.length - LENGTH + 1))
  }
  hashFirst(unhashed.length)
  return { sha256: hash.digest("hex"), places }
}

/** Replaces a placeholder in a file with the checksum of the file. */
export const writeChecksum = async (filename: string, placeholderText: string): Promise<void> => {
  const { places, sha256 } = await digest(filename, placeholderText)
  if (places.length === 0)
    throw new StoreError(
      `The backup "${filename}" could not be signed: it does not contain the placeholder for its checksum. Make the backup again; if that fails too, report it`
    )
  const file = await open(filename, "r+")
  try {
    for (const at of places) await file.write(Buffer.from(sha256), 0, LENGTH, at)
  } finally {
    await file.close()
  }
}

/**
 * Throws a `StoreError` when the checksum of a file does not match; `displayName` is the file's name in messages. A file without a
 * checksum passes.
 */
export const verifyChecksum = async (filename: string, displayName: string): Promise<void> => {
  const expected = storedChecksumOf(filename)
  if (expected === undefined) return
  const { sha256 } = await digest(filename, expected)
  if (sha256 === expected) return
  throw new StoreError(
    `"${displayName}" does not match its checksum: it was changed after it was written, or is damaged. Take another backup`,
    { code: "STORE_CORRUPT" }
  )
}

const storedChecksumOf = (filename: string): string | undefined => {
  let db: DatabaseSync | undefined
  try {
    db = new DatabaseSync(filename, { readOnly: true })
    const sha256 = markOf(db)?.sha256
    return typeof sha256 === "string" && sha256.length === LENGTH ? sha256 : undefined
  } catch (error) {
    // not an error here: callers also check the whole file, and that check reports what is wrong
    if (isDamage(error) || (error instanceof Error && "errcode" in error)) return undefined
    throw error
  } finally {
    db?.close()
  }
}
