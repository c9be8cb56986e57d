/** `SECURITY.md` states the limits of the code. */
import fs from "node:fs"
import { assert, it } from "vitest"
import { BUCKETS_PAGE, KEYS_PAGE } from "../../src/Engine/Kv/Kv.ts"
import { BATCH_EVENTS } from "../../src/Server/Routes/EventRoutes.ts"
import { defaults } from "../../src/Server/Server.ts"
import { LIST_PAGE, UNPAGED_LENGTH } from "../../src/Engine/Pages.ts"
import { makeSettings } from "../../src/Engine/Push/PushSettings.ts"
import { MAX_LOG_ENTRIES } from "../../src/Engine/Access/AccessLog.ts"
import { MAX_REGISTRATIONS } from "../../src/Engine/Functions/FunctionHistory.ts"
import { MAX_ACCESS_RECORDS } from "../../src/Engine/Access/AccessLimits.ts"
import { MAX_DEAD_LETTERS } from "../../src/Engine/PubSub/DeliveryRows.ts"
import { MAX_BACKLOG } from "../../src/Engine/PubSub/Connection.ts"
import { MAX_REMEMBERED_EVENTS, MAX_REMEMBERED_CHARS } from "../../src/Engine/SystemEvents/SystemEvents.ts"
import {
  FEW_STEPS,
  MAX_BYTES,
  MAX_FEW_STEPS,
  MAX_SHARED_STEPS,
  MAX_EXPRESSION_STEPS
} from "../../src/ExpressionBudget.ts"
import * as Limits from "../../src/Limits.ts"
import { MAX_FILTERS, MAX_FRAME, MAX_SUBSCRIPTIONS } from "../../src/Protocol/Subscriptions.ts"

const KiB = 1024
const MiB = 1024 * 1024
const count = (n: number): string => (n < 10_000 ? String(n) : n.toLocaleString("en-US"))
const common = (...values: ReadonlyArray<number>): number => {
  assert.lengthOf(new Set(values), 1)
  return values[0]!
}

const stated: Readonly<Record<string, string>> = {
  "body of a client's request": `${defaults.maxBodyBytes / MiB} MiB`,
  "body of a worker's request, answer of a push endpoint": `${common(defaults.maxReportBytes, makeSettings().maxResponseBytes) / MiB} MiB`,
  "headers of a request": `${defaults.maxHeaderBytes / KiB} KiB`,
  "time for the headers, and for the body": `${defaults.bodyTimeoutMs / 1000} s`,
  connections: count(defaults.maxConnections),
  "frame of a subscription": `${MAX_FRAME / KiB} Ki characters`,
  "nesting of JSON": `${Limits.jsonDepth} levels`,
  "values in a message": count(Limits.jsonValues),
  "different names of members in a message": count(Limits.jsonNames),
  "name, id": `${Limits.nameLength} characters`,
  "key, idempotency key": `${Limits.keyLength} characters`,
  expression: `${Limits.expressionLength} characters`,
  "one expression": `${count(MAX_EXPRESSION_STEPS)} steps, ${MAX_BYTES / 1e6} MB`,
  "all expressions for one event": `${count(MAX_SHARED_STEPS)} steps, then ${count(FEW_STEPS)} each and ${count(MAX_FEW_STEPS)} together`,
  "events in a batch": count(BATCH_EVENTS),
  "events of an append, writes of a transaction": count(Limits.writesAtOnce),
  "runs that a batch, an append or a transaction may start": count(Limits.runsOfAppend),
  "data of an event or a message, value of a key": `${common(Limits.eventBytes, Limits.messageBytes, Limits.kvValueBytes) / MiB} MiB`,
  "metadata, labels": `${Limits.metadataEntries} members, ${Limits.metadataBytes / KiB} KiB`,
  "value of a secret": `${Limits.secretLength / KiB} Ki characters`,
  "changes in a write of keys, revisions of a key": `${Limits.kvWrites}, ${Limits.kvHistory}`,
  "one function": `${Limits.functionBytes / KiB} KiB`,
  "functions of a worker or endpoint": `${Limits.functionsAtOnce}, ${Limits.registrationBytes / MiB} MiB`,
  "cron triggers of a worker or endpoint": count(Limits.cronsAtOnce),
  "all that connected workers and endpoints have registered": `${Limits.connectedBytes / MiB} MiB`,
  "functions of an environment": `${count(Limits.functionsOfEnvironment)}, ${Limits.functionsOfEnvironmentBytes / MiB} MiB`,
  environments: count(Limits.environments),
  "keys, organizations, roles, policies": `${count(MAX_ACCESS_RECORDS)} each`,
  "policies of a role, and all that they say": `${Limits.policiesOfRole}, ${Limits.roleLength / KiB} Ki characters`,
  "roles of a key": String(Limits.rolesOfKey),
  "entries of the access log": count(MAX_LOG_ENTRIES),
  "entries of the access log about functions and runs": count(MAX_LOG_ENTRIES),
  "versions of a function that are kept": String(MAX_REGISTRATIONS),
  "dead letters of a consumer group": count(MAX_DEAD_LETTERS),
  "subscriptions of a connection, and characters of their filters": `${MAX_SUBSCRIPTIONS}, ${MAX_FILTERS / KiB} Ki`,
  "answers that a subscriber leaves unread": `${MAX_BACKLOG / MiB} MiB`,
  "system events that are remembered": `${MAX_REMEMBERED_EVENTS} an environment, ${MAX_REMEMBERED_CHARS / MiB} Mi characters of all`,
  "list without a `limit`": `${UNPAGED_LENGTH / MiB} Mi characters`,
  "items on a page of a list": count(Math.max(LIST_PAGE, KEYS_PAGE, BUCKETS_PAGE, Limits.listLimit))
}

it("the documented limits are those of the code", () => {
  const text = fs.readFileSync(new URL("../../SECURITY.md", import.meta.url), "utf8")
  const section = text.slice(text.indexOf("\n## Limits\n"))
  const rows = [...section.matchAll(/^\| ([^|]+?) +\| ([^|]+?) +\|$/gm)].map(([, what, most]) => [what, most])

  assert.deepStrictEqual(
    Object.fromEntries(rows.slice(1).filter(([what]) => !what?.startsWith("--"))),
    stated
  )
})
