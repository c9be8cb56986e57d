/** Shops on files, which tests open, close and open again. */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import { existsSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as SqliteStore from "../../../src/Engine/SqliteStore.ts"
import { Shop } from "./suite/Shop.ts"

const folderIn = (parent: string) =>
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(parent, "ironflow-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true }))
  )

export const folder = folderIn(tmpdir())

/** The path of a database that does not exist yet. */
export const newFile = Effect.map(folder, (path) => join(path, "orders.db"))

/**
 * Like {@link newFile}, but in memory where the machine allows it: a store waits for the disk dozens of times, and few tests need
 * the data there.
 */
export const quickFile = Effect.map(folderIn(existsSync("/dev/shm") ? "/dev/shm" : tmpdir()), (path) =>
  join(path, "orders.db")
)

export const open = (filename: string) =>
  Effect.map(SqliteStore.make({ filename }), (store) => new Shop(store))

/** Opens a database, runs `body` on it and closes it. */
export const visit = <A, E>(filename: string, body: (shop: Shop) => Effect.Effect<A, E, Scope.Scope>) =>
  Effect.scoped(Effect.flatMap(open(filename), body))

/** The error with which a database does not open. */
export const problem = (filename: string) => Effect.scoped(Effect.flip(SqliteStore.make({ filename })))

/** Collects what the store logs during `body`. */
export const withLog = <A, E, R>(body: (logged: ReadonlyArray<string>) => Effect.Effect<A, E, R>) => {
  const logged: Array<string> = []
  const logger = Logger.make(({ message }) => void logged.push(String(message)))
  return Effect.provide(body(logged), Logger.layer([logger]))
}
