/** Versions of a function: the unfinished runs and workers of each version, and the history of registrations. */
import {
  functionHistory,
  type FunctionVersion,
  liveVersions,
  liveVersionsOf
} from "../../Protocol/Functions.ts"
import { ask } from "../Parts/Calls.ts"
import { Diff } from "../Parts/Diff.tsx"
import { count, Failure, Link, Loading, Status, Value } from "../Parts/Elements.tsx"
import { useLive } from "../Parts/Live.ts"
import { pathTo, Table } from "../Parts/Rows.tsx"
import { Time } from "../Parts/Time.tsx"

export const LiveVersions = ({ id }: { readonly id: string }) => {
  const live = useLive(
    `live versions ${id}`,
    async (signal) => (await ask(liveVersions, { query: liveVersionsOf(id), signal })).versions,
    { everyMs: 3000 }
  )
  const versions = live.value
  const oldVersions = versions?.filter(({ isLatest }) => !isLatest) ?? []
  const drained = oldVersions.filter(({ liveRuns }) => liveRuns === 0)
  return (
    <section>
      <h2>Versions at work</h2>
      {live.error !== undefined && <Failure error={live.error} retry={live.refresh} />}
      {versions === undefined ? (
        live.error === undefined && <Loading />
      ) : versions.length === 0 ? (
        <p class="quiet">
          No worker has this function now, and no unfinished run is pinned to a version of it.
        </p>
      ) : (
        <>
          <Table
            label="Versions at work"
            items={versions}
            keyOf={({ codeVersion }) => codeVersion}
            columns={[
              {
                title: "Version",
                width: "",
                cell: ({ codeVersion, isLatest }) => (
                  <>
                    <span class="mono">{codeVersion}</span>
                    {isLatest && <span class="quiet"> the latest</span>}
                  </>
                )
              },
              {
                title: "Unfinished runs pinned to it",
                width: "",
                cell: ({ liveRuns, oldestRunId }) => (
                  <>
                    <span class="number">{count(liveRuns)}</span>
                    {oldestRunId !== undefined && (
                      <>
                        {" "}
                        <Link to={pathTo("runs", oldestRunId)}>the oldest</Link>
                      </>
                    )}
                  </>
                )
              },
              {
                title: "Workers",
                width: "",
                cell: ({ workerIds }) =>
                  workerIds.length === 0 ? (
                    <Status state="pending">none now</Status>
                  ) : (
                    <ul class="plain">
                      {workerIds.map((worker) => (
                        <li key={worker}>
                          <Link to={pathTo("workers", worker)} class="mono">
                            {worker}
                          </Link>
                        </li>
                      ))}
                    </ul>
                  )
              }
            ]}
          />
          {oldVersions.length > 0 && (
            <p class="quiet">
              {drained.length === oldVersions.length
                ? "Old versions have no unfinished runs: you can stop their workers."
                : "Keep the workers of old versions until these versions have no unfinished runs, or move the runs."}
            </p>
          )}
        </>
      )}
    </section>
  )
}

export const History = ({ id }: { readonly id: string }) => {
  const live = useLive(
    `history ${id}`,
    async (signal) => (await ask(functionHistory, { variables: { id }, signal })).versions,
    { everyMs: 10_000 }
  )
  const versions = live.value
  return (
    <section>
      <h2>History</h2>
      {live.error !== undefined && <Failure error={live.error} retry={live.refresh} />}
      {versions === undefined ? (
        live.error === undefined && <Loading />
      ) : (
        <Table
          label="Registrations of the function, newest first"
          items={versions.map((version, i) => ({ version, before: versions[i + 1] }))}
          keyOf={({ version }) => String(version.version)}
          columns={[
            {
              title: "No.",
              width: "",
              cell: ({ version }) => <span class="number">{count(version.version)}</span>
            },
            { title: "Since", width: "", cell: ({ version }) => <Time at={version.at} /> },
            {
              title: "Version of its code",
              width: "",
              isExtra: true,
              cell: ({ version }) => <span class="mono">{version.codeVersion}</span>
            },
            { title: "What changed", width: "", cell: (pair) => <Change {...pair} /> }
          ]}
        />
      )}
    </section>
  )
}

/** The settings that were changed, with their old and new values. */
const Change = ({
  before,
  version: { changed, registration, version }
}: {
  readonly version: FunctionVersion
  /** The registration before this one; `undefined` when it is no longer kept. */
  readonly before: FunctionVersion | undefined
}) => (
  <details>
    <summary>{changed === undefined ? "the first registration that is kept" : changed.join(", ")}</summary>
    {changed === undefined || before === undefined ? (
      <Value value={registration} name={`Registration ${version}`} />
    ) : (
      <Diff before={membersOf(before.registration, changed)} after={membersOf(registration, changed)} />
    )}
  </details>
)

const membersOf = (registration: FunctionVersion["registration"], names: ReadonlyArray<string>): string =>
  JSON.stringify(Object.fromEntries(names.map((name) => [name, registration[name]])), null, 2)
