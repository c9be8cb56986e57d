/** The exact answers of every call: requests and answers are recorded in `<noun>.json`. */
import { afterAll, assert, describe, it } from "vitest"
import { type CallName, callSpecs } from "../../src/Protocol/AllCalls.ts"
import { exchangesOf } from "./Noun.ts"
import { nouns } from "./nouns/All.ts"
import { Transcript } from "./Transcript.ts"

it("every call has its transcript", () => {
  const covered = Object.values(nouns).flatMap((noun) => Object.keys(noun.calls))

  assert.sameMembers(covered, Object.keys(callSpecs))
})

describe.each(Object.entries(nouns))("%s", (name, noun) => {
  const names = Object.keys(noun.calls) as ReadonlyArray<CallName>
  const transcript = new Transcript(name, names)
  afterAll(() => transcript.finish())

  it.each(names)("%s answers as recorded", async (name) => {
    transcript.check(name, await exchangesOf(name, noun))
  })
})
