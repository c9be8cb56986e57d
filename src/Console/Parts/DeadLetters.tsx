/** A list of dead letters, which are events that were given up. Each has its reason, and a button to retry it. */
import { Action, count, Failure, Link, Status } from "./Elements.tsx"
import { type Live, refreshAll } from "./Live.ts"
import { pathTo, Table } from "./Rows.tsx"
import { Time } from "./Time.tsx"

/** What dead letters of projections and of consumer groups have in common. */
export interface Letter {
  readonly position: number
  readonly eventId: string
  readonly eventName: string
  readonly why: string
  readonly attempts: number
  readonly failedAt: string
  /** Whether a retry was requested and has not been made yet. */
  readonly isRetrying: boolean
}

/**
 * The list of dead letters. `total` is how many dead letters there are: `letters` may have only the oldest of them.
 * `retry` retries the dead letter at a position, or without a position all of them. It returns how many it retries.
 */
export const DeadLetters = ({
  letters,
  total,
  retry
}: {
  readonly letters: Live<ReadonlyArray<Letter>>
  readonly total: number
  readonly retry: (position?: number) => Promise<number>
}) => {
  const act = async (position?: number): Promise<string> => {
    const retrying = await retry(position)
    refreshAll()
    return retrying === 1
      ? "The dead letter is tried once more."
      : `${count(retrying)} dead letters are tried once more.`
  }
  const { error, refresh, value } = letters
  return (
    <section>
      <div class="title">
        <h2>Dead letters{total > 0 ? ` (${count(total)})` : ""}</h2>
        {total > 1 && (
          <div class="actions">
            <Action
              label="Retry all"
              confirm={`All ${count(total)} dead letters are tried once more, the oldest first.`}
              act={() => act()}
            />
          </div>
        )}
      </div>
      {error !== undefined && <Failure error={error} retry={refresh} />}
      {value === undefined ? null : value.length === 0 ? (
        <p class="quiet">There are no dead letters.</p>
      ) : (
        <>
          <Table
            label="Dead letters"
            items={value}
            keyOf={({ position }) => String(position)}
            columns={[
              {
                title: "Event",
                width: "",
                cell: ({ eventId, eventName, position }) => (
                  <Link to={pathTo("events", eventId)} title={`position ${position}`}>
                    {eventName}
                  </Link>
                )
              },
              { title: "Why", width: "", cell: ({ why }) => why },
              { title: "Attempts", width: "", isExtra: true, cell: ({ attempts }) => count(attempts) },
              { title: "Given up", width: "", isExtra: true, cell: ({ failedAt }) => <Time at={failedAt} /> },
              {
                title: "Try again",
                width: "",
                cell: ({ isRetrying, position }) =>
                  isRetrying ? (
                    <Status state="waiting">waits for its turn</Status>
                  ) : (
                    <Action label="Retry" isSmall act={() => act(position)} />
                  )
              }
            ]}
          />
          {value.length < total && <p class="quiet">Only the oldest {count(value.length)} are shown.</p>}
        </>
      )}
    </section>
  )
}
