/** The messages of `worker.proto` that an engine reads and writes, as tables for `Wire.ts`. */
import type { Field, Message, Type } from "./Wire.ts"

const field = (number: number, type: Type): Field => ({ number, type })
const repeatedField = (number: number, type: Type): Field => ({ number, type, repeated: true })
const message = (fields: Message["fields"]): Message => ({ fields })

/**
 * The text that the seal of a call covers in addition to the body of the call. `id` is the number of the call, `call` its name.
 */
export const callSealedWith = (id: number, call: string): string => `${id} ${call} `
/** The text that the seal of an answer covers in addition to its body or failure. `id` is the number of the call. */
export const answerSealedWith = (id: number, what: "body" | "failure"): string => callSealedWith(id, what)

/** The name of the transport over ConnectRPC in the list of transports that an engine supports. */
export const CONNECT_TRANSPORT = "connect"

const error = message({
  message: field(1, "string"),
  code: field(2, "string"),
  stack: field(3, "string"),
  retryable: field(4, "bool"),
  details: field(5, "struct")
})

// ---------------------------------------------------------------------------------------------------------------------
// From the worker
// ---------------------------------------------------------------------------------------------------------------------

const register = message({
  workerId: field(1, "string"),
  hostname: field(2, "string"),
  functionIds: repeatedField(3, "string"),
  maxConcurrentJobs: field(4, "int"),
  labels: field(5, "stringMap"),
  version: field(6, message({ sdk: field(1, "string"), runtime: field(2, "string") })),
  turns: field(100, "string")
})

const heartbeat = message({
  workerId: field(1, "string"),
  activeJobs: field(2, "int"),
  jobs: repeatedField(3, message({ jobId: field(1, "string"), startedAt: field(2, "time") }))
})

const stepStarted = message({
  jobId: field(1, "string"),
  stepId: field(2, "string"),
  name: field(3, "string")
})

const stepCompleted = message({
  jobId: field(1, "string"),
  stepId: field(2, "string"),
  output: field(3, "struct"),
  durationMs: field(4, "int")
})

const stepFailed = message({
  jobId: field(1, "string"),
  stepId: field(2, "string"),
  error: field(3, error),
  durationMs: field(4, "int")
})

const stepYielded = message({
  jobId: field(1, "string"),
  stepId: field(2, "string"),
  sleep: field(3, message({ until: field(1, "time") })),
  waitEvent: field(
    4,
    message({
      eventName: field(1, "string"),
      matchExpression: field(2, "string"),
      matchValue: field(3, "string"),
      timeout: field(4, "time")
    })
  ),
  invoke: field(
    100,
    message({
      functionId: field(1, "string"),
      input: field(2, "value"),
      timeoutMs: field(3, "int"),
      async: field(4, "bool")
    })
  )
})

const executedStep = message({
  id: field(1, "string"),
  name: field(2, "string"),
  type: field(3, "string"),
  status: field(4, "string"),
  output: field(5, "struct"),
  error: field(6, error),
  compensationFor: field(7, "string"),
  durationMs: field(8, "int")
})

const jobCompleted = message({
  jobId: field(1, "string"),
  output: field(2, "struct"),
  durationMs: field(3, "int")
})

const jobFailed = message({
  jobId: field(1, "string"),
  error: field(2, error),
  durationMs: field(3, "int"),
  steps: repeatedField(4, executedStep)
})

const turnCall = message({ id: field(1, "int"), call: field(2, "string"), body: field(3, "string") })

export const workerMessage = message({
  register: field(1, register),
  heartbeat: field(2, heartbeat),
  stepStarted: field(3, stepStarted),
  stepCompleted: field(4, stepCompleted),
  stepFailed: field(5, stepFailed),
  stepYielded: field(6, stepYielded),
  jobCompleted: field(7, jobCompleted),
  jobFailed: field(8, jobFailed),
  jobAck: field(9, message({ jobId: field(1, "string"), runId: field(2, "string") })),
  turnCall: field(100, turnCall)
})

// ---------------------------------------------------------------------------------------------------------------------
// From the engine
// ---------------------------------------------------------------------------------------------------------------------

const event = message({
  id: field(1, "string"),
  name: field(2, "string"),
  data: field(3, "struct"),
  idempotencyKey: field(4, "string"),
  source: field(5, "string"),
  timestamp: field(6, "time"),
  metadata: field(7, "struct"),
  version: field(8, "int")
})

const completedStep = message({
  stepId: field(1, "string"),
  name: field(2, "string"),
  output: field(3, "struct")
})

const job = message({
  jobId: field(1, "string"),
  runId: field(2, "string"),
  functionId: field(3, "string"),
  event: field(4, event),
  completedSteps: repeatedField(5, completedStep),
  actorId: field(6, "string"),
  attempt: field(7, "int"),
  context: field(8, message({ secrets: field(3, "stringMap") }))
})

export const engineMessage = message({
  registered: field(
    1,
    message({
      workerId: field(1, "string"),
      heartbeatIntervalMs: field(2, "int"),
      turns: field(100, "string")
    })
  ),
  job: field(2, job),
  stepAck: field(
    3,
    message({ stepId: field(1, "string"), accepted: field(2, "bool"), error: field(3, "string") })
  ),
  cancel: field(5, message({ jobId: field(1, "string"), reason: field(2, "string") })),
  shutdown: field(6, message({ reason: field(1, "string"), drainTimeoutMs: field(2, "int") })),
  turnAnswer: field(
    100,
    message({ id: field(1, "int"), body: field(2, "string"), failure: field(3, "string") })
  ),
  turnPush: field(101, message({ body: field(1, "string") }))
})
