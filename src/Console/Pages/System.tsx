/** The system: how healthy the engine is, what it stores, how long operations take, and all metrics. */
import { health, info, ready, restCapabilities } from "../../Protocol/Server.ts"
import { ask, CallError } from "../Parts/Calls.ts"
import { bytes, count, Empty, Failure, Loading, Status } from "../Parts/Elements.tsx"
import { useLive } from "../Parts/Live.ts"
import { command } from "../Parts/ShellCommand.ts"
import { readMetrics, type Sample, sumOf } from "../Parts/Metrics.ts"
import { Facts, Listing, Table } from "../Parts/Rows.tsx"
import { duration, Time } from "../Parts/Time.tsx"

export const System = () => {
  const metrics = useLive("metrics", readMetrics, { everyMs: 2000 })
  return (
    <>
      <h1>System</h1>
      <About />
      {metrics.error !== undefined && <Failure error={metrics.error} retry={metrics.refresh} />}
      {metrics.value === undefined ? (
        metrics.error === undefined && <Loading />
      ) : (
        <>
          <Store samples={metrics.value} />
          <Guarantees samples={metrics.value} />
          <Durations samples={metrics.value} />
          <section>
            <h2>All figures</h2>
            <Listing
              label="Figures"
              live={{
                ...metrics,
                value: metrics.value.filter(({ name }) => !name.endsWith("_bucket"))
              }}
              keyOf={nameOf}
              textOf={nameOf}
              columns={[
                {
                  title: "Figure",
                  width: "minmax(10rem, 2fr)",
                  cell: ({ name }) => (
                    <span class="mono" title={name}>
                      {name}
                    </span>
                  )
                },
                {
                  title: "Of",
                  width: "minmax(6rem, 1.5fr)",
                  isExtra: true,
                  cell: ({ labels }) => <span title={labelsOf(labels)}>{labelsOf(labels)}</span>
                },
                {
                  title: "Value",
                  width: "8rem",
                  cell: ({ value }) => (
                    <span class="number">
                      {Number.isInteger(value) ? count(value) : value.toPrecision(4)}
                    </span>
                  )
                }
              ]}
              empty={<p class="quiet">The engine gives no figures.</p>}
            />
          </section>
        </>
      )}
    </>
  )
}

const labelsOf = (labels: Sample["labels"]): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(", ")

const nameOf = ({ labels, name }: Sample): string => `${name} ${labelsOf(labels)}`

const About = () => {
  const about = useLive("about", (signal) => ask(info, { body: {}, signal }), { everyMs: 2000 })
  const state = useLive("health", (signal) => ask(health, { body: {}, signal }), { everyMs: 2000 })
  const readiness = useLive(
    "ready",
    async (signal) => {
      try {
        return (await ask(ready, { signal })).status
      } catch (cause) {
        // the route answers with this status when the server is not ready
        if (cause instanceof CallError && cause.status === 503) return "not ready"
        throw cause
      }
    },
    { everyMs: 5000 }
  )
  const capabilities = useLive("capabilities", (signal) => ask(restCapabilities, { signal }), { once: true })
  const problems = Object.entries(state.value?.components ?? {})
  return (
    <section>
      {about.error !== undefined && <Failure error={about.error} retry={about.refresh} />}
      <Facts
        facts={[
          ["Health", state.value === undefined ? undefined : <Status state={state.value.status} />],
          [
            "Accepts calls",
            readiness.value === undefined ? undefined : (
              <Status state={readiness.value === "ready" ? "ready" : "unavailable"}>{readiness.value}</Status>
            )
          ],
          ["Version", about.value?.version],
          ["Running since", about.value === undefined ? undefined : <Time at={about.value.startedAt} />],
          [
            "Functions in this environment",
            about.value === undefined ? undefined : count(about.value.functionCount)
          ],
          ["Workers", about.value === undefined ? undefined : count(about.value.connectedWorkers)],
          [
            "Runs that are executed now",
            about.value === undefined ? undefined : count(about.value.activeRuns)
          ],
          ["Transports", capabilities.value?.transports.join(", ")]
        ]}
      />
      {problems.map(([name, { message, status }]) => (
        <p key={name} class="failure">
          <strong>
            {name} is {status}.
          </strong>{" "}
          {message}
        </p>
      ))}
    </section>
  )
}

