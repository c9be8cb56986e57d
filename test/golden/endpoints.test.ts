/** The exact answers of every endpoint: requests and answers are recorded in `<noun>.json`. */
import { afterAll, assert, describe, it } from "vitest"
import { type EndpointName, endpoints } from "../../src/Protocol/AllEndpoints.ts"
import { exchangesOf } from "./Noun.ts"
import { nouns } from "./nouns/All.ts"
import { Transcript } from "./Transcript.ts"

it("every endpoint has its transcript", () => {
  const here = Object.values(nouns).flatMap((noun) => Object.keys(noun.endpoints))

  assert.sameMembers(here, Object.keys(endpoints))
})

describe.each(Object.entries(nouns))("%s", (name, noun) => {
  const names = Object.keys(noun.endpoints) as ReadonlyArray<EndpointName>
  const transcript = new Transcript(name, names)
  afterAll(() => transcript.finish())

  it.each(names)("%s answers as recorded", async (endpoint) => {
    transcript.check(endpoint, await exchangesOf(endpoint, noun))
  })
})
