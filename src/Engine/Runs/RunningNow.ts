/**
 * Those steps of a run whose code runs now. They are not in the database: a step is stored only when it ends, which saves a commit
 * for each step. Workers report which steps run (`Protocol/RunningSteps.ts`). The last report is compared with the stored steps,
 * because a step may have ended since.
 */
import type { RunningStep, RunningTurn } from "../../Protocol/RunningSteps.ts"
import { get, type Program, statement } from "../Store/Program.ts"
import type { Row } from "../Store/Transaction.ts"

/** What a worker reports of one of its turns. */
export interface RunningAt extends RunningTurn {
  readonly workerId: string
}

const FIND_FINISHED_STEP = statement(
  "RunningNow.findFinishedStep",
  "SELECT 1 AS found FROM steps WHERE run = ? AND step_key = ?"
)
const FIND_FAILURES = statement(
  "RunningNow.findFailures",
  "SELECT failures FROM waits WHERE run = ? AND step_key = ?"
)

/** The steps that the worker of a run executes now. `row` is the row of the run, `reports` is what the workers have reported. */
export function* runningNow(
  row: Row,
  reports: ReadonlyArray<RunningAt>
): Program<ReadonlyArray<RunningStep>> {
  const turn = row.lease === null ? undefined : reports.find(({ jobId }) => jobId === row.lease)
  const running: Array<RunningStep> = []
  for (const step of turn?.steps ?? []) {
    if ((yield* get(FIND_FINISHED_STEP, row.key!, step.stepKey)) !== undefined) continue
    const failed = yield* get(FIND_FAILURES, row.key!, step.stepKey)
    if (failed !== undefined && Number(failed.failures) >= step.attempt) continue
    running.push(step)
  }
  return running
}
