/**
 * The tables on SQLite, as migrations that only go forward, in order. `PRAGMA user_version` says how many have run on a file.
 *
 * Integer keys stand for environments, functions and runs inside the database, so that indexes stay small; users see ids. Times
 * are epoch milliseconds. Payloads are JSON text as received; values of buckets are bytes, and secrets are encrypted. Where a
 * later migration changes what a comment says, its own comment holds.
 */
export const migrations: ReadonlyArray<string> = [
  `
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;

CREATE TABLE environments (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE functions (
  key INTEGER PRIMARY KEY,
  environment INTEGER NOT NULL,
  id TEXT NOT NULL,
  registration TEXT NOT NULL,
  hash TEXT NOT NULL,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  UNIQUE (environment, id)
);

-- The log. kind 0: an event; kind 1: a message, name is the topic.
CREATE TABLE events (
  position INTEGER PRIMARY KEY,
  environment INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  data TEXT NOT NULL,
  metadata TEXT,
  source TEXT,
  idempotency_key TEXT,
  timestamp INTEGER NOT NULL
);
CREATE INDEX events_name ON events (environment, kind, name, position);

CREATE TABLE idempotency (
  environment INTEGER NOT NULL,
  operation TEXT NOT NULL,
  key TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  result TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (environment, operation, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

-- event: log position of the trigger; for a child run, the end of the log when it was invoked, and its data is in input.
-- ready_at: since when the run can be claimed. lease: the job id of the live turn. lease_until: NULL for workers in the process.
CREATE TABLE runs (
  key INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  environment INTEGER NOT NULL,
  function INTEGER NOT NULL,
  status INTEGER NOT NULL,
  event INTEGER NOT NULL,
  input TEXT,
  attempt INTEGER NOT NULL DEFAULT 1,
  generation INTEGER NOT NULL DEFAULT 0,
  ready_at INTEGER,
  lease TEXT,
  worker TEXT,
  lease_until INTEGER,
  output TEXT,
  error TEXT,
  compensations TEXT,
  concurrency_key TEXT,
  actor TEXT,
  parent INTEGER,
  parent_step TEXT,
  linger_ms INTEGER NOT NULL DEFAULT 0,
  losses INTEGER NOT NULL DEFAULT 0,
  loss_seq INTEGER NOT NULL DEFAULT 0,
  pause TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  started_at INTEGER,
  ended_at INTEGER
);
CREATE INDEX runs_ready ON runs (function, ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX runs_ready_key ON runs (function, concurrency_key, ready_at)
  WHERE ready_at IS NOT NULL AND concurrency_key IS NOT NULL;
CREATE INDEX runs_leased ON runs (worker) WHERE lease IS NOT NULL;
CREATE INDEX runs_leased_key ON runs (function, concurrency_key)
  WHERE lease IS NOT NULL AND concurrency_key IS NOT NULL;
CREATE INDEX runs_lease ON runs (lease) WHERE lease_until IS NOT NULL;
CREATE INDEX runs_lease_until ON runs (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX runs_unfinished ON runs (key) WHERE ended_at IS NULL;
CREATE INDEX runs_ended_badly ON runs (status, key) WHERE status IN (6, 7);
CREATE INDEX runs_parent ON runs (parent) WHERE parent IS NOT NULL;

-- The journal: finished steps. seq: the order in which the handler saw them.
-- event: log position of the event that a wait received. wait: which wait received it.
CREATE TABLE steps (
  run INTEGER NOT NULL,
  step_key TEXT NOT NULL,
  seq INTEGER NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  failed INTEGER NOT NULL,
  value TEXT,
  attempt INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER NOT NULL,
  event INTEGER,
  wait TEXT,
  PRIMARY KEY (run, step_key)
) WITHOUT ROWID;

-- Entries that a patch, a retry from a step or a new generation replaced.
CREATE TABLE superseded_steps (
  run INTEGER NOT NULL,
  step_key TEXT NOT NULL,
  superseded_at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  entry TEXT NOT NULL
);
CREATE INDEX superseded_steps_run ON superseded_steps (run);

-- Open steps. event: the name waited for, or "*" when pattern holds a pattern. fired: NULL while the step waits; else the order in which
-- it fired, with the outcome in failed and value.
CREATE TABLE waits (
  run INTEGER NOT NULL,
  step_key TEXT NOT NULL,
  kind INTEGER NOT NULL,
  name TEXT NOT NULL,
  step_kind TEXT NOT NULL,
  due_at INTEGER,
  failures INTEGER NOT NULL DEFAULT 0,
  environment INTEGER,
  event TEXT,
  pattern TEXT,
  match_path TEXT,
  match_value TEXT,
  expression TEXT,
  wait TEXT,
  timeout_ms INTEGER,
  child INTEGER,
  fired INTEGER,
  failed INTEGER,
  value TEXT,
  event_position INTEGER,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (run, step_key)
) WITHOUT ROWID;
CREATE INDEX waits_due ON waits (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX waits_event ON waits (environment, event, match_path, match_value) WHERE kind = 2 AND fired IS NULL;
CREATE INDEX waits_child ON waits (child) WHERE child IS NOT NULL AND fired IS NULL;

-- Cron triggers, and when each fires next.
CREATE TABLE schedules (
  function INTEGER NOT NULL,
  cron TEXT NOT NULL,
  timezone TEXT NOT NULL,
  event TEXT NOT NULL,
  next_at INTEGER NOT NULL,
  PRIMARY KEY (function, cron, timezone)
) WITHOUT ROWID;
CREATE INDEX schedules_next ON schedules (next_at);

-- Recordings of the runs of functions that record. expires_at: NULL for one that is kept for ever.
CREATE TABLE recordings (
  run_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  environment INTEGER NOT NULL,
  at INTEGER NOT NULL,
  activity TEXT NOT NULL,
  expires_at INTEGER,
  PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;
CREATE INDEX recordings_expiry ON recordings (expires_at) WHERE expires_at IS NOT NULL;

-- sealed: encrypted and bound to environment and name.
CREATE TABLE secrets (
  environment INTEGER NOT NULL,
  name TEXT NOT NULL,
  sealed TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (environment, name)
) WITHOUT ROWID;

-- The worker that gets all runs of an actor while it is connected.
CREATE TABLE actors (
  function INTEGER NOT NULL,
  actor TEXT NOT NULL,
  worker TEXT NOT NULL,
  PRIMARY KEY (function, actor)
) WITHOUT ROWID;
CREATE INDEX actors_worker ON actors (worker);
`,
  `
-- since: when the program that registered this version of the function was started.
ALTER TABLE functions ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
`,
  `
-- name: NULL for a deleted bucket whose keys are still being deleted. dropped: the highest revision of a deleted marker.
-- bytes: size of the stored keys and values, with history. value_count: number of keys whose last operation is a put.
CREATE TABLE kv_buckets (
  key INTEGER PRIMARY KEY AUTOINCREMENT,
  environment INTEGER NOT NULL,
  name TEXT,
  description TEXT,
  ttl_ms INTEGER,
  max_value_bytes INTEGER NOT NULL,
  max_bytes INTEGER,
  history INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  dropped INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0,
  value_count INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  UNIQUE (environment, name)
);
CREATE INDEX kv_buckets_deleted ON kv_buckets (key) WHERE name IS NULL;

-- The current revision of each key. due_at: when a value expires, or when the marker of a deleted value is deleted.
CREATE TABLE kv_entries (
  bucket INTEGER NOT NULL,
  key TEXT NOT NULL,
  revision INTEGER NOT NULL,
  operation INTEGER NOT NULL,
  type INTEGER NOT NULL,
  value BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  due_at INTEGER,
  PRIMARY KEY (bucket, key)
);
CREATE UNIQUE INDEX kv_entries_revision ON kv_entries (bucket, revision);
CREATE INDEX kv_entries_due ON kv_entries (due_at) WHERE due_at IS NOT NULL;

-- Earlier revisions, for buckets with a history.
CREATE TABLE kv_history (
  bucket INTEGER NOT NULL,
  key TEXT NOT NULL,
  revision INTEGER NOT NULL,
  operation INTEGER NOT NULL,
  type INTEGER NOT NULL,
  value BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  PRIMARY KEY (bucket, key, revision)
);
CREATE UNIQUE INDEX kv_history_revision ON kv_history (bucket, revision);
`,
  `
-- Entity streams. entity_version: the place of the event in the stream of its entity, 1..n.
ALTER TABLE events ADD COLUMN entity_id TEXT;
ALTER TABLE events ADD COLUMN entity_type TEXT;
ALTER TABLE events ADD COLUMN entity_version INTEGER;
CREATE UNIQUE INDEX events_entity ON events (environment, entity_id, entity_version) WHERE entity_id IS NOT NULL;

-- version: the entity_version of the newest event, which is also the number of events.
CREATE TABLE streams (
  environment INTEGER NOT NULL,
  entity_id TEXT NOT NULL,
  entity_type TEXT NOT NULL,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (environment, entity_id)
) WITHOUT ROWID;
CREATE INDEX streams_type ON streams (environment, entity_type, entity_id);

-- The state of an entity after the event with entity_version, as a client computed it.
CREATE TABLE snapshots (
  environment INTEGER NOT NULL,
  entity_id TEXT NOT NULL,
  entity_version INTEGER NOT NULL,
  id TEXT NOT NULL,
  state TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (environment, entity_id, entity_version)
) WITHOUT ROWID;
`,
  `
-- Projections. position: log position up to which all events are processed. epoch: number of resets; each state belongs to one epoch.
-- token, owner: the worker that runs it. lease_until: NULL for a worker in the process. handed_out: log position up to which runners
-- without a token have received events.
-- failing: log position of the event that is being retried. rebuild_to: the end of the log at the last reset.
CREATE TABLE projections (
  key INTEGER PRIMARY KEY,
  environment INTEGER NOT NULL,
  name TEXT NOT NULL,
  mode TEXT NOT NULL,
  events TEXT NOT NULL,
  partition_key TEXT,
  position INTEGER NOT NULL DEFAULT 0,
  epoch INTEGER NOT NULL DEFAULT 0,
  generation INTEGER NOT NULL DEFAULT 0,
  token TEXT,
  owner TEXT,
  lease_until INTEGER,
  handed_out INTEGER NOT NULL DEFAULT 0,
  rebuild_to INTEGER,
  failing INTEGER,
  failures INTEGER NOT NULL DEFAULT 0,
  error TEXT,
  error_position INTEGER,
  error_at INTEGER,
  paused_at INTEGER,
  paused_by TEXT,
  pause_reason TEXT,
  refused INTEGER NOT NULL DEFAULT 0,
  version INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  UNIQUE (environment, name)
);

-- position: log position of the last event that the state includes.
CREATE TABLE projection_states (
  key INTEGER PRIMARY KEY,
  projection INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  partition_key TEXT NOT NULL,
  state TEXT NOT NULL,
  position INTEGER NOT NULL,
  event_id TEXT NOT NULL,
  event_time INTEGER NOT NULL,
  version INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  UNIQUE (projection, epoch, partition_key)
);

-- Events that a projection failed to process. retrying: a client has asked for another attempt.
CREATE TABLE dead_letters (
  projection INTEGER NOT NULL,
  position INTEGER NOT NULL,
  error TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  at INTEGER NOT NULL,
  retrying INTEGER NOT NULL,
  PRIMARY KEY (projection, position)
) WITHOUT ROWID;
`,
  `
-- Counts of each topic, so that its messages need not be counted. last_position: kept when the messages are deleted.
CREATE TABLE topics (
  environment INTEGER NOT NULL,
  name TEXT NOT NULL,
  message_count INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  last_position INTEGER NOT NULL,
  PRIMARY KEY (environment, name)
) WITHOUT ROWID;
INSERT INTO topics SELECT environment, name, count(*), sum(octet_length(data)), max(position)
  FROM events WHERE kind = 1 GROUP BY environment, name;

-- Consumer groups. kind: as in events, NULL for both. cursor: log position up to which everything was delivered or skipped.
CREATE TABLE consumer_groups (
  key INTEGER PRIMARY KEY,
  environment INTEGER NOT NULL,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  pattern TEXT NOT NULL,
  kind INTEGER,
  names TEXT NOT NULL,
  filter TEXT,
  cursor INTEGER NOT NULL,
  used_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  UNIQUE (environment, namespace, name, pattern)
);
CREATE INDEX consumer_groups_used ON consumer_groups (used_at);

-- Deliveries that are not settled. holder: the subscriber that has it, or NULL. due_at: when it is delivered again.
CREATE TABLE deliveries (
  consumer_group INTEGER NOT NULL,
  position INTEGER NOT NULL,
  holder TEXT,
  due_at INTEGER NOT NULL,
  failures INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (consumer_group, position)
) WITHOUT ROWID;
CREATE INDEX deliveries_due ON deliveries (consumer_group, due_at);
CREATE INDEX deliveries_holder ON deliveries (holder) WHERE holder IS NOT NULL;
`,
  `
CREATE TABLE orgs (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE roles (
  id TEXT PRIMARY KEY,
  org TEXT NOT NULL,
  name TEXT NOT NULL,
  created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX roles_org ON roles (org);

CREATE TABLE policies (
  id TEXT PRIMARY KEY,
  org TEXT NOT NULL,
  name TEXT NOT NULL,
  effect TEXT NOT NULL,
  actions TEXT NOT NULL,
  resources TEXT NOT NULL,
  condition TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX policies_org ON policies (org);

CREATE TABLE role_policies (
  role TEXT NOT NULL,
  policy TEXT NOT NULL,
  PRIMARY KEY (role, policy)
) WITHOUT ROWID;
CREATE INDEX role_policies_policy ON role_policies (policy);

-- hash: the hash of the key; the key itself is not stored. environment: a name, or NULL for all. roles: a JSON list of ids.
CREATE TABLE api_keys (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  prefix TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE,
  environment TEXT,
  roles TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  last_used_at INTEGER
) WITHOUT ROWID;

-- The log of changes to keys, organizations, roles and policies.
CREATE TABLE access_log (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  who TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  details TEXT NOT NULL
);
`,
  `
-- last_save: the id of the last stored save: a worker that got no response sends the save again.
-- shown_epoch: the epoch whose states are read during a rebuild. The rebuild ends when rebuild_to is NULL again.
ALTER TABLE projections ADD COLUMN last_save TEXT;
ALTER TABLE projections ADD COLUMN shown_epoch INTEGER;
`,
  `
-- settings: JSON of the given settings. configured: 1 once a client has created or updated the group; it is kept until it is deleted.
-- beginning: log position after which the group began. given_up: number of events that became dead letters.
ALTER TABLE consumer_groups ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';
ALTER TABLE consumer_groups ADD COLUMN metadata TEXT;
ALTER TABLE consumer_groups ADD COLUMN configured INTEGER NOT NULL DEFAULT 0;
ALTER TABLE consumer_groups ADD COLUMN beginning INTEGER;
ALTER TABLE consumer_groups ADD COLUMN given_up INTEGER NOT NULL DEFAULT 0;
ALTER TABLE consumer_groups ADD COLUMN paused_at INTEGER;
ALTER TABLE consumer_groups ADD COLUMN paused_by TEXT;
ALTER TABLE consumer_groups ADD COLUMN pause_reason TEXT;
ALTER TABLE consumer_groups ADD COLUMN updated_at INTEGER;
`,
  `
-- deleted_at: when the function was deleted: events do not start it until it is registered again. Its runs stay.
ALTER TABLE functions ADD COLUMN deleted_at INTEGER;
`,
  `
-- revision: the version of the projection at the save that stored the state.
ALTER TABLE projection_states ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
`,
  `
-- lease_ms: how long the lease lasts after each heartbeat. timeout_ms of a wait: also set for a sleep with a duration.
ALTER TABLE runs ADD COLUMN lease_ms INTEGER;
`,
  `
-- previous_hash: the hash of the previous secret, which is valid until previous_ends_at.
ALTER TABLE api_keys ADD COLUMN previous_hash TEXT;
ALTER TABLE api_keys ADD COLUMN previous_ends_at INTEGER;
`,
  `
-- overlap: NULL when overlapping runs are allowed. run: the id of the run that the schedule started last; later fires may have to wait
-- for its end. skipped: number of fires skipped since it began. queue: JSON of the times of the fires that wait, oldest first, or NULL.
ALTER TABLE schedules ADD COLUMN overlap TEXT;
ALTER TABLE schedules ADD COLUMN run TEXT;
ALTER TABLE schedules ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN queue TEXT;
CREATE INDEX schedules_queue ON schedules (function) WHERE queue IS NOT NULL;
`,
  `
-- operation now ends with the name of the event or topic: "emit order.placed". Older keys of emit do not say whether a webhook used
-- them: they are also kept as "webhook", which holds for every webhook.
INSERT OR IGNORE INTO idempotency
  SELECT environment, 'webhook', key, fingerprint, result, expires_at FROM idempotency WHERE operation = 'emit';
UPDATE idempotency SET operation = operation || ' ' || name FROM (
    SELECT i.environment AS env, i.operation AS op, i.key AS k, e.name AS name FROM idempotency i JOIN events e ON e.position =
      CASE WHEN json_valid(i.result) THEN json_extract(i.result, iif(i.operation = 'emit', '$.position', '$.sequence')) END
    WHERE i.operation IN ('emit', 'publish')
  ) WHERE environment = env AND operation = op AND key = k;
`,
  `
-- reason: the reason of the last failure, from the subscriber.
ALTER TABLE deliveries ADD COLUMN reason TEXT;

-- Dead letters of groups, until a client has them retried.
CREATE TABLE group_dead_letters (
  consumer_group INTEGER NOT NULL,
  position INTEGER NOT NULL,
  reason TEXT,
  attempts INTEGER NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (consumer_group, position)
) WITHOUT ROWID;
`,
  `
-- Events that are being delivered to waits: one row per name, or "*" for patterns. path, run, step_key: the last wait that was checked.
-- path: '' at the beginning, NULL for the waits without a match path, which come last.
CREATE TABLE fan_outs (
  environment INTEGER NOT NULL,
  event TEXT NOT NULL,
  position INTEGER NOT NULL,
  path TEXT,
  run INTEGER NOT NULL,
  step_key TEXT NOT NULL,
  PRIMARY KEY (environment, event, position)
) WITHOUT ROWID;

-- looked_back_to: log position of the newest event that was being delivered when the wait was opened. The wait has looked at it and at
-- all earlier ones itself, so that delivery skips it.
-- value of a wait and of its step: NULL when event_position or event has the log position of the received event; older rows have a copy.
ALTER TABLE waits ADD COLUMN looked_back_to INTEGER;

-- Runs that are to be cancelled because their parent was cancelled.
CREATE TABLE cancellations (run INTEGER PRIMARY KEY, reason TEXT NOT NULL);
`,
  `
-- Events by their idempotency key, also after its window.
CREATE INDEX events_keyed ON events (environment, idempotency_key, position) WHERE idempotency_key IS NOT NULL;
`,
  `
-- The logs of runs, one row per report. first: the number of the first line in the run, counting lines that were left out. up_to: number
-- of characters in all lines of the run up to and including this row.
CREATE TABLE run_logs (
  run INTEGER NOT NULL,
  first INTEGER NOT NULL,
  lines INTEGER NOT NULL,
  length INTEGER NOT NULL,
  up_to INTEGER NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (run, first)
) WITHOUT ROWID;
`,
  `
-- trace: the W3C traceparent of the cause of the event, or of the call that invoked the run; NULL if it was not traced.
ALTER TABLE events ADD COLUMN trace TEXT;
ALTER TABLE runs ADD COLUMN trace TEXT;
`,
  `
-- Indexes to search runs. Every run is in runs_function once, and its place there does not change: this costs 0.9 microseconds and 12
-- bytes per run. runs_error has the failed runs with the searched part of their errors: see errorText in Runs/SearchPlans.ts.
CREATE INDEX runs_function ON runs (function, event);
CREATE INDEX runs_error ON runs (key, CASE WHEN json_valid(error) THEN
    substr(lower(concat_ws(' ', error ->> '$.code', error ->> '$.name', error ->> '$.cause.code', error ->> '$.cause.name', error ->> '$.message', error ->> '$.cause.message')), 1, 600)
  END) WHERE status = 6;

-- The search attributes of runs: values at the paths in searchBy of their functions.
CREATE TABLE run_attributes (
  function INTEGER NOT NULL,
  path TEXT NOT NULL,
  value TEXT NOT NULL,
  run INTEGER NOT NULL,
  PRIMARY KEY (function, path, value, run)
) WITHOUT ROWID;
CREATE INDEX run_attributes_run ON run_attributes (run);

-- Progress of adding the attributes of earlier runs. below: runs with a lower key have none yet; NULL before the beginning, and for a
-- path whose attributes are being deleted; 0 when all runs have them.
CREATE TABLE search_paths (
  function INTEGER NOT NULL,
  path TEXT NOT NULL,
  below INTEGER,
  PRIMARY KEY (function, path)
) WITHOUT ROWID;
`,
  `
-- paused_at: when the function was paused: new runs wait. pins: 1 once the function has pinned runs to the version that they began with.
ALTER TABLE functions ADD COLUMN paused_at INTEGER;
ALTER TABLE functions ADD COLUMN paused_by TEXT;
ALTER TABLE functions ADD COLUMN pause_reason TEXT;
ALTER TABLE functions ADD COLUMN pins INTEGER NOT NULL DEFAULT 0;

-- pin: for a function that pins runs, the version of the workers that may claim the run; '' for a run that has not begun.
-- forked_from: the id of the original of a fork. fork_data: replaces the data of the event in a fork.
ALTER TABLE runs ADD COLUMN pin TEXT;
ALTER TABLE runs ADD COLUMN forked_from TEXT;
ALTER TABLE runs ADD COLUMN fork_data TEXT;
CREATE INDEX runs_ready_begun ON runs (function, ready_at) WHERE ready_at IS NOT NULL AND started_at IS NOT NULL;
CREATE INDEX runs_pin ON runs (function, pin, ready_at) WHERE pin IS NOT NULL AND ended_at IS NULL;

-- The last registered versions of each function.
CREATE TABLE function_history (
  function INTEGER NOT NULL,
  version INTEGER NOT NULL,
  at INTEGER NOT NULL,
  registration TEXT NOT NULL,
  PRIMARY KEY (function, version)
) WITHOUT ROWID;
INSERT INTO function_history (function, version, at, registration) SELECT key, version, updated_at, registration FROM functions;

-- The log of operations on functions and runs: the last entries.
CREATE TABLE operation_log (
  seq INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  who TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  details TEXT NOT NULL
);
`,
  `
-- system_event: the name of the system event that started the run, whose data is the input.
ALTER TABLE runs ADD COLUMN system_event TEXT;

-- Pending calls of hooks. hook: a key derived from the settings of the hook, which are not stored.
CREATE TABLE hook_calls (
  id TEXT PRIMARY KEY,
  hook TEXT NOT NULL,
  body TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  due_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX hook_calls_due ON hook_calls (hook, due_at);
`,
  `
-- Bulk operations. asked: JSON of the request without ids. ids: JSON of the run ids in the request, or NULL. place: JSON of the position
-- to go on from. progress: JSON of the results so far. by_key: the id of the API key that started it, or NULL.
CREATE TABLE bulk_operations (
  key INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  environment INTEGER NOT NULL,
  action TEXT NOT NULL,
  status TEXT NOT NULL,
  asked TEXT NOT NULL,
  ids TEXT,
  id_count INTEGER,
  by_key TEXT,
  place TEXT,
  progress TEXT NOT NULL,
  error TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  ended_at INTEGER
);
CREATE INDEX bulk_operations_running ON bulk_operations (key) WHERE ended_at IS NULL;
CREATE INDEX bulk_operations_environment ON bulk_operations (environment, key);
`,
  `
-- events_gone_to, events_gone_at: position and timestamp of the newest event that retention has deleted. NULL while there is none.
ALTER TABLE environments ADD COLUMN events_gone_to INTEGER;
ALTER TABLE environments ADD COLUMN events_gone_at INTEGER;
`,
  `
-- erased_at: when the data was erased on request: a mark replaces it, and the row stays.
ALTER TABLE events ADD COLUMN erased_at INTEGER;
ALTER TABLE runs ADD COLUMN erased_at INTEGER;

-- The rows that a bulk operation has yet to erase. kind 0: a row of the log, key is its position; kind 1: a run.
-- followed: 1 once the events and runs that came from it are listed as well.
CREATE TABLE erase_items (
  operation INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  key INTEGER NOT NULL,
  followed INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (operation, kind, key)
) WITHOUT ROWID;
CREATE INDEX erase_items_open ON erase_items (operation, followed, kind, key);

-- Indexes to find what came from an event or a run: waits that received it, forks, and runs started by system events about it.
CREATE INDEX steps_event ON steps (event) WHERE event IS NOT NULL;
CREATE INDEX waits_received ON waits (event_position) WHERE event_position IS NOT NULL;
CREATE INDEX runs_forked_from ON runs (forked_from) WHERE forked_from IS NOT NULL;
CREATE INDEX runs_system_event ON runs (system_event) WHERE system_event IS NOT NULL;
`
]
