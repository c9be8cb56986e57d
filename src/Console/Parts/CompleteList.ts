/** Reads lists completely, page by page. */
import { type Codec, reader } from "../../Protocol/Codec.ts"
import type { Operation } from "../../Protocol/CallSpec.ts"
import { CallError, type Input, isRecord, send } from "./Calls.ts"

const PAGE_SIZE = 1000
/** Maximum number of pages that are read: a longer list is of no use to people. */
const MAX_PAGES = 20

/** All items of a list, but at most {@link MAX_PAGES} pages. Fails with a `CallError`. */
export const askAll = async <A>(
  operation: Operation<Array<A>>,
  input: Input = {}
): Promise<ReadonlyArray<A>> => {
  const all: Array<A> = []
  let cursor: string | undefined
  for (let i = 0; i < MAX_PAGES; i++) {
    const text = await send(operation, { ...input, query: { ...input.query, limit: PAGE_SIZE, cursor } })
    const page: unknown = JSON.parse(text)
    const items = isRecord(page)
      ? reader(operation.answer as Codec<Array<A>>)(page[operation.page ?? ""])
      : undefined
    if (items === undefined) {
      throw new CallError(
        "This page cannot read the answer of the engine: reload the page",
        200,
        "INVALID_ANSWER"
      )
    }
    all.push(...items)
    const next = isRecord(page) ? page["nextCursor"] : undefined
    if (typeof next !== "string" || next === "") return all
    cursor = next
  }
  return all
}
