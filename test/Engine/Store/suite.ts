/** What every store must do, whatever its database is. */
import { describe } from "@effect/vitest"
import type * as Layer from "effect/Layer"
import type { Store } from "../../../src/Engine/Store/Store.ts"
import type { StoreError } from "../../../src/Errors.ts"
import { accessSuite } from "./suite/Access.ts"
import { bulkSuite } from "./suite/Bulk.ts"
import { claimsSuite } from "./suite/Claims.ts"
import { dueSuite } from "./suite/Due.ts"
import { eventsSuite } from "./suite/Events.ts"
import { findingSuite } from "./suite/Finding.ts"
import { fanOutSuite } from "./suite/FanOut.ts"
import { kvSuite } from "./suite/Kv.ts"
import { groupsSuite } from "./suite/Groups.ts"
import { leasesSuite } from "./suite/Leases.ts"
import { eventSearchSuite } from "./suite/EventSearch.ts"
import { logSuite } from "./suite/Log.ts"
import { projectionsSuite } from "./suite/Projections.ts"
import { revokedLeasesSuite } from "./suite/RevokedLeases.ts"
import { randomWalkSuite } from "./suite/RandomWalk.ts"
import { shopTest } from "./suite/Shop.ts"
import { runControlSuite } from "./suite/RunControl.ts"
import { streamsSuite } from "./suite/Streams.ts"
import { suspectsSuite } from "./suite/Suspects.ts"
import { turnsSuite } from "./suite/Turns.ts"
import { upkeepSuite } from "./suite/Upkeep.ts"
import { versionsSuite } from "./suite/Versions.ts"
import { waitsSuite } from "./suite/Waits.ts"

/**
 * Defines the suite for a store that is empty whenever `makeStore` is built. `isWhole` is false where statements are slow:
 * most tests with thousands of rows are then left to SQLite in memory, because the programs are the same for all stores.
 */
export const storeSuite = (name: string, makeStore: Layer.Layer<Store, StoreError>, isWhole = true): void => {
  describe(`Store on ${name}`, () => {
    const test = shopTest(makeStore)
    eventsSuite(test)
    eventSearchSuite(test, isWhole)
    logSuite(test)
    projectionsSuite(test)
    groupsSuite(test)
    claimsSuite(test)
    turnsSuite(test)
    streamsSuite(test)
    waitsSuite(test)
    fanOutSuite(test, isWhole)
    leasesSuite(test)
    revokedLeasesSuite(test)
    suspectsSuite(test, isWhole)
    runControlSuite(test)
    findingSuite(test)
    dueSuite(test)
    upkeepSuite(test, isWhole)
    versionsSuite(test)
    kvSuite(test)
    accessSuite(test)
    bulkSuite(test)
    randomWalkSuite(test)
  })
}
