/**
 * The tables on SQLite, as ordered, forward-only migrations. `PRAGMA user_version` says how many have run.
 *
 * Integer keys stand for environments, functions and runs inside the database, so that indexes stay small; users see ids. Times
 * are epoch milliseconds. Payloads are JSON strings as received.
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

-- event: log position of the trigger; for a child run the end of the log when it was invoked, and input is its data.
-- ready_at: the run can be claimed. lease: the job id of the live turn. lease_until: absent for workers in the process.
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

-- The journal: finished steps, seq is the order in which the handler saw them.
-- event, wait: log position of the event that a wait received, and which wait that was.
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

-- Open steps. event: the name waited for, or "*" when pattern holds a pattern. fired: NULL while it waits; else the order in which it fired, and failed/value are the outcome.
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

-- What happened to the runs of functions that record it. expires_at: NULL keeps it for ever.
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

-- The worker that an actor's runs go to while it lives.
CREATE TABLE actors (
  function INTEGER NOT NULL,
  actor TEXT NOT NULL,
  worker TEXT NOT NULL,
  PRIMARY KEY (function, actor)
) WITHOUT ROWID;
CREATE INDEX actors_worker ON actors (worker);
`,
  `
-- since: when the program was started that registered the function so.
ALTER TABLE functions ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
`,
  `
-- name: NULL for a bucket that was deleted, whose keys are on their way out. dropped: the highest revision of a marker that is forgotten.
-- bytes: keys and values that are kept, history included. value_count: keys whose last operation is a put.
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

-- A key as it is now. due_at: when a value expires, or when the marker of one that is gone is forgotten.
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

-- Earlier revisions, of buckets that keep them.
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
-- Entity streams: entity_version of an event is its place in the stream of its entity, 1..n.
ALTER TABLE events ADD COLUMN entity_id TEXT;
ALTER TABLE events ADD COLUMN entity_type TEXT;
ALTER TABLE events ADD COLUMN entity_version INTEGER;
CREATE UNIQUE INDEX events_entity ON events (environment, entity_id, entity_version) WHERE entity_id IS NOT NULL;

-- version: that of the newest event, and so their number.
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

-- The state of an entity after the event of a version, as somebody computed it.
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
-- Projections. position: everything up to here is done. epoch: one more with every reset; states belong to one.
-- token, owner: whose it is; lease_until is absent for a worker in the process. handed_out: to runners without a token.
-- failing: position of the event that is tried again. rebuild_to: where the log ended at the last reset.
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

-- position: of the last event in the state.
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

-- Events that a projection has given up. retrying: somebody asked for one more try.
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
-- What is known of each topic without counting its messages. last_position stays when the messages are gone.
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

-- Consumer groups. kind: as in events, NULL for both. cursor: log position up to which all has been handed out or passed over.
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

-- What a group has handed out and not finished. holder: NULL while nobody has it. due_at: when it is given to somebody again.
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

-- hash: of the key, which is not stored. environment: its name, NULL for all. roles: a JSON list of ids.
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

-- Who changed keys, organizations, roles and policies.
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
-- last_save: which save was stored last, so that it is known when its worker, which did not hear of it, sends it again.
-- shown_epoch: whose states are read until a rebuild is done, which is when rebuild_to is NULL again.
ALTER TABLE projections ADD COLUMN last_save TEXT;
ALTER TABLE projections ADD COLUMN shown_epoch INTEGER;
`,
  `
-- settings: JSON of those that were given. configured: somebody has created or updated it, and it is kept until it is deleted.
-- beginning: the position that it began after. given_up: events that were handed out in vain.
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
-- deleted_at: since when events start it no more, until it is registered again. Its runs are still runs of it.
ALTER TABLE functions ADD COLUMN deleted_at INTEGER;
`,
  `
-- revision: the version of the projection whose save the state is of.
ALTER TABLE projection_states ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
`,
  `
-- lease_ms: how long the lease holds without a sign of life. timeout_ms of a wait: also of a sleep for a length of time.
ALTER TABLE runs ADD COLUMN lease_ms INTEGER;
`,
  `
-- previous_hash: of the secret before, which works until previous_ends_at too.
ALTER TABLE api_keys ADD COLUMN previous_hash TEXT;
ALTER TABLE api_keys ADD COLUMN previous_ends_at INTEGER;
`,
  `
-- overlap: NULL allows it. run: the id of the run that fired last, for which the next fires may have to wait. skipped: fires that were
-- left out since it began. queue: JSON of when those are from that wait for its end, oldest first; NULL for none.
ALTER TABLE schedules ADD COLUMN overlap TEXT;
ALTER TABLE schedules ADD COLUMN run TEXT;
ALTER TABLE schedules ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN queue TEXT;
CREATE INDEX schedules_queue ON schedules (function) WHERE queue IS NOT NULL;
`,
  `
-- operation: also what it is about, such as "emit order.placed". Nobody knows any more by which webhook an event came: its key stays
-- under "webhook" for all of them.
INSERT OR IGNORE INTO idempotency
  SELECT environment, 'webhook', key, fingerprint, result, expires_at FROM idempotency WHERE operation = 'emit';
UPDATE idempotency SET operation = operation || ' ' || name FROM (
    SELECT i.environment AS env, i.operation AS op, i.key AS k, e.name AS name FROM idempotency i JOIN events e ON e.position =
      CASE WHEN json_valid(i.result) THEN json_extract(i.result, iif(i.operation = 'emit', '$.position', '$.sequence')) END
    WHERE i.operation IN ('emit', 'publish')
  ) WHERE environment = env AND operation = op AND key = k;
`,
  `
-- reason: why it failed last, as its holder said.
ALTER TABLE deliveries ADD COLUMN reason TEXT;

-- What a group has given up, until somebody has it tried again.
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
-- Events that are still being handed on to those that wait for a name, or "*" for patterns. path, run, step_key: the wait that was
-- looked at last; path: '' at the beginning, NULL once it is the turn of those without a match path.
CREATE TABLE fan_outs (
  environment INTEGER NOT NULL,
  event TEXT NOT NULL,
  position INTEGER NOT NULL,
  path TEXT,
  run INTEGER NOT NULL,
  step_key TEXT NOT NULL,
  PRIMARY KEY (environment, event, position)
) WITHOUT ROWID;

-- looked_back_to: the last of the events that were being handed on when the wait was opened, none of which is for it any more.
-- value of a wait, and of its step: NULL beside the position of the event that it received; earlier ones have the text.
ALTER TABLE waits ADD COLUMN looked_back_to INTEGER;

-- Runs that are still to be cancelled, since their parent was.
CREATE TABLE cancellations (run INTEGER PRIMARY KEY, reason TEXT NOT NULL);
`,
  `
-- Events by the idempotency key that they were stored with, also when its window has passed.
CREATE INDEX events_keyed ON events (environment, idempotency_key, position) WHERE idempotency_key IS NOT NULL;
`,
  `
-- What the code of runs has logged, as it came with reports. first: the number of its first line in the run, so that what was left out
-- is counted too. up_to: characters of all lines of the run so far, those of this row included.
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
-- trace: the W3C traceparent of what has caused it, if that was traced; of a run the one that it was invoked with.
ALTER TABLE events ADD COLUMN trace TEXT;
ALTER TABLE runs ADD COLUMN trace TEXT;
`,
  `
-- How runs are found. Every run is in runs_function once, and its place there does not change: that costs a run 0.9 microseconds and
-- 12 bytes. In runs_error are those that failed, with what is looked for in their errors: see errorText in Runs/RunWays.ts.
CREATE INDEX runs_function ON runs (function, event);
CREATE INDEX runs_error ON runs (key, CASE WHEN json_valid(error) THEN
    substr(lower(concat_ws(' ', error ->> '$.code', error ->> '$.name', error ->> '$.cause.code', error ->> '$.cause.name', error ->> '$.message', error ->> '$.cause.message')), 1, 600)
  END) WHERE status = 6;

-- What runs are found by: values at the paths that their functions name in searchBy.
CREATE TABLE run_attributes (
  function INTEGER NOT NULL,
  path TEXT NOT NULL,
  value TEXT NOT NULL,
  run INTEGER NOT NULL,
  PRIMARY KEY (function, path, value, run)
) WITHOUT ROWID;
CREATE INDEX run_attributes_run ON run_attributes (run);

-- Whether the attributes of earlier runs are there. below: those of runs with a lower key are not yet; NULL before that has begun, and
-- for a path that is being forgotten; 0 when all are there.
CREATE TABLE search_paths (
  function INTEGER NOT NULL,
  path TEXT NOT NULL,
  below INTEGER,
  PRIMARY KEY (function, path)
) WITHOUT ROWID;
`,
  `
-- paused_at: since when new runs of the function wait. pins: 1 once the function has pinned runs to the version that they began with.
ALTER TABLE functions ADD COLUMN paused_at INTEGER;
ALTER TABLE functions ADD COLUMN paused_by TEXT;
ALTER TABLE functions ADD COLUMN pause_reason TEXT;
ALTER TABLE functions ADD COLUMN pins INTEGER NOT NULL DEFAULT 0;

-- pin: of a function that pins runs, the version whose workers alone may have the run; '' for one that none has begun yet.
-- forked_from: the id of the run that it was forked from. fork_data: what a fork has in place of the data of its event.
ALTER TABLE runs ADD COLUMN pin TEXT;
ALTER TABLE runs ADD COLUMN forked_from TEXT;
ALTER TABLE runs ADD COLUMN fork_data TEXT;
CREATE INDEX runs_ready_begun ON runs (function, ready_at) WHERE ready_at IS NOT NULL AND started_at IS NOT NULL;
CREATE INDEX runs_pin ON runs (function, pin, ready_at) WHERE pin IS NOT NULL AND ended_at IS NULL;

-- How functions were registered, version by version: the last ones of each.
CREATE TABLE function_history (
  function INTEGER NOT NULL,
  version INTEGER NOT NULL,
  at INTEGER NOT NULL,
  registration TEXT NOT NULL,
  PRIMARY KEY (function, version)
) WITHOUT ROWID;
INSERT INTO function_history (function, version, at, registration) SELECT key, version, updated_at, registration FROM functions;

-- What people have done to functions and runs, and who: the last entries.
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
-- system_event: of a run that a system event has started the name of that; its data is the input.
ALTER TABLE runs ADD COLUMN system_event TEXT;

-- What hooks are still to be called with. hook: which one, as its settings make it; settings are not stored.
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
-- What is done to many runs. asked: JSON of what for, besides ids: JSON of the ids of runs, where it was asked for by those. place: JSON of
-- how far it has come. progress: JSON of what came of it so far. by_key: the id of the API key that began it, NULL without one.
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
-- Of the events that are not kept any more the newest: its position, and when it was stored. NULL while all are there.
ALTER TABLE environments ADD COLUMN events_gone_to INTEGER;
ALTER TABLE environments ADD COLUMN events_gone_at INTEGER;
`,
  `
-- erased_at: when the data was taken away on somebody's behalf; what was data is a mark since. The row stays.
ALTER TABLE events ADD COLUMN erased_at INTEGER;
ALTER TABLE runs ADD COLUMN erased_at INTEGER;

-- What is to be erased by a bulk operation, until it has been. kind 0: a row of the log, key is its position; kind 1: a run.
-- followed: 1 once what has come of it is here too.
CREATE TABLE erase_items (
  operation INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  key INTEGER NOT NULL,
  followed INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (operation, kind, key)
) WITHOUT ROWID;
CREATE INDEX erase_items_open ON erase_items (operation, followed, kind, key);

-- What has come of an event or a run: those that have received it, forks, and what system events about it have started.
CREATE INDEX steps_event ON steps (event) WHERE event IS NOT NULL;
CREATE INDEX waits_received ON waits (event_position) WHERE event_position IS NOT NULL;
CREATE INDEX runs_forked_from ON runs (forked_from) WHERE forked_from IS NOT NULL;
CREATE INDEX runs_system_event ON runs (system_event) WHERE system_event IS NOT NULL;
`
]
