/** The statements of the plans by which runs are found. `RunSearchRows.ts` explains what a plan and a lane are. */
import { statement, type Statement } from "../Store/Program.ts"
import { Status } from "./StatusRows.ts"

/** SQL: the part of an error that is searched. The expression must equal that of the index, which a migration has created. */
const errorText =
  "CASE WHEN json_valid(r.error) THEN substr(lower(concat_ws(' ', r.error ->> '$.code', r.error ->> '$.name', r.error ->> '$.cause.code', " +
  "r.error ->> '$.cause.name', r.error ->> '$.message', r.error ->> '$.cause.message')), 1, 600) END"

const ERROR_HAS = `instr(${errorText}, lower(?)) > 0`
const ERROR_HAS_ON_POSTGRES = `strpos(error_text(r.error), lower(CAST(? AS TEXT) COLLATE "C")) > 0`

/**
 * Stands for the end of a run that has not ended. This time is before all dates, so that no filter by the end matches the run. It
 * is after the time that stands for an absent filter, because an absent filter matches all runs.
 */
const NOT_ENDED = -9_000_000_000_000_000
/** The first time that a `Date` can hold, in epoch milliseconds. */
export const FIRST_MOMENT = -8_640_000_000_000_000

/** SQL: whether a run matches all filters. An absent filter has a value that every run matches. */
const FITS = `+r.function IN (SELECT value FROM json_each(?)) AND r.status IN (SELECT value FROM json_each(?))
  AND r.created_at >= ? AND r.created_at < ? AND coalesce(r.ended_at, ${NOT_ENDED}) >= ? AND coalesce(r.ended_at, ${NOT_ENDED}) < ?
  AND (? = '' OR (r.status = ${Status.failed} AND ${ERROR_HAS}))
  AND (? = 0 OR (r.input IS NULL AND EXISTS (SELECT 1 FROM events v WHERE v.position = r.event AND (? IS NULL OR v.name = ?)
    AND (? IS NULL OR v.entity_id = ?) AND (? IS NULL OR v.idempotency_key = ?))))
  AND (? = '{}' OR NOT EXISTS (SELECT 1 FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM run_attributes x
    WHERE x.function = r.function AND x.path = json_each.key AND x.value = json_each.value AND x.run = r.key)))`

/**
 * {@link FITS} for Postgres. Postgres needs typed values. With the form for SQLite, Postgres would read the whole table of
 * events or attributes.
 */
const FITS_ON_POSTGRES = `r.function = ANY(ARRAY(SELECT CAST(value AS BIGINT) FROM json_each(?)))
  AND r.status = ANY(ARRAY(SELECT CAST(value AS BIGINT) FROM json_each(?)))
  AND r.created_at >= ? AND r.created_at < ? AND coalesce(r.ended_at, ${NOT_ENDED}) >= ? AND coalesce(r.ended_at, ${NOT_ENDED}) < ?
  AND (CAST(? AS TEXT) = '' OR (r.status = ${Status.failed} AND ${ERROR_HAS_ON_POSTGRES}))
  AND (CAST(? AS BIGINT) = 0 OR (r.input IS NULL AND (SELECT 1 FROM events v WHERE v.position = r.event
    AND (CAST(? AS TEXT) IS NULL OR v.name = ?) AND (CAST(? AS TEXT) IS NULL OR v.entity_id = ?)
    AND (CAST(? AS TEXT) IS NULL OR v.idempotency_key = ?)) IS NOT NULL))
  AND (CAST(? AS TEXT) = '{}' OR (SELECT count(*) FROM json_each_text(CAST(? AS JSON)) AS named WHERE (SELECT 1 FROM run_attributes x
    WHERE x.function = r.function AND x.path = named.key AND x.value = named.value AND x.run = r.key) IS NULL) = 0)`

/**
 * How many characters of a stored error are read when runs are grouped by error. The message is among the first characters.
 */
const ERROR_LENGTH = 600
/** SQL: the value by which a run is grouped. */
const GROUP = `CASE CAST(? AS TEXT) WHEN 'function' THEN CAST(r.function AS TEXT) WHEN 'version' THEN r.pin
    WHEN 'error' THEN substr(r.error, 1, ${ERROR_LENGTH})
    WHEN 'event' THEN coalesce(r.system_event,
      CASE WHEN r.input IS NULL THEN (SELECT n.name FROM events n WHERE n.position = r.event) END)
    WHEN 'time' THEN CAST(r.created_at / CAST(? AS BIGINT) * CAST(? AS BIGINT) AS TEXT)
    WHEN 'attribute' THEN (SELECT x.value FROM run_attributes x WHERE x.run = r.key AND +x.function = r.function AND +x.path = CAST(? AS TEXT))
  END AS value`
