/** Topics, whose messages all subscribers get; and consumer groups, whose members share a subscription. */
import {
  type ConsumerGroup,
  deleteConsumerGroup,
  getConsumerGroup,
  groupDeadLetters,
  listConsumerGroups,
  retryGroupDeadLetters,
  updateConsumerGroup
} from "../../Protocol/ConsumerGroups.ts"
import { getTopicStats, listTopics, publish, type TopicInfo } from "../../Protocol/Topics.ts"
import { ask } from "../Parts/Calls.ts"
import { DeadLetters } from "../Parts/DeadLetters.tsx"
import { Action, bytes, count, Empty, Failure, Link, Loading, Status, Value } from "../Parts/Elements.tsx"
import { readEntry, Field, readJsonEntry, readRequiredEntry } from "../Parts/Fields.tsx"
import { refreshAll, useLive } from "../Parts/Live.ts"
import { go, hrefOf, place, type Variables } from "../Parts/Router.ts"
import { Truncated, Facts, Listing, pathTo, Table } from "../Parts/Rows.tsx"
import { currentUserName } from "../Parts/Session.ts"
import { command } from "../Parts/ShellCommand.ts"
import { Time, localizeTimes } from "../Parts/Time.tsx"
import type { Column } from "../Parts/VirtualList.tsx"

const topicColumns: ReadonlyArray<Column<TopicInfo>> = [
  {
    title: "Topic",
    width: "minmax(7rem, 2fr)",
    cell: ({ name }) => <Link to={pathTo("topics", name)}>{name}</Link>
  },
  {
    title: "Messages",
    width: "6rem",
    cell: ({ messageCount }) => <span class="number">{count(messageCount)}</span>
  },
  {
    title: "Subscribers",
    width: "6rem",
    cell: ({ consumerCount }) => <span class="number">{count(consumerCount)}</span>
  },
  {
    title: "Oldest",
    width: "7rem",
    isExtra: true,
    cell: ({ firstMessageAt }) => <Time at={firstMessageAt} />
  },
  { title: "Newest", width: "7rem", isExtra: true, cell: ({ lastMessageAt }) => <Time at={lastMessageAt} /> }
]

/** A link to a consumer group. The query of the link tells the group from other groups of the same name. */
const GroupLink = ({ group: { name, namespace, pattern } }: { readonly group: ConsumerGroup }) => (
  <Link to={pathTo("topics", "groups", name)} query={{ namespace, pattern }}>
    {name}
  </Link>
)

const numberCell = (value: number) => <span class="number">{count(value)}</span>

const groupColumns: ReadonlyArray<Column<ConsumerGroup>> = [
  {
    title: "Status",
    width: "6rem",
    cell: ({ message, status }) => (
      <span title={message}>
        <Status state={status} />
      </span>
    )
  },
  { title: "Group", width: "minmax(6rem, 1.2fr)", cell: (group) => <GroupLink group={group} /> },
  { title: "Lag", width: "4rem", isExtra: true, cell: ({ lag }) => numberCell(lag) },
  {
    title: "Dead letters",
    width: "6rem",
    cell: ({ deadLetters }) =>
      deadLetters === 0 ? <span class="quiet">0</span> : <Status state="dead">{count(deadLetters)}</Status>
  },
  { title: "In flight", width: "5rem", isExtra: true, cell: ({ inFlight }) => numberCell(inFlight) },
  { title: "Retrying", width: "5rem", isExtra: true, cell: ({ retrying }) => numberCell(retrying) },
  { title: "Members", width: "5rem", isExtra: true, cell: ({ memberCount }) => numberCell(memberCount) },
  {
    title: "Pattern",
    width: "minmax(6rem, 1fr)",
    isExtra: true,
    cell: ({ pattern }) => <Truncated>{pattern}</Truncated>
  },
  {
    title: "Namespace",
    width: "minmax(5rem, 0.6fr)",
    isExtra: true,
    cell: ({ namespace }) => <Truncated>{namespace}</Truncated>
  }
]

