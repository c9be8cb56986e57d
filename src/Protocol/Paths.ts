/**
 * Paths for programs of users that make their own requests, under the names that version 0.8 has published. The paths of all
 * calls are in their call specs, such as `Runs.ts`.
 */
import { DEFAULT_SERVER_URL } from "../Constants.ts"

/** Paths of some calls, relative to the URL of a server. `GET /openapi.json` of a server has all calls. */
export const API_ENDPOINTS = {
  TRIGGER: "/ironflow.v1.IronflowService/Trigger",
  TRIGGER_SYNC: "/ironflow.v1.IronflowService/TriggerSync",
  GET_RUN: "/ironflow.v1.IronflowService/GetRun",
  LIST_RUNS: "/ironflow.v1.IronflowService/ListRuns",
  CANCEL_RUN: "/ironflow.v1.IronflowService/CancelRun",
  RETRY_RUN: "/ironflow.v1.IronflowService/RetryRun",
  REGISTER_FUNCTION: "/ironflow.v1.IronflowService/RegisterFunction",
  HEALTH: "/ironflow.v1.IronflowService/Health",
  EMIT: "/ironflow.v1.PubSubService/Emit",
  CREATE_CONSUMER_GROUP: "/ironflow.v1.PubSubService/CreateConsumerGroup",
  GET_CONSUMER_GROUP: "/ironflow.v1.PubSubService/GetConsumerGroup",
  LIST_CONSUMER_GROUPS: "/ironflow.v1.PubSubService/ListConsumerGroups",
  DELETE_CONSUMER_GROUP: "/ironflow.v1.PubSubService/DeleteConsumerGroup"
} as const

/** The request that opens the subscription WebSocket. */
export const SUBSCRIPTIONS = "GET /ws"
/** Default URL of the subscription WebSocket. */
export const DEFAULT_WS_URL = "ws://localhost:9123/ws"

/**
 * The URL of the subscription WebSocket of a server: `https://` becomes `wss://`, `http://` becomes `ws://`, followed by `/ws`.
 */
export const getWebSocketUrl = (serverUrl: string = DEFAULT_SERVER_URL): string =>
  `${serverUrl.replace(/^http(s?):\/\//, "ws$1://")}${SUBSCRIPTIONS.slice(4)}`
