/** Numbers and words that both sides of the wire share. */

export const DEFAULT_PORT = 9123
/** Host of a server when none is named. */
export const DEFAULT_HOST = "localhost"
/** Address of a server when none is named. */
export const DEFAULT_SERVER_URL = "http://localhost:9123"
/** The environment when neither options, nor variables, nor an API key name one. */
export const DEFAULT_ENVIRONMENT = "default"

/** Milliseconds. */
export const DEFAULT_TIMEOUTS = { CLIENT: 30_000, FUNCTION: 600_000, TRIGGER_SYNC: 30_000 } as const

/** How steps are tried again unless a function says otherwise. Delays are in milliseconds. */
export const DEFAULT_RETRY = {
  MAX_ATTEMPTS: 3,
  INITIAL_DELAY_MS: 1000,
  BACKOFF_FACTOR: 2.0,
  MAX_DELAY_MS: 300_000
} as const

/** How a client makes calls again. Delays are in milliseconds. */
export const DEFAULT_CLIENT_RETRY = {
  MAX_ATTEMPTS: 3,
  INITIAL_DELAY_MS: 100,
  BACKOFF_MULTIPLIER: 2.0,
  MAX_DELAY_MS: 10_000,
  CONNECTION_RETRY_DELAY_MS: 2000
} as const

/** What a worker goes by unless it is told otherwise. Times are in milliseconds. */
export const DEFAULT_WORKER = {
  MAX_CONCURRENT_JOBS: 10,
  HEARTBEAT_INTERVAL_MS: 30_000,
  RECONNECT_DELAY_MS: 5000,
  CHECKPOINT_INTERVAL_MS: 1000,
  MAX_CHECKPOINT_STEPS: 500,
  MAX_CHECKPOINT_BACKOFF_MS: 30_000
} as const

/** How a lost connection is opened again. Delays are in milliseconds. */
export const DEFAULT_RECONNECT = {
  ENABLED: true,
  MAX_ATTEMPTS: 10,
  INITIAL_DELAY_MS: 1000,
  MAX_DELAY_MS: 30_000,
  MULTIPLIER: 2
} as const

/** Intervals in milliseconds, and the code of a WebSocket that was closed on purpose. */
export const TIMING = {
  POLL_INTERVAL_MS: 1000,
  ERROR_RETRY_DELAY_MS: 5000,
  RECONNECT_DELAY_MS: 1000,
  WS_CLOSE_NORMAL: 1000
} as const

/** Names of the environment variables. */
export const ENV_VARS = {
  SERVER_URL: "IRONFLOW_SERVER_URL",
  SIGNING_KEY: "IRONFLOW_SIGNING_KEY",
  API_KEY: "IRONFLOW_API_KEY",
  LOG_LEVEL: "IRONFLOW_LOG_LEVEL"
} as const

/** Headers of requests that mean something to a server. */
export const HEADERS = { ENVIRONMENT: "X-Ironflow-Environment" } as const
/** Values of headers. */
export const HTTP_HEADERS = { CONTENT_TYPE_JSON: "application/json" } as const
/** Headers of a request whose body is JSON. */
export const JSON_HEADERS = { "Content-Type": "application/json" } as const

/** Kinds of steps as they are called over the wire. */
export const STEP_TYPES = { INVOKE: "invoke", SLEEP: "sleep", WAIT_FOR_EVENT: "wait_for_event" } as const
/** What a step may be, as it is called over the wire. */
export const STEP_STATUS = { COMPLETED: "completed", FAILED: "failed", WAITING: "waiting" } as const

/** What a run may be, as it is called over the wire. */
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

/** Types of messages on the WebSocket of subscriptions. */
export const WS_MESSAGE_TYPES = {
  SUBSCRIBE: "subscribe",
  UNSUBSCRIBE: "unsubscribe",
  ACK: "ack",
  EVENT: "event",
  SUBSCRIPTION_RESULT: "subscription_result",
  SUBSCRIPTION_ERROR: "subscription_error",
  ERROR: "error"
} as const

/** How an event can be settled. */
export const ACK_TYPES = { ACK: "ack", NAK: "nak", TERM: "term" } as const

/** Where an event came from. */
export const EventSource = { API: "api", CRON: "cron", WEBHOOK: "webhook" } as const
/** One of {@link EventSource}. */
export type EventSourceType = (typeof EventSource)[keyof typeof EventSource]
