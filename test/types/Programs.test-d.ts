/** The arguments and results that programs may have: `tsc` checks this file, nothing runs it. */
import { acrossEnvironments, inEnvironment, type Program } from "../../src/Engine/Store/Program.ts"
import type { Transaction } from "../../src/Engine/Store/Transaction.ts"
import type { KeyNotFoundError } from "../../src/Errors.ts"

type Json = string | number | boolean | null | ReadonlyArray<Json> | { readonly [key: string]: Json }

interface Query {
  readonly after?: string
  readonly limits: ReadonlyMap<string, number>
  readonly keys: ReadonlySet<string>
  readonly data: Json
  readonly bytes: Uint8Array
}

interface Filtered extends Query {
  readonly filters?: ReadonlyArray<{ readonly accepts: (key: string) => boolean }>
}

const what = () => "read"

declare const plain: (
  tx: Transaction,
  environment: string,
  query: Query
) => Program<ReadonlyArray<Query | KeyNotFoundError> | undefined>
declare const filtered: (tx: Transaction, environment: string, query: Filtered) => Program<void>
declare const answering: (tx: Transaction, environment: string) => Program<Map<string, () => void>>
declare const dated: (tx: Transaction, environment: string, at: Date) => Program<void>

export const programs = [
  inEnvironment("plain", plain, what),
  acrossEnvironments("plain", plain, what),
  // @ts-expect-error a function somewhere in an argument
  inEnvironment("filtered", filtered, what),
  // @ts-expect-error a function in an argument, across environments
  acrossEnvironments("filtered", filtered, what),
  // @ts-expect-error a function in the result
  acrossEnvironments("answering", answering, what),
  // @ts-expect-error an instance of a class
  acrossEnvironments("dated", dated, what)
]
