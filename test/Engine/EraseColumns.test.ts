/** How erasing treats each column that may hold data of users. A new column needs a decision here. */
import { DatabaseSync } from "node:sqlite"
import { assert, it } from "vitest"
import { migrations } from "../../src/Engine/Store/Migrations.ts"

/** Columns that erasing empties or marks, or whose rows it deletes. */
const erased = [
  "events.data",
  "events.metadata",
  "events.idempotency_key",
  "idempotency.key",
  "idempotency.fingerprint",
  "idempotency.result",
  "runs.input",
  "runs.fork_data",
  "runs.output",
  "runs.error",
  "runs.pause",
  "runs.concurrency_key",
  "runs.actor",
  "steps.value",
  "superseded_steps.entry",
  "superseded_steps.step_key",
  "superseded_steps.reason",
  "waits.step_key",
  "waits.name",
  "waits.step_kind",
  "waits.event",
  "waits.pattern",
  "waits.match_path",
  "waits.match_value",
  "waits.expression",
  "waits.wait",
  "waits.value",
  "run_attributes.path",
  "run_attributes.value",
  "run_logs.text",
  "recordings.activity",
  "actors.actor",
  "snapshots.id",
  "snapshots.state",
  "dead_letters.error",
  "deliveries.holder",
  "deliveries.reason",
  "group_dead_letters.reason",
  "fan_outs.event",
  "fan_outs.path",
  "fan_outs.step_key",
  "projections.error",
  "hook_calls.body",
  "kv_entries.value",
  "kv_history.key",
  "kv_history.value",
  "bulk_operations.asked",
  "bulk_operations.ids"
]

/** Columns that erasing does not change, and why. */
const kept: { readonly [why: string]: ReadonlyArray<string> } = {
  "ids and names of the engine": [
    "environments.name",
    "events.id",
    "idempotency.operation",
    "runs.id",
    "runs.lease",
    "runs.worker",
    "runs.parent_step",
    "runs.pin",
    "runs.forked_from",
    "runs.trace",
    "runs.system_event",
    "events.trace",
    "recordings.run_id",
    "actors.worker",
    "schedules.run",
    "snapshots.entity_id",
    "projections.token",
    "projections.owner",
    "projections.last_save",
    "projection_states.event_id",
    "hook_calls.id",
    "hook_calls.hook",
    "bulk_operations.id",
    "bulk_operations.action",
    "bulk_operations.status",
    "bulk_operations.by_key",
    "bulk_operations.place",
    "meta.name",
    "meta.value"
  ],
  "given in the code of users": [
    "functions.id",
    "functions.registration",
    "functions.hash",
    "function_history.registration",
    "events.name",
    "events.source",
    "runs.compensations",
    "steps.step_key",
    "steps.name",
    "steps.kind",
    "steps.wait",
    "schedules.cron",
    "schedules.timezone",
    "schedules.event",
    "schedules.overlap",
    "schedules.queue",
    "search_paths.path",
    "projections.name",
    "projections.mode",
    "projections.events",
    "projections.partition_key"
  ],
  "ids of entities and names of keys are not data: docs/erasing.md": [
    "events.entity_id",
    "events.entity_type",
    "streams.entity_id",
    "streams.entity_type",
    "kv_entries.key"
  ],
  "made from events, and made again by a rebuild": [
    "projection_states.partition_key",
    "projection_states.state"
  ],
  "written by operators": [
    "functions.paused_by",
    "functions.pause_reason",
    "kv_buckets.name",
    "kv_buckets.description",
    "topics.name",
    "consumer_groups.namespace",
    "consumer_groups.name",
    "consumer_groups.pattern",
    "consumer_groups.names",
    "consumer_groups.filter",
    "consumer_groups.settings",
    "consumer_groups.metadata",
    "consumer_groups.paused_by",
    "consumer_groups.pause_reason",
    "projections.paused_by",
    "projections.pause_reason",
    "cancellations.reason",
    "bulk_operations.progress",
    "bulk_operations.error",
    "secrets.name",
    "secrets.sealed"
  ],
  "keys, policies and the audit": [
    "orgs.id",
    "orgs.name",
    "roles.id",
    "roles.org",
    "roles.name",
    "policies.id",
    "policies.org",
    "policies.name",
    "policies.effect",
    "policies.actions",
    "policies.resources",
    "policies.condition",
    "role_policies.role",
    "role_policies.policy",
    "api_keys.id",
    "api_keys.name",
    "api_keys.prefix",
    "api_keys.hash",
    "api_keys.environment",
    "api_keys.roles",
    "api_keys.previous_hash",
    "access_log.who",
    "access_log.action",
    "access_log.subject",
    "access_log.details",
    "operation_log.who",
    "operation_log.action",
    "operation_log.subject",
    "operation_log.details"
  ]
}

it("the effect of erasing is decided for every column that may hold data of users", () => {
  const db = new DatabaseSync(":memory:")
  for (const migration of migrations) db.exec(migration)
  const columns = db
    .prepare(
      `SELECT t.name || '.' || c.name AS name FROM sqlite_schema t, pragma_table_info(t.name) c
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND c.type <> 'INTEGER' ORDER BY 1`
    )
    .all()
    .map(({ name }) => String(name))
  assert.deepStrictEqual([...erased, ...Object.values(kept).flat()].sort(), columns)
})
