/**
 * The expected outcome of each run of the shop. It depends only on the data of the run's event, not on how often
 * processes died.
 */
import type { EventData } from "./Plan.ts"

export interface Expectation {
  readonly status: "completed" | "failed"
  /** The last attempt of the run: 1, and one more for each retry after an error outside of steps. */
  readonly runAttempt: number
  readonly error?: string
  /** Every entry of the journal, with its outcome; the journal may have another order. */
  readonly steps: Readonly<Record<string, StepExpectation>>
  /** Keys of the compensations in the order in which they run. */
  readonly compensations: ReadonlyArray<string>
}

interface StepExpectation {
  readonly failed?: boolean
  /** Its last attempt. */
  readonly attempt?: number
  /** The least time that it takes, milliseconds. */
  readonly ms?: number
}

export const MAX_ATTEMPTS = 3

/** The delay before attempt `attempt` of anything, milliseconds. */
export const delayBefore = (attempt: number): number => 20 * 2 ** (attempt - 2)

/** Turns of one function and one value of its key that may be in progress at once. */
export const limits: Readonly<Record<string, { readonly limit: number; readonly key: string }>> = {
  "print-pages": { limit: 2, key: "printer" }
}

/** Steps between which a run sleeps for a time that its event names. */
export const pauses: Readonly<
  Record<string, ReadonlyArray<{ readonly from: string; readonly to: string; readonly ms: string }>>
> = {
  "process-order": [{ from: "charge:0", to: "prepare:0:stock:0", ms: "pause" }],
  "process-order-effect": [{ from: "charge:0", to: "prepare:0:stock:0", ms: "pause" }],
  "announce-news": [{ from: "edit:0", to: "edit:1", ms: "pause" }],
  "call-courier": [{ from: "decide:0", to: "deliver:0", ms: "pause" }],
  "print-pages": [{ from: "page:0", to: "page:1", ms: "pause" }]
}

/** The functions that an event starts. */
export const functionsFor = (name: string, data: EventData): ReadonlyArray<string> => {
  const audit = name.startsWith("payment.") && Number(data.amount ?? 0) > 50 ? ["audit-payment"] : []
  // such an event starts a function that only one worker has
  const bell = name.startsWith("bell.") ? [name.replace("bell.", "answer-")] : []
  return [...(triggered[name] ?? []), ...audit, ...bell]
}

const triggered: Readonly<Record<string, ReadonlyArray<string>>> = {
  "order.placed": ["process-order", "process-order-effect"],
  "payment.requested": ["collect-payment", "collect-payment-effect"],
  "bill.requested": ["bill-order"],
  "text.requested": ["send-text", "send-text-effect"],
  "trip.requested": ["book-trip", "book-trip-effect"],
  "pages.requested": ["print-pages"],
  "report.requested": ["write-report"],
  "news.written": ["announce-news"],
  "labels.requested": ["print-labels"],
  "parcel.packed": ["pack-parcel"],
  "courier.called": ["call-courier"],
  "nap.requested": ["take-nap"]
}

const ok: StepExpectation = {}

const completed = (
  steps: Expectation["steps"],
  rest: Partial<Pick<Expectation, "runAttempt">> = {}
): Expectation => ({ status: "completed", runAttempt: 1, steps, compensations: [], ...rest })

