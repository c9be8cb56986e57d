/** Lists that several pages show. */
import { restFunctions } from "../../Protocol/Functions.ts"
import { restWorkers } from "../../Protocol/Workers.ts"
import { ask } from "./Calls.ts"
import { useLive } from "./Live.ts"

/** The functions of the environment. */
export const useFunctions = () =>
  useLive("functions", async (signal) => (await ask(restFunctions, { signal })).functions, { everyMs: 3000 })

/** The workers that are connected. */
export const useWorkers = () =>
  useLive("workers", async (signal) => (await ask(restWorkers, { signal })).workers, { everyMs: 2000 })
