/**
 * The shop's functions, and one for each bell. A bell is an event for one process only, which shows that this process
 * still takes runs.
 */
import { createFunction, type RunnableFunction } from "@ironflow/node"
import { Diary } from "../Diary.ts"
import { makeEffectFunctions } from "../EffectShop.ts"
import { makeFunctions } from "../Shop.ts"
import type { SideLog } from "../SideLog.ts"

/** Signs the engine's requests to apps. */
export const SIGNING_KEY = "key-of-the-storms"

export const makeAllFunctions = (
  log: SideLog,
  bells: ReadonlyArray<string>,
  share?: "effect" | "promise"
): ReadonlyArray<RunnableFunction> => [
  ...(share === "effect" ? [] : makeFunctions(log)),
  ...(share === "promise" ? [] : makeEffectFunctions(log)),
  ...bells.map((bell) =>
    createFunction({ id: `answer-${bell}`, triggers: [{ event: `bell.${bell}` }] }, async ({ run, step }) => {
      const diary = new Diary(log, run)
      diary.saw(await step.run("answer", async (execution) => diary.begin(execution).end()))
      return diary.seen
    })
  )
]