/** The expected outcome of a run of `fn`. */
export const expectationOf = (fn: string, data: EventData): Expectation => {
  if (fn.startsWith("answer-")) return completed({ "answer:0": ok })
  switch (fn.replace(/-effect$/, "")) {
    case "process-order":
      return completed({
        "charge:0": ok,
        "settle:0": { ms: Number(data.pause) },
        "prepare:0:stock:0": ok,
        "prepare:1:ink:0": { ms: 5 },
        "prepare:1:label:0": ok,
        "ship:0": ok
      })
    case "collect-payment": {
      // the timeout of a wait whose event comes is so long that it never passes; the others are short
      const timeouts = [Number(data.firstTimeout), Number(data.secondTimeout)]
      const paid = timeouts.filter((ms) => ms > 10_000).length
      return completed({
        "ask:0": ok,
        ...Object.fromEntries(
          timeouts.map((ms, i) => [`payment:${i}`, i < paid ? ok : { failed: true, ms }])
        ),
        ...repeated("thank", paid),
        ...repeated("remind", 2 - paid)
      })
    }
    case "audit-payment":
      return completed({ "audit:0": ok })
    case "make-invoice": {
      const broken = data.child === "broken"
      const steps = {
        "number:0": ok,
        "ink:0": { ms: data.child === "slow" ? 300 : 10 },
        "print:0": { failed: broken }
      }
      return broken
        ? { ...completed(steps), status: "failed", error: "The printer is broken" }
        : completed(steps)
    }
    case "notify":
      return completed({ "send:0": ok })
    case "bill-order":
      return completed({
        "prepare:0": ok,
        "make-invoice:0": data.child === "good" ? ok : { failed: true, ms: data.child === "slow" ? 60 : 0 },
        "notify:0": ok,
        "file:0": ok
      })
    case "send-text": {
      const failures = Number(data.failures)
      const failed = failures >= MAX_ATTEMPTS
      return completed({
        "text:0": { failed, attempt: Math.min(failures + 1, MAX_ATTEMPTS) },
        ...repeated("email", failed ? 1 : 0),
        "file:0": ok
      })
    }
    case "book-trip":
      return trip(String(data.failAt), data.stubborn === true)
    case "print-pages": {
      const pages = Number(data.pages)
      return completed({
        ...repeated("page", pages),
        ...Object.fromEntries(
          Array.from({ length: Math.ceil(pages / 2) }, (_, i) => [`dry:${i}`, { ms: Number(data.pause) }])
        )
      })
    }
    case "write-report": {
      const failures = Number(data.failures)
      return failures < MAX_ATTEMPTS
        ? completed({ "gather:0": ok, "write:0": ok }, { runAttempt: failures + 1 })
        : {
            ...completed({ "gather:0": ok }, { runAttempt: MAX_ATTEMPTS }),
            status: "failed",
            error: `No paper at attempt ${MAX_ATTEMPTS}`
          }
    }
    case "announce-news":
      return completed({
        ...repeated("edit", 2),
        "publish:news:0": ok,
        "publish:news:1": ok,
        "until tomorrow:0": { ms: Number(data.pause) }
      })
    case "print-labels": {
      const bad = data.bad as ReadonlyArray<number>
      const steps: Record<string, StepExpectation> = { "sort:0": ok }
      for (let i = 0; i < Number(data.parcels); i++) {
        steps[`labels:${i}:print:0`] = { failed: bad.includes(i) }
        if (!bad.includes(i)) steps[`labels:${i}:dry:0`] = { ms: 10 }
      }
      return completed(steps)
    }
    case "pack-parcel":
      return completed({ "weigh:0": ok, "book:0": ok, "hand over:0": ok })
    case "call-courier":
      return completed({
        "call:0": ok,
        "patience:0": { ms: Number(data.patience) },
        "decide:0": ok,
        "drive:0": { ms: Number(data.pause) },
        "deliver:0": ok
      })
    case "take-nap":
      return completed({ "nap:0": { attempt: Number(data.naps) + 1 }, "wake up:0": ok })
    default:
      throw new Error(`The shop has no function "${fn}"`)
  }
}

const repeated = (name: string, times: number): Record<string, StepExpectation> =>
  Object.fromEntries(Array.from({ length: times }, (_, i) => [`${name}:${i}`, ok]))

const trip = (failAt: string, stubborn: boolean): Expectation => {
  const names = ["flight", "hotel", "car"]
  const failing = names.indexOf(failAt)
  const booked = failing === -1 ? names : names.slice(0, failing)
  const steps: Record<string, StepExpectation> = Object.fromEntries(booked.map((name) => [`${name}:0`, ok]))
  if (failing === -1) steps["think it over:0"] = { ms: 10 }
  else steps[`${failAt}:0`] = { failed: true }
  if (failAt === "none") return completed(steps)
  const compensations = booked.toReversed().map((name) => `compensate:${name}:0`)
  for (const key of compensations) {
    const refused = stubborn && key === "compensate:hotel:0"
    steps[key] = refused ? { failed: true, attempt: MAX_ATTEMPTS } : ok
  }
  return {
    status: "failed",
    runAttempt: 1,
    error: failAt === "end" ? "The trip is off" : `There is no ${failAt}`,
    steps,
    compensations
  }
}