const Publish = ({ topic }: { readonly topic?: string }) => (
  <Action
    label="Publish a message"
    confirm="Subscribers of the topic get the message. Messages start no functions."
    fields={
      <>
        <Field name="topic" label="Topic" placeholder="news" value={topic} isRequired />
        <Field name="data" label="Message, as JSON" lines={6} placeholder={'{ "title": "We have moved" }'} />
      </>
    }
    act={async (entered) => {
      const topic = readRequiredEntry(entered, "topic", "the topic")
      await ask(publish, { body: { topic, data: readJsonEntry(entered, "data", "The message") ?? {} } })
      refreshAll()
      return `The message is published on ${topic}.`
    }}
  />
)

export const Topics = () => {
  const groups = useLive(
    "groups",
    async (signal) => (await ask(listConsumerGroups, { body: { limit: 1000 }, signal })).groups
  )
  const topics = useLive("topics", async (signal) => (await ask(listTopics, { body: {}, signal })).topics)
  return (
    <>
      <div class="title">
        <h1>Topics and groups</h1>
        <div class="actions">
          <Publish />
        </div>
      </div>
      <section>
        <h2>Consumer groups</h2>
        <Listing
          label="Consumer groups"
          name="group"
          live={groups}
          keyOf={({ id }) => id}
          textOf={({ name, namespace, pattern, status }) => `${name} ${namespace} ${pattern} ${status}`}
          columns={groupColumns}
          empty={
            <Empty command={command("subscribe 'events:order.*' --group order-processors")}>
              There are no consumer groups: a group is created when its first member subscribes.
            </Empty>
          }
        />
      </section>
      <section>
        <h2>Topics</h2>
        <Listing
          label="Topics"
          name="topic"
          live={topics}
          keyOf={({ name }) => name}
          textOf={({ name }) => name}
          columns={topicColumns}
          empty={
            <Empty command={command(`publish news '{"title":"We have moved"}'`)}>
              There are no topics: a topic is listed from its first message on.
            </Empty>
          }
        />
      </section>
    </>
  )
}

export const Topic = ({ variables: { name = "" } }: { readonly variables: Variables }) => {
  const { error, refresh, value } = useLive(`topic ${name}`, (signal) =>
    ask(getTopicStats, { body: { topic: name }, signal })
  )
  return (
    <>
      <div class="title">
        <h1>{name}</h1>
        <div class="actions">
          <Publish topic={name} />
        </div>
      </div>
      {error !== undefined && <Failure error={error} retry={refresh} />}
      {value === undefined ? (
        error === undefined && <Loading />
      ) : (
        <>
          <Facts
            facts={[
              ["Messages that are kept", count(value.messageCount)],
              ["Subscribers now", count(value.consumerCount)],
              ["Lag of the group furthest behind", count(value.lag)],
              ["Position of the oldest", value.firstSeq === 0 ? "–" : count(value.firstSeq)],
              ["Position of the newest", value.lastSeq === 0 ? "–" : count(value.lastSeq)]
            ]}
          />
          <Empty command={command(`subscribe 'topic:${name}' --replay 10`)}>
            Subscribers get the messages. To see the last ten messages and the new ones:
          </Empty>
        </>
      )}
    </>
  )
}