const TOOK = "(r.ended_at - r.started_at)"
/** SQL: whether a run was retried, and how long it took in milliseconds, rounded down to three digits. */
const MEASURED = `CASE WHEN r.attempt > 1 THEN 1 ELSE 0 END AS retried,
  CASE WHEN CAST(? AS BIGINT) = 0 THEN NULL ${[1, 10, 100, 1000, 10_000]
    .map((size) => `WHEN ${TOOK} < ${size * 1000} THEN ${TOOK} / ${size} * ${size}`)
    .join(" ")} ELSE ${TOOK} / 100000 * 100000 END AS took`
const COUNTS = `${GROUP}, r.status, ${MEASURED}, count(*) AS n`

/** A statement that contains {@link FITS}. Its form for Postgres names no indexes: Postgres chooses them itself. */
const finds = (name: string, text: string, options: Pick<Statement, "scans"> = {}): Statement =>
  statement(name, text, {
    ...options,
    postgres: forPostgres(text)
      .replaceAll(FITS, () => FITS_ON_POSTGRES)
      .replaceAll(ERROR_HAS, () => ERROR_HAS_ON_POSTGRES)
  })

const forPostgres = (text: string): string =>
  text
    .replaceAll(/ INDEXED BY \w+/g, "")
    .replaceAll(" CROSS JOIN ", " JOIN ")
    .replaceAll("+x.", "x.")
    // earlier versions of Postgres need a name for a subquery
    .replaceAll(/ LIMIT \d+\)$/g, "$& AS entries")
    .replaceAll(
      "r.function IN (SELECT value FROM json_each(?)) AND r.event",
      "r.function = ANY(ARRAY(SELECT CAST(value AS BIGINT) FROM json_each(?))) AND r.event"
    )

/** The statements for a lane of a plan. */
interface SearchPlan {
  readonly name: string
  /** Finds where a slice of a given size ends. */
  readonly end: Statement
  /** The matching runs in the slice. */
  readonly find: Statement
  /** The matching runs in the slice, counted by group. */
  readonly sum: Statement
  /** Whether the plan is ordered by the positions of events. */
  readonly isByEvent: boolean
  /** Counts the runs that the plan would read, up to {@link MAX_COUNTED}. Absent for the plan that reads all runs. */
  readonly count?: Statement
}

/** Maximum number of runs of each plan that are counted to find the shortest plan. */
export const MAX_COUNTED = 5000

const byKey = (name: string, from: string, lane: string, run = "r.key"): SearchPlan => ({
  name,
  isByEvent: false,
  end: finds(
    `SearchPlans.${name}.end`,
    `SELECT ${run} AS key, 0 AS event FROM ${from} WHERE ${lane} AND ${run} < ? ORDER BY ${run} DESC LIMIT 1 OFFSET ?`
  ),
  find: finds(
    `SearchPlans.${name}.find`,
    `SELECT r.key, 0 AS event FROM ${from}${run === "r.key" ? "" : ` CROSS JOIN runs r ON r.key = ${run}`}
       WHERE ${lane} AND ${run} < ? AND ${run} >= ? AND ${FITS} ORDER BY ${run} DESC LIMIT ?`
  ),
  sum: finds(
    `SearchPlans.${name}.sum`,
    `SELECT ${COUNTS} FROM ${from}${run === "r.key" ? "" : ` CROSS JOIN runs r ON r.key = ${run}`}
       WHERE ${lane} AND ${run} < ? AND ${run} >= ? AND ${FITS} GROUP BY 1, 2, 3, 4`
  ),
  ...(lane === "true"
    ? {}
    : {
        count: finds(
          `SearchPlans.${name}.count`,
          `SELECT count(*) AS count FROM (SELECT 1 FROM ${from} WHERE ${lane} LIMIT ${MAX_COUNTED})`,
          lane.includes("?") ? {} : { scans: `reads ${MAX_COUNTED} entries of an index that has few runs` }
        )
      })
})

