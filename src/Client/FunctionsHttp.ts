/** Functions over HTTP. */
import * as Effect from "effect/Effect"
import { encodeJson, textOf } from "../Json.ts"
import { checkIdempotencyKey, checkName } from "../Limits.ts"
import { CODE_HASH_KEY } from "../Protocol/Functions.ts"
import * as functions from "../Protocol/Functions.ts"
import type { EffectKind } from "./Client.ts"
import type { FunctionsApi } from "./Functions.ts"
import * as Answers from "./HttpAnswers.ts"
import { ignoredAnswer, jsonObject, quote } from "./HttpCalls.ts"
import { validated } from "../CheckAsEffect.ts"
import type { Raw } from "./NarrowErrors.ts"
import type { OperationCalls } from "./OperationCalls.ts"

/** Makes the methods, over a connection. */
export const make = ({ listItems, ask, failUnsupported }: OperationCalls): Raw<FunctionsApi<EffectKind>> => {
  /** The input of a call that only our engine has. `advice` tells the user what to do with other servers. */
  const ourEngineInput = (what: string, id: string, advice: string) => ({
    variables: { id },
    whenUnsupported: failUnsupported(`${what}(${quote(id)})`, advice)
  })
  const checkedId = (functionId: string) => validated(() => checkName("function id", functionId))

  return {
    listFunctions: () =>
      Effect.map(
        listItems(functions.restFunctions, "listFunctions", ({ functions }) => functions),
        (answers) => answers.map(functionOf)
      ),
    deleteFunction: (functionId) =>
      Effect.flatMap(checkedId(functionId), (id) =>
        Effect.asVoid(
          ask<object, unknown>(
            functions.deleteFunction,
            "deleteFunction",
            ourEngineInput(
              "deleteFunction",
              id,
              "Stop the workers that have the function instead: its new runs then wait"
            ),
            () => ignoredAnswer
          )
        )
      ),
    pauseFunction: (functionId, options = {}) =>
      Effect.flatMap(checkedId(functionId), (id) =>
        Effect.map(
          ask(functions.pauseFunction, "pauseFunction", {
            ...ourEngineInput("pauseFunction", id, "pauseRun pauses one run"),
            body: options
          }),
          functionOf
        )
      ),
    resumeFunction: (functionId) =>
      Effect.flatMap(checkedId(functionId), (id) =>
        Effect.map(
          ask(functions.resumeFunction, "resumeFunction", {
            ...ourEngineInput("resumeFunction", id, "That server cannot pause functions")
          }),
          functionOf
        )
      ),
    runFunction: (functionId, data, { idempotencyKey } = {}) =>
      Effect.flatMap(
        Effect.all([
          checkedId(functionId),
          validated(() => ({
            text: jsonObject({
              data: encodeJson(data, `data for function ${quote(functionId)}`),
              idempotencyKey:
                idempotencyKey === undefined ? undefined : JSON.stringify(checkIdempotencyKey(idempotencyKey))
            })
          }))
        ]),
        ([id, { text }]) =>
          ask(
            functions.runFunction,
            "runFunction",
            {
              ...ourEngineInput("runFunction", id, "Emit an event that triggers the function instead"),
              body: text,
              repeatable: idempotencyKey !== undefined
            },
            Answers.readRun
          )
      ),
    functionHistory: (functionId) =>
      Effect.flatMap(checkedId(functionId), (id) =>
        Effect.map(
          ask(
            functions.functionHistory,
            "functionHistory",
            ourEngineInput("functionHistory", id, "listFunctions shows its present registration")
          ),
          ({ versions }) => versions
        )
      ),
    liveVersions: (functionId) =>
      Effect.flatMap(functionId === undefined ? Effect.succeed(undefined) : checkedId(functionId), (id) =>
        Effect.map(
          ask(functions.liveVersions, "liveVersions", {
            ...(id === undefined ? {} : { subject: id, query: `?function_id=${encodeURIComponent(id)}` }),
            whenUnsupported: failUnsupported(
              "liveVersions()",
              "Runs of that server do not belong to versions"
            )
          }),
          ({ versions }) => versions
        )
      )
  }
}

/** Fills in the members that legacy servers leave out. */
const functionOf = ({ metadata, ...fn }: functions.FunctionAnswer): functions.FunctionInfo => {
  const codeHash = fn.codeHash || textOf(metadata?.[CODE_HASH_KEY])
  return {
    ...fn,
    name: fn.name || fn.id,
    codeHash,
    codeVersion: fn.codeVersion || codeHash,
    updatedAt: fn.updatedAt || fn.createdAt
  }
}
