import { describe, expect, it } from "vitest"
import { SystemEventsService } from "../../src/Engine/SystemEvents/SystemEvents.ts"

/** What the memory of system events holds: how many events per environment, and how many characters in all. */
const contentOf = (system: SystemEventsService, environments: ReadonlyArray<string>) => {
  const events = environments.map((environment) => system.eventsAfter(environment, 0))
  return {
    counts: events.map(({ length }) => length),
    length: events.flat().reduce((sum, { length }) => sum + length, 0)
  }
}

const announce = (system: SystemEventsService, environment: string, i: number, length: number) =>
  system.announce(environment, "system.run.r.completed", () => ({ i }), length)

describe("the memory of system events", () => {
  const fifty = Array.from({ length: 50 }, (_, i) => `shop-${i}`)

  it("has one limit for all environments, and every environment keeps its newest events", () => {
    const system = new SystemEventsService(() => 0)
    for (let i = 0; i < 500; i++) for (const shop of fifty) announce(system, shop, i, 16_000)

    const { counts, length } = contentOf(system, fifty)

    expect(length).toBeLessThanOrEqual(16 * 1024 * 1024)
    expect(Math.min(...counts)).toBeGreaterThan(5)
    for (const shop of fifty) {
      const events = system.eventsAfter(shop, 0)
      expect(events.at(-1)?.data).toBe('{"i":499}')
      // a reader who missed events is told so
      expect(system.completeSince(shop)).toBeGreaterThan(0)
      expect(events.every(({ sequence }) => sequence > system.completeSince(shop))).toBe(true)
    }
  })

  it("drops events of the environments that have the most", () => {
    const system = new SystemEventsService(() => 0)
    for (let i = 0; i < 100; i++) announce(system, "quiet", i, 256)
    for (let i = 0; i < 500; i++) for (const shop of fifty) announce(system, shop, i, 16_000)

    expect(system.eventsAfter("quiet", 0)).toHaveLength(100)
    expect(system.completeSince("quiet")).toBe(0)
  })

  it("has a limit for the newest events too", () => {
    const system = new SystemEventsService(() => 0)
    system.listensToNewest = true
    const access = { action: "projection:read", resource: "projection:totals" } as const
    for (let i = 0; i < 500; i++) {
      for (const shop of fifty) {
        system.announceNewest(shop, `system.projection.totals.${i}.updated`, {
          access,
          data: () => "{}",
          length: 16_000
        })
      }
    }

    expect(contentOf(system, fifty).length).toBeLessThanOrEqual(16 * 1024 * 1024)
    expect(system.newestCompleteSince("shop-0")).toBeGreaterThan(1)
    expect(
      system.eventsAfter("shop-0", 0).every(({ sequence }) => sequence > system.newestCompleteSince("shop-0"))
    ).toBe(true)
  })
})
