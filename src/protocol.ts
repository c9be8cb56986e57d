/**
 * The wire protocol, for clients, handlers and servers that you write yourself: types of messages, and
 * constants.
 */
export {
  ACK_TYPES,
  HEADERS,
  HTTP_HEADERS,
  JSON_HEADERS,
  RUN_STATUS,
  STEP_STATUS,
  STEP_TYPES,
  WS_MESSAGE_TYPES
} from "./Constants.ts"
export { API_ENDPOINTS } from "./Protocol/Paths.ts"
export type {
  CompletedStep,
  InvokeFunctionAsyncYield,
  InvokeFunctionYield,
  PushRequest,
  PushResponse,
  ResumeContext,
  SleepYield,
  StepResult,
  WaitEventYield,
  YieldInfo
} from "./Protocol/Push.ts"
export type {
  AckMode,
  AckType,
  BackpressureMode,
  BufferConfig,
  EventMetadata,
  SubscribeOptions,
  WSAckRequest,
  WSAckResult,
  WSClientMessage,
  WSError,
  WSEventMessage,
  WSServerMessage,
  WSSubscribeRequest,
  WSSubscriptionError,
  WSSubscriptionResult,
  WSUnsubscribeRequest
} from "./Protocol/Subscriptions.ts"
