/** Schedules: the cron triggers of functions, and their next times. */
import { Empty, Link, Status } from "../Parts/Elements.tsx"
import { nextFires, type FunctionSchedule, schedulesOf } from "../Parts/Cron.ts"
import { useFunctions } from "../Parts/SharedLists.ts"
import { Truncated, Listing, pathTo } from "../Parts/Rows.tsx"
import { now } from "../Parts/Clock.ts"
import { Time } from "../Parts/Time.tsx"

interface ScheduleRow extends FunctionSchedule {
  readonly next: string | undefined
  readonly afterNext: string | undefined
}

export const Schedules = () => {
  const functions = useFunctions()
  // computed anew every 5 seconds, since the next fire may be less than a minute away
  const computedAt = Math.floor(now.value / 5000) * 5000
  const rows = functions.value
    ?.flatMap(schedulesOf)
    .map((schedule): ScheduleRow => {
      const [next, afterNext] = nextFires(schedule, computedAt, 2)
      return { ...schedule, next, afterNext }
    })
    .sort((one, other) => ((one.next ?? "9") < (other.next ?? "9") ? -1 : 1))
  return (
    <>
      <h1>Schedules</h1>
      <Listing
        label="Schedules"
        live={{ ...functions, value: rows }}
        keyOf={(row) => JSON.stringify([row.functionId, row.cron, row.timezone])}
        textOf={({ cron, event = "", functionId, timezone = "UTC" }) =>
          `${functionId} ${cron} ${timezone} ${event}`
        }
        columns={[
          {
            title: "Function",
            width: "minmax(7rem, 1fr)",
            cell: ({ functionId }) => <Link to={pathTo("functions", functionId)}>{functionId}</Link>
          },
          {
            title: "Schedule",
            width: "8rem",
            narrow: "6rem",
            cell: ({ cron }) => <span class="mono">{cron}</span>
          },
          {
            title: "Zone",
            width: "minmax(5rem, 0.7fr)",
            isExtra: true,
            cell: ({ timezone = "UTC" }) => <Truncated>{timezone}</Truncated>
          },
          {
            title: "Next fire",
            width: "6.5rem",
            narrow: "5.5rem",
            cell: ({ isPaused, next }) => (isPaused ? <Status state="paused" /> : <Time at={next} />)
          },
          {
            title: "At",
            width: "minmax(8rem, 1.3fr)",
            isExtra: true,
            cell: ({ next }) => <Time at={next} exactly />
          },
          { title: "Then", width: "6.5rem", isExtra: true, cell: ({ afterNext }) => <Time at={afterNext} /> },
          {
            title: "Events",
            width: "minmax(5rem, 0.8fr)",
            isExtra: true,
            cell: ({ event, functionId }) => (
              <Link to="events" query={{ name: event ?? `cron.${functionId}` }}>
                its events
              </Link>
            )
          }
        ]}
        empty={
          <Empty command={`createFunction({ id: "report", triggers: [{ cron: "0 9 * * 1-5" }] }, …)`}>
            No function in this environment has a schedule. A schedule is a trigger of a function:
          </Empty>
        }
      />
    </>
  )
}