const Store = ({ samples }: { readonly samples: ReadonlyArray<Sample> }) => {
  const commits = sumOf(samples, "ironflow_store_commit_seconds_count")
  const commitSeconds = sumOf(samples, "ironflow_store_commit_seconds_sum")
  return (
    <section>
      <h2>Store</h2>
      <Facts
        facts={[
          ["Size of the database", bytes(sumOf(samples, "ironflow_database_bytes"))],
          ["Commits", count(commits)],
          [
            "Average time of a commit",
            commits === 0 ? undefined : duration((commitSeconds / commits) * 1000)
          ],
          ["Operations", count(sumOf(samples, "ironflow_store_operations_total"))]
        ]}
      />
      <Empty command={command("backup ironflow-backup.db")}>
        A backup can be made while the engine runs, and contains all environments:
      </Empty>
    </section>
  )
}

const Guarantees = ({ samples }: { readonly samples: ReadonlyArray<Sample> }) => {
  const violations = sumOf(samples, "ironflow_invariant_violations_total")
  const refusals = samples.filter(({ name }) => name === "ironflow_stale_writes_refused_total")
  const conditions = sumOf(samples, "ironflow_policy_condition_failures_total")
  return (
    <section>
      <h2>Guarantees</h2>
      <p>
        {violations === 0 ? (
          <Status state="ok">No violation of a guarantee was found.</Status>
        ) : (
          <Status state="damaged">
            {violations === 1
              ? "A violation of a guarantee was"
              : `${count(violations)} violations of guarantees were`}{" "}
            found: look at the log of the engine.
          </Status>
        )}
      </p>
      <Facts
        facts={[
          ...refusals.map(
            ({ labels, value }) => [`Late writes refused: ${labels["kind"] ?? ""}`, count(value)] as const
          ),
          ["Policy conditions that failed", count(conditions)]
        ]}
      />
    </section>
  )
}

/** The histograms that are shown, with their titles. */
const SHOWN_HISTOGRAMS = [
  ["ironflow_run_wait_to_start_seconds", "The wait of a run until a worker starts it"],
  ["ironflow_turn_duration_seconds", "A turn: a stretch of a run between two waits"],
  ["ironflow_step_duration_seconds", "The last attempt of a step"],
  ["ironflow_run_duration_seconds", "A run, from its creation to its end"],
  ["ironflow_timer_lateness_seconds", "The delay of a timer after its time"],
  ["ironflow_store_commit_seconds", "A commit"]
] as const

const Durations = ({ samples }: { readonly samples: ReadonlyArray<Sample> }) => {
  const rows = SHOWN_HISTOGRAMS.flatMap(([name, what]) => {
    const total = sumOf(samples, `${name}_count`)
    if (total === 0) return []
    const quantile = quantileOf(samples, name, total)
    return [
      { what, total, mean: sumOf(samples, `${name}_sum`) / total, half: quantile(0.5), high: quantile(0.95) }
    ]
  })
  if (rows.length === 0) return null
  return (
    <section>
      <h2>How long things take, since the engine was started</h2>
      <Table
        label="Durations"
        items={rows}
        keyOf={({ what }) => what}
        columns={[
          { title: "What", width: "", cell: ({ what }) => what },
          { title: "On average", width: "", cell: ({ mean }) => seconds(mean) },
          { title: "Half take less than", width: "", isExtra: true, cell: ({ half }) => seconds(half) },
          { title: "95 % take less than", width: "", cell: ({ high }) => seconds(high) },
          { title: "Measured", width: "", isExtra: true, cell: ({ total }) => count(total) }
        ]}
      />
    </section>
  )
}

const seconds = (value: number): string => (Number.isFinite(value) ? duration(value * 1000) : "–")

/**
 * Returns the smallest upper end of a bucket such that at least `share` of the `total` values of the histogram are not
 * above it.
 */
const quantileOf =
  (samples: ReadonlyArray<Sample>, name: string, total: number) =>
  (share: number): number => {
    const buckets = new Map<number, number>()
    for (const sample of samples) {
      if (sample.name !== `${name}_bucket`) continue
      const end = Number(sample.labels["le"] === "+Inf" ? Number.POSITIVE_INFINITY : sample.labels["le"])
      buckets.set(end, (buckets.get(end) ?? 0) + sample.value)
    }
    const ends = [...buckets].sort(([one], [other]) => one - other)
    return ends.find(([, below]) => below >= share * total)?.[0] ?? Number.POSITIVE_INFINITY
  }
