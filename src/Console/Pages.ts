/** The pages: their paths, titles and keyboard shortcuts. Only the pages in this list can be opened. */
import type { ComponentType } from "preact"
import { Access } from "./Pages/Access.tsx"
import { BulkOperations, OneBulk } from "./Pages/Bulk.tsx"
import { Configuration, Configurations } from "./Pages/Configurations.tsx"
import { Event, Events } from "./Pages/Events.tsx"
import { Find } from "./Pages/Find.tsx"
import { Functions, OneFunction } from "./Pages/Functions.tsx"
import { Bucket, Buckets, Key } from "./Pages/Kv.tsx"
import { OneProjection, Projections } from "./Pages/Projections.tsx"
import { Overview } from "./Pages/Overview.tsx"
import { PushEndpoints } from "./Pages/Push.tsx"
import { Run } from "./Pages/Run.tsx"
import { Runs } from "./Pages/Runs.tsx"
import { Schedules } from "./Pages/Schedules.tsx"
import { Secrets } from "./Pages/Secrets.tsx"
import { Stream, Streams } from "./Pages/Streams.tsx"
import { System } from "./Pages/System.tsx"
import { Group, Topic, Topics } from "./Pages/Topics.tsx"
import { Worker, Workers } from "./Pages/Workers.tsx"
import type { Variables } from "./Parts/Router.ts"

export interface Page {
  /** The path after the base. A segment that begins with a colon is a variable, which the page receives. */
  readonly path: string
  readonly title: string
  /** The group of the page in the navigation. A page without a group is opened from other pages. */
  readonly group?: "Work" | "Data" | "Engine"
  /** The key to press after `g`. */
  readonly key?: string
  readonly component: ComponentType<{ readonly variables: Variables }>
}

export const pages: ReadonlyArray<Page> = [
  { path: "", title: "Overview", group: "Work", key: "o", component: Overview },
  { path: "find", title: "Find", component: Find },
  { path: "runs", title: "Runs", group: "Work", key: "r", component: Runs },
  { path: "runs/:id", title: "Run", component: Run },
  { path: "bulk", title: "Bulk operations", group: "Work", key: "b", component: BulkOperations },
  { path: "bulk/:id", title: "Bulk operation", component: OneBulk },
  { path: "events", title: "Events", group: "Work", key: "e", component: Events },
  { path: "events/:id", title: "Event", component: Event },
  { path: "functions", title: "Functions", group: "Work", key: "f", component: Functions },
  { path: "functions/:id", title: "Function", component: OneFunction },
  { path: "schedules", title: "Schedules", group: "Work", key: "d", component: Schedules },
  { path: "workers", title: "Workers", group: "Work", key: "w", component: Workers },
  { path: "workers/:id", title: "Worker", component: Worker },
  { path: "projections", title: "Projections", group: "Data", key: "p", component: Projections },
  { path: "projections/:name", title: "Projection", component: OneProjection },
  { path: "topics", title: "Topics and groups", group: "Data", key: "t", component: Topics },
  { path: "topics/:name", title: "Topic", component: Topic },
  { path: "topics/groups/:name", title: "Consumer group", component: Group },
  { path: "streams", title: "Streams", group: "Data", key: "s", component: Streams },
  { path: "streams/:id", title: "Stream", component: Stream },
  { path: "keys", title: "Keys", group: "Data", key: "k", component: Buckets },
  { path: "keys/:bucket", title: "Bucket", component: Bucket },
  { path: "keys/:bucket/:key", title: "Key", component: Key },
  { path: "configurations", title: "Configurations", group: "Data", key: "c", component: Configurations },
  { path: "configurations/:name", title: "Configuration", component: Configuration },
  { path: "push", title: "Push endpoints", group: "Engine", key: "h", component: PushEndpoints },
  { path: "access", title: "Access", group: "Engine", key: "a", component: Access },
  { path: "secrets", title: "Secrets", group: "Engine", key: "x", component: Secrets },
  { path: "system", title: "System", group: "Engine", key: "y", component: System }
]

export interface FoundPage {
  readonly page: Page
  readonly variables: Variables
}

/** The page that has this path. */
export const findPage = (path: string): FoundPage | undefined => {
  const segments = path.replace(/\/$/, "").split("/")
  for (const page of pages) {
    const pattern = page.path.split("/")
    if (pattern.length !== segments.length) continue
    const variables: Record<string, string> = {}
    const matches = pattern.every((part, i) => {
      const segment = decode(segments[i]!)
      if (!part.startsWith(":")) return part === segment
      variables[part.slice(1)] = segment
      return segment !== ""
    })
    if (matches) return { page, variables }
  }
  return undefined
}

const decode = (segment: string): string => {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}
