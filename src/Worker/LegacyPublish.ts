/**
 * `step.publish` for legacy servers. They do not accept a published message in the report of a turn, so the worker
 * publishes it with a separate request.
 */
import * as Effect from "effect/Effect"
import type { Connection } from "../Client/HttpConnection.ts"
import type { Answer } from "../Client/HttpExchange.ts"
import { failureOf } from "../Client/HttpFailures.ts"
import { type ConnectionError, serializeError } from "../Errors.ts"
import { stepId } from "../StepId.ts"
import { decodeJson, safeJsonParse } from "../Json.ts"
import { reader } from "../Protocol/Codec.ts"
import * as topics from "../Protocol/Topics.ts"
import type { Outcome, TurnOp } from "../Protocol/Worker.ts"
import type { LegacyTurn } from "./LegacyTurn.ts"
import { toConnectionError, isSuccess } from "./ServerLink.ts"

/**
 * Publishes the message of a step. On servers that store idempotency keys, publishing the message again changes
 * nothing. `failIfTransient` returns an answer, but fails if the same request may get another answer later.
 */
export const publishMessage = (
  turn: LegacyTurn,
  op: Extract<TurnOp, { readonly _tag: "Publish" }>,
  nowMs: number,
  connection: Connection,
  failIfTransient: (answer: Answer, what: string) => Effect.Effect<Answer, ConnectionError>
): Effect.Effect<Outcome, ConnectionError> => {
  const what = `publish("${op.topic}")`
  const idempotencyKey = stepId(turn.job.runId, op.stepKey)
  return connection
    .send({
      method: "POST",
      path: topics.publish.path,
      body: JSON.stringify({ topic: op.topic, data: decodeJson(op.data), idempotencyKey }),
      headers: { "x-ironflow-run-id": turn.job.runId },
      what
    })
    .pipe(
      Effect.mapError(toConnectionError),
      Effect.flatMap((answer) => failIfTransient(answer, what)),
      Effect.map((answer): Outcome => {
        if (!isSuccess(answer)) return failPublish(turn, op, nowMs, failureOf(answer, what))
        const output = readPublished(safeJsonParse(answer.text)) ?? { eventId: "", sequence: 0 }
        turn.addPublished(op.stepKey, op.name, output, nowMs)
        return { _tag: "Success", value: JSON.stringify(output) }
      })
    )
}

const readPublished = reader(topics.Published)

/** Records that the step has failed and is not retried. */
export const failPublish = (
  turn: LegacyTurn,
  op: Extract<TurnOp, { readonly _tag: "Publish" }>,
  nowMs: number,
  reason: Error
): Outcome => {
  const error = serializeError(reason)
  const outcome = { _tag: "Failure", error } as const
  turn.addResult({
    _tag: "StepDone",
    stepKey: op.stepKey,
    name: op.name,
    kind: "publish",
    outcome,
    attempt: 1,
    startedAt: nowMs,
    endedAt: nowMs
  })
  return outcome
}
