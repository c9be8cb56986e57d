/** Numbers and words that client and server share. */

/** Default port of a server. */
export const DEFAULT_PORT = 9123
/** Default host of a server. */
export const DEFAULT_HOST = "localhost"
/** Default URL of a server. */
export const DEFAULT_SERVER_URL = "http://localhost:9123"
/** The environment when neither options, variables nor API key name one. */
export const DEFAULT_ENVIRONMENT = "default"

/** Default timeouts in milliseconds: of a client call, of a turn of a function, and of `emitSync`. */
export const DEFAULT_TIMEOUTS = { CLIENT: 30_000, FUNCTION: 600_000, TRIGGER_SYNC: 30_000 } as const

/** Default retries of steps. Delays are in milliseconds. */
export const DEFAULT_RETRY = {
  MAX_ATTEMPTS: 3,
  INITIAL_DELAY_MS: 1000,
  BACKOFF_FACTOR: 2.0,
  MAX_DELAY_MS: 300_000
} as const

/** Default retries of client calls. Delays are in milliseconds. */
export const DEFAULT_CLIENT_RETRY = {
  MAX_ATTEMPTS: 3,
  INITIAL_DELAY_MS: 100,
  BACKOFF_MULTIPLIER: 2.0,
  MAX_DELAY_MS: 10_000,
  CONNECTION_RETRY_DELAY_MS: 2000
} as const

/** Default settings of a worker. Times are in milliseconds. */
export const DEFAULT_WORKER = {
  MAX_CONCURRENT_JOBS: 10,
  HEARTBEAT_INTERVAL_MS: 30_000,
  RECONNECT_DELAY_MS: 5000,
  CHECKPOINT_INTERVAL_MS: 1000,
  MAX_CHECKPOINT_STEPS: 500,
  MAX_CHECKPOINT_BACKOFF_MS: 30_000
} as const

/**
 * Delays of reconnections in milliseconds, for clients that you write yourself. The clients of this package have
 * options of their own.
 */
export const DEFAULT_RECONNECT = {
  ENABLED: true,
  MAX_ATTEMPTS: 10,
  INITIAL_DELAY_MS: 1000,
  MAX_DELAY_MS: 30_000,
  MULTIPLIER: 2
} as const

/** Intervals in milliseconds, and the WebSocket close code of an intended close. */
export const TIMING = {
  POLL_INTERVAL_MS: 1000,
  ERROR_RETRY_DELAY_MS: 5000,
  RECONNECT_DELAY_MS: 1000,
  WS_CLOSE_NORMAL: 1000
} as const

/** Names of some environment variables. */
export const ENV_VARS = {
  SERVER_URL: "IRONFLOW_SERVER_URL",
  SIGNING_KEY: "IRONFLOW_SIGNING_KEY",
  API_KEY: "IRONFLOW_API_KEY",
  LOG_LEVEL: "IRONFLOW_LOG_LEVEL"
} as const

/** Request headers with a meaning to the server. */
export const HEADERS = { ENVIRONMENT: "X-Ironflow-Environment" } as const
/** Header values. */
export const HTTP_HEADERS = { CONTENT_TYPE_JSON: "application/json" } as const
/** Headers of a request whose body is JSON. */
export const JSON_HEADERS = { "Content-Type": "application/json" } as const

/** Kinds of steps on the wire. */
export const STEP_TYPES = { INVOKE: "invoke", SLEEP: "sleep", WAIT_FOR_EVENT: "wait_for_event" } as const
/** Statuses of steps on the wire. */
export const STEP_STATUS = { COMPLETED: "completed", FAILED: "failed", WAITING: "waiting" } as const

/** Statuses of runs on the wire. */
export const RUN_STATUS = {
  PENDING: "pending",
  RUNNING: "running",
  COMPLETED: "completed",
  FAILED: "failed",
  CANCELLED: "cancelled",
  PAUSED: "paused",
  WAITING_FOR_CAPACITY: "waiting_for_capacity",
  WAITING: "waiting"
} as const

/** Message types on the subscription WebSocket. */
export const WS_MESSAGE_TYPES = {
  SUBSCRIBE: "subscribe",
  UNSUBSCRIBE: "unsubscribe",
  ACK: "ack",
  EVENT: "event",
  SUBSCRIPTION_RESULT: "subscription_result",
  SUBSCRIPTION_ERROR: "subscription_error",
  ERROR: "error"
} as const

/** How a subscriber can settle an event: processed, not processed (deliver it again), or given up. */
export const ACK_TYPES = { ACK: "ack", NAK: "nak", TERM: "term" } as const

/** Sources of events, in the words of legacy servers. */
export const EventSource = { API: "api", CRON: "cron", WEBHOOK: "webhook" } as const
/** One of the values of {@link EventSource}. */
export type EventSourceType = (typeof EventSource)[keyof typeof EventSource]