const byEvent = (name: string, lane: string): SearchPlan => ({
  name,
  isByEvent: true,
  end: finds(
    `SearchPlans.${name}.end`,
    `SELECT 0 AS key, e.position AS event FROM events e WHERE ${lane} AND e.position <= ? ORDER BY e.position DESC LIMIT 1 OFFSET ?`
  ),
  find: finds(
    `SearchPlans.${name}.find`,
    `SELECT r.key, e.position AS event FROM events e
       CROSS JOIN runs r ON r.function IN (SELECT value FROM json_each(?)) AND r.event = e.position AND r.input IS NULL
       WHERE ${lane} AND e.position <= ? AND e.position >= ? AND (e.position < ? OR r.key < ?) AND ${FITS}
       ORDER BY e.position DESC, r.key DESC LIMIT ?`
  ),
  sum: finds(
    `SearchPlans.${name}.sum`,
    `SELECT ${COUNTS} FROM events e
       CROSS JOIN runs r ON r.function IN (SELECT value FROM json_each(?)) AND r.event = e.position AND r.input IS NULL
       WHERE ${lane} AND e.position <= ? AND e.position >= ? AND (e.position < ? OR r.key < ?) AND ${FITS} GROUP BY 1, 2, 3, 4`
  ),
  count: finds(
    `SearchPlans.${name}.count`,
    `SELECT count(*) AS count FROM (SELECT 1 FROM events e WHERE ${lane} LIMIT ${MAX_COUNTED})`
  )
})

const plans = {
  attribute: byKey("attribute", "run_attributes a", "a.function = ? AND a.path = ? AND a.value = ?", "a.run"),
  idempotencyKey: byEvent(
    "idempotencyKey",
    "e.environment = ? AND e.idempotency_key = ? AND e.idempotency_key IS NOT NULL AND e.kind = 0"
  ),
  entity: byEvent("entity", "e.environment = ? AND e.entity_id = ?"),
  endedBadly: byKey(
    "endedBadly",
    "runs r INDEXED BY runs_ended_badly",
    `r.status = ? AND r.status IN (${Status.failed}, ${Status.cancelled})`
  ),
  unfinished: byKey("unfinished", "runs r INDEXED BY runs_unfinished", "r.ended_at IS NULL"),
  error: {
    ...byKey("error", "runs r INDEXED BY runs_error", `r.status = ${Status.failed}`),
    find: finds(
      "SearchPlans.error.findText",
      `SELECT r.key, 0 AS event FROM runs r INDEXED BY runs_error
         WHERE r.status = ${Status.failed} AND r.key < ? AND r.key >= ? AND ${ERROR_HAS} AND ${FITS} ORDER BY r.key DESC LIMIT ?`
    ),
    sum: finds(
      "SearchPlans.error.sumText",
      `SELECT ${COUNTS} FROM runs r INDEXED BY runs_error
         WHERE r.status = ${Status.failed} AND r.key < ? AND r.key >= ? AND ${ERROR_HAS} AND ${FITS} GROUP BY 1, 2, 3, 4`
    )
  },
  function: {
    name: "function",
    isByEvent: true,
    end: finds(
      "SearchPlans.function.end",
      `SELECT r.event, r.key FROM runs r WHERE r.function = ? AND (r.event, r.key) < (?, ?) ORDER BY r.event DESC, r.key DESC
         LIMIT 1 OFFSET ?`
    ),
    find: finds(
      "SearchPlans.function.find",
      `SELECT r.event, r.key FROM runs r WHERE r.function = ? AND (r.event, r.key) < (?, ?) AND (r.event, r.key) >= (?, ?)
         AND ${FITS} ORDER BY r.event DESC, r.key DESC LIMIT ?`
    ),
    sum: finds(
      "SearchPlans.function.sum",
      `SELECT ${COUNTS} FROM runs r WHERE r.function = ? AND (r.event, r.key) < (?, ?) AND (r.event, r.key) >= (?, ?)
         AND ${FITS} GROUP BY 1, 2, 3, 4`
    ),
    count: finds(
      "SearchPlans.function.count",
      `SELECT count(*) AS count FROM (SELECT 1 FROM runs r WHERE r.function = ? LIMIT ${MAX_COUNTED})`
    )
  },
  eventName: byEvent("eventName", "e.environment = ? AND e.kind = 0 AND e.name = ?"),
  all: byKey("all", "runs r NOT INDEXED", "true")
} satisfies { readonly [name: string]: SearchPlan }

type PlanName = keyof typeof plans

const isPlanName = (name: string): name is PlanName => name in plans

export const planOf = (planKey: string): SearchPlan => plans[planNameOf(planKey)]

/** The name of the plan: `planKey` without the path of an attribute. */
export const planNameOf = (planKey: string): PlanName => {
  const [name = ""] = planKey.split(" ")
  return isPlanName(name) ? name : "all"
}