export const Group = ({ variables: { name = "" } }: { readonly variables: Variables }) => {
  const { query } = place.value
  const groupKey = {
    name,
    ...Object.fromEntries([...query].filter(([key]) => key === "namespace" || key === "pattern"))
  }
  const key = JSON.stringify(groupKey)
  const {
    error,
    refresh,
    value: group
  } = useLive(`group ${key}`, (signal) => ask(getConsumerGroup, { body: groupKey, signal }))
  if (group === undefined)
    return (
      <>
        <h1>{name}</h1>
        {error === undefined ? <Loading /> : <Failure error={error} retry={refresh} />}
      </>
    )
  const { namespace, pattern } = group
  return (
    <>
      <div class="title">
        <h1>{name}</h1>
        <Status state={group.status} />
        <GroupActions group={group} />
      </div>
      {error !== undefined && <Failure error={error} retry={refresh} />}
      <p>{localizeTimes(group.message)}</p>
      <Facts
        facts={[
          ["Lag", count(group.lag)],
          ["In flight", count(group.inFlight)],
          ["Retrying", count(group.retrying)],
          ["Next try", group.nextRetryAt === undefined ? undefined : <Time at={group.nextRetryAt} />],
          ["Events given up", count(group.givenUp)],
          ["Position", count(group.position)],
          ["Pattern", group.pattern],
          ["Filter", group.filter === undefined ? undefined : <span class="mono">{group.filter}</span>],
          ["Namespace", namespace],
          ["Ack mode", group.ackMode],
          ["When members do not keep up", group.backpressure],
          ["Buffer", group.buffer.maxBytes === undefined ? undefined : bytes(group.buffer.maxBytes)],
          ["In flight at most", count(group.maxInflight)],
          ["Redelivered at most", count(group.maxRedeliveries)],
          ["Created", <Time at={group.createdAt} />],
          ["Last used", <Time at={group.usedAt} />],
          [
            "Deleted if nobody joins",
            group.expiresAt === undefined ? undefined : <Time at={group.expiresAt} />
          ]
        ]}
      />
      <section>
        <h2>Members</h2>
        {group.members.length === 0 ? (
          <p class="quiet">No member is connected.</p>
        ) : (
          <Table
            label="Members"
            items={group.members}
            keyOf={({ id }) => id}
            columns={[
              { title: "Member", width: "", cell: ({ id }) => <span class="mono">{id}</span> },
              { title: "In flight", width: "", cell: ({ inFlight }) => count(inFlight) },
              {
                title: "Keeps up",
                width: "",
                cell: ({ isSlow }) =>
                  isSlow ? <Status state="waiting">no</Status> : <Status state="ok">yes</Status>
              },
              { title: "Joined", width: "", isExtra: true, cell: ({ joinedAt }) => <Time at={joinedAt} /> }
            ]}
          />
        )}
      </section>
      <GroupDeadLetters name={name} namespace={namespace} pattern={pattern} total={group.deadLetters} />
      {group.metadata !== undefined && (
        <section>
          <h2>Metadata</h2>
          <Value value={group.metadata} name="Metadata of the group" />
        </section>
      )}
    </>
  )
}

const GroupActions = ({ group: { name, namespace, pattern, status } }: { readonly group: ConsumerGroup }) => {
  const group = { name, namespace, pattern }
  return (
    <div class="actions">
      {status === "paused" ? (
        <Action
          label="Resume"
          act={async () => {
            await ask(updateConsumerGroup, { body: { group: { ...group, status: "active" } } })
            refreshAll()
            return `The group ${name} continues where it was.`
          }}
        />
      ) : (
        <Action
          label="Pause"
          confirm="The group delivers nothing until it is resumed. Members may still ack the events that they hold."
          fields={<Field name="reason" label="Why" placeholder="the printer is broken" />}
          act={async (entered) => {
            const reason = readEntry(entered, "reason")
            await ask(updateConsumerGroup, {
              body: {
                group: { ...group, status: "paused" },
                by: currentUserName(),
                ...(reason === undefined ? {} : { reason })
              }
            })
            refreshAll()
            return `The group ${name} is paused.`
          }}
        />
      )}
      <Action
        label="Delete"
        isDangerous
        confirm="The group is deleted with all its deliveries. A new group of the same name begins at the end of the log."
        act={async () => {
          await ask(deleteConsumerGroup, { body: group })
          refreshAll()
          go(hrefOf("topics"))
          return `The group ${name} is deleted.`
        }}
      />
    </div>
  )
}

const GroupDeadLetters = ({
  total,
  name,
  namespace,
  pattern
}: {
  readonly name: string
  readonly namespace: string
  readonly pattern: string
  readonly total: number
}) => {
  const target = { variables: { name }, query: { namespace, pattern } }
  const letters = useLive(`dead letters of ${namespace} ${name} ${pattern} ${total}`, async (signal) => {
    const page = await ask(groupDeadLetters, { ...target, query: { ...target.query, limit: 100 }, signal })
    return page.deadLetters.map(({ attempts, event, failedAt, position, reason }) => ({
      position,
      attempts,
      failedAt,
      eventId: event.id,
      eventName: event.name,
      why: reason ?? "the member gave no reason",
      isRetrying: false
    }))
  })
  const retry = async (position?: number): Promise<number> => {
    const body = position === undefined ? {} : { position }
    return (await ask(retryGroupDeadLetters, { ...target, body })).retrying
  }
  return <DeadLetters letters={letters} total={total} retry={retry} />
}
