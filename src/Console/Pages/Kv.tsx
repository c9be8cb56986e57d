/**
 * Keys: the values in buckets, and their revisions. A change is refused if the key no longer has the revision that was
 * shown. Only a deletion together with the revisions is always made.
 */
import {
  bucketBody,
  createBucket,
  deleteBucket,
  deleteKey,
  getBucket,
  getKey,
  keyHistory,
  type KVBucketInfo,
  listBuckets,
  listKeys,
  type StoredEntry,
  writeKeys
} from "../../Protocol/Kv.ts"
import { ask, CallError } from "../Parts/Calls.ts"
import { Action, bytes, count, Empty, Failure, Link, Loading, Status, Value } from "../Parts/Elements.tsx"
import { Choice, readEntry, Field, readRequiredEntry, KeepInitial } from "../Parts/Fields.tsx"
import { usePagedList } from "../Parts/PagedList.ts"
import { refreshAll, useLive } from "../Parts/Live.ts"
import { go, hrefOf, place, setQuery, type Variables } from "../Parts/Router.ts"
import { Truncated, Facts, Listing, oneLine, pathTo, Table } from "../Parts/Rows.tsx"
import { command } from "../Parts/ShellCommand.ts"
import { duration, Time } from "../Parts/Time.tsx"
import { type Column, VirtualList } from "../Parts/VirtualList.tsx"

const bucketColumns: ReadonlyArray<Column<KVBucketInfo>> = [
  {
    title: "Bucket",
    width: "minmax(7rem, 1.5fr)",
    cell: ({ name }) => <Link to={pathTo("keys", name)}>{name}</Link>
  },
  { title: "Keys", width: "5rem", cell: ({ values }) => <span class="number">{count(values)}</span> },
  { title: "Size", width: "5rem", cell: (bucket) => <span class="number">{bytes(bucket.bytes)}</span> },
  {
    title: "Revisions kept",
    width: "7rem",
    isExtra: true,
    cell: ({ history }) => <span class="number">{count(history)}</span>
  },
  {
    title: "Keys expire after",
    width: "7rem",
    isExtra: true,
    cell: ({ ttl_seconds }) => (ttl_seconds === undefined ? "–" : duration(ttl_seconds * 1000))
  },
  {
    title: "Description",
    width: "minmax(6rem, 2fr)",
    isExtra: true,
    cell: ({ description = "" }) => <Truncated>{description}</Truncated>
  }
]

const HISTORY_LABEL = "Revisions that are kept of each key"
const TTL_LABEL = "Seconds after which a key expires"

const wholeNumber = (entered: FormData, name: string, label: string): number | undefined => {
  const text = readEntry(entered, name)
  if (text === undefined) return undefined
  if (!/^\d{1,12}$/.test(text)) {
    throw new CallError(
      `${label} must be an integer, at least 0, with at most 12 digits, got "${text}".`,
      400,
      ""
    )
  }
  return Number(text)
}

export const Buckets = () => (
  <>
    <div class="title">
      <h1>Keys</h1>
      <div class="actions">
        <Action
          label="Create a bucket"
          confirm="A bucket holds keys. Its settings cannot be changed later."
          fields={
            <>
              <Field name="name" label="Name" placeholder="sessions" isRequired />
              <Field name="description" label="Description" />
              <Field name="history" label={HISTORY_LABEL} value="1" />
              <Field name="ttl" label={TTL_LABEL} placeholder="never" />
            </>
          }
          act={async (entered) => {
            const name = readRequiredEntry(entered, "name", "the name of the bucket")
            const description = readEntry(entered, "description")
            const history = wholeNumber(entered, "history", HISTORY_LABEL)
            const ttlSeconds = wholeNumber(entered, "ttl", TTL_LABEL)
            await ask(createBucket, {
              body: bucketBody({
                name,
                ...(description === undefined ? {} : { description }),
                ...(history === undefined ? {} : { history }),
                ...(ttlSeconds === undefined ? {} : { ttlSeconds })
              })
            })
            refreshAll()
            return `The bucket ${name} is created.`
          }}
        />
      </div>
    </div>
    <Listing
      label="Buckets"
      live={useLive("buckets", async (signal) => (await ask(listBuckets, { signal })).buckets)}
      keyOf={({ name }) => name}
      textOf={({ description = "", name }) => `${name} ${description}`}
      columns={bucketColumns}
      empty={
        <Empty command={command("kv create-bucket sessions")}>
          There are no buckets in this environment yet. To make one:
        </Empty>
      }
    />
  </>
)

export const Bucket = ({ variables: { bucket = "" } }: { readonly variables: Variables }) => {
  const filter = place.value.query.get("filter") ?? undefined
  const about = useLive(`bucket ${bucket}`, (signal) => ask(getBucket, { variables: { bucket }, signal }))
  const listKey = `keys of ${bucket} ${filter ?? ""}`
  const list = usePagedList(
    listKey,
    async (cursor, signal) => {
      const page = await ask(listKeys, {
        variables: { bucket },
        query: { filter, limit: 500, cursor },
        ...(signal === undefined ? {} : { signal })
      })
      return { items: page.keys, next: page.nextCursor }
    },
    (key: string) => key
  )
  const info = about.value
  return (
    <>
      <div class="title">
        <h1>{bucket}</h1>
        <div class="actions">
          <Action
            label="Put a key"
            confirm="The key is created. This fails if the key exists."
            fields={
              <>
                <Field name="key" label="Key" placeholder="users/42" isRequired />
                <ValueFields />
              </>
            }
            act={async (entered) => {
              const key = readRequiredEntry(entered, "key", "the key")
              await write(bucket, { op: "create", key, ...valueIn(entered) })
              go(hrefOf(pathTo("keys", bucket, key)))
              return `The key ${key} is created.`
            }}
          />
          <Action
            label="Delete the bucket"
            isDangerous
            confirm={`The bucket is deleted, with its ${info === undefined ? "keys and their" : info.values === 1 ? "1 key and its" : `${count(info.values)} keys and their`} revisions.`}
            act={async () => {
              await ask(deleteBucket, { variables: { bucket } })
              refreshAll()
              go(hrefOf("keys"))
              return `The bucket ${bucket} is deleted.`
            }}
          />
        </div>
      </div>
      {about.error !== undefined && <Failure error={about.error} retry={about.refresh} />}
      {info !== undefined && (
        <Facts
          facts={[
            ["Keys", count(info.values)],
            ["Size", bytes(info.bytes)],
            ["Size at most", info.max_bytes === undefined ? undefined : bytes(info.max_bytes)],
            ["One value at most", info.max_value_size === undefined ? undefined : bytes(info.max_value_size)],
            ["Revisions that are kept of each key", count(info.history)],
            [
              "Keys expire after",
              info.ttl_seconds === undefined ? undefined : duration(info.ttl_seconds * 1000)
            ],
            ["Created", <Time at={info.created_at} />],
            ["Description", info.description]
          ]}
        />
      )}
      <form class="filters" role="search" aria-label="Keys" onSubmit={(event) => event.preventDefault()}>
        <label>
          Keys that match
          <input
            type="search"
            placeholder="users/*"
            data-search=""
            value={filter ?? ""}
            onChange={(event) => setQuery({ filter: event.currentTarget.value.trim() })}
          />
        </label>
      </form>
      {list.error !== undefined && about.error === undefined && (
        <Failure error={list.error} retry={list.refresh} />
      )}
      {list.items === undefined ? (
        list.error === undefined && <Loading />
      ) : list.items.length === 0 ? (
        filter === undefined ? (
          <Empty command={command(`kv put ${bucket} users/42 '{"name":"Ada"}'`)}>
            The bucket is empty. To put a key:
          </Empty>
        ) : (
          <Empty>No key matches.</Empty>
        )
      ) : (
        <VirtualList
          key={listKey}
          label="Keys"
          items={list.items}
          keyOf={(key) => key}
          onEnd={list.more}
          onTop={list.setTop}
          columns={[
            {
              title: "Key",
              width: "1fr",
              cell: (key) => (
                <Link to={pathTo("keys", bucket, key)} class="mono">
                  {key}
                </Link>
              )
            }
          ]}
        />
      )}
    </>
  )
}

interface Change {
  readonly op: "create" | "update"
  readonly key: string
  readonly revision?: number
  readonly value: string
  readonly contentType: string
}

const write = async (bucket: string, change: Change): Promise<void> => {
  try {
    await ask(writeKeys, { variables: { bucket }, body: { writes: [change] } })
  } catch (cause) {
    if (!(cause instanceof CallError) || cause.status !== 412) throw cause
    throw new CallError(
      change.op === "create"
        ? `There is a key "${change.key}" already. Open it to change its value.`
        : "Somebody has changed the key since you opened this dialog. Copy what you have written, close the dialog, and look at the newest value.",
      412,
      cause.code
    )
  } finally {
    refreshAll()
  }
}

const ValueFields = ({ value = { type: "json", text: "" } }: { readonly value?: ShownValue }) => (
  <>
    <Choice
      name="type"
      label="Kind"
      value={value.type}
      choices={[
        ["json", "JSON"],
        ["text", "text"]
      ]}
    />
    <Field name="value" label="Value" lines={10} value={value.text} />
  </>
)

const valueIn = (entered: FormData): Pick<Change, "value" | "contentType"> => {
  const text = entered.get("value")
  const value = typeof text === "string" ? text.replaceAll("\r\n", "\n") : ""
  const isText = entered.get("type") === "text"
  if (!isText) {
    try {
      JSON.parse(value)
    } catch (cause) {
      throw new CallError(
        `The value is not JSON: ${cause instanceof Error ? cause.message : ""}. To store text, choose the kind "text".`,
        400,
        ""
      )
    }
  }
  return {
    value: base64Of(new TextEncoder().encode(value)),
    contentType: isText ? "text/plain; charset=utf-8" : "application/json"
  }
}

const base64Of = (input: Uint8Array): string => {
  let binary = ""
  for (const byte of input) binary += String.fromCharCode(byte)
  return btoa(binary)
}

/** A value that is shown. Values of the type `bytes` cannot be edited here. */
interface ShownValue {
  readonly type: "json" | "text" | "bytes"
  readonly text: string
  readonly json?: unknown
}

const shownValueOf = ({ contentType = "", value }: StoredEntry): ShownValue => {
  if (typeof value !== "string") return { type: "json", text: JSON.stringify(value, null, 2), json: value }
  const type = contentType.toLowerCase()
  let decoded: Uint8Array
  try {
    decoded = Uint8Array.from(atob(value), (character) => character.charCodeAt(0))
  } catch {
    return { type: "text", text: value }
  }
  if (type.includes("charset=binary")) return { type: "bytes", text: value }
  let text: string
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(decoded)
  } catch {
    return { type: "bytes", text: value }
  }
  if (type.startsWith("text/plain")) return { type: "text", text }
  try {
    const json: unknown = JSON.parse(text)
    return { type: "json", text: JSON.stringify(json, null, 2), json }
  } catch {
    return { type: "text", text }
  }
}

export const Key = ({ variables: { bucket = "", key = "" } }: { readonly variables: Variables }) => {
  const variables = { bucket, key }
  const live = useLive(`key ${bucket} ${key}`, (signal) => ask(getKey, { variables, signal }))
  const entry = live.error?.status === 404 ? undefined : live.value
  const value = entry === undefined ? undefined : shownValueOf(entry)
  return (
    <>
      <div class="title">
        <h1>{key}</h1>
        <div class="actions">
          {entry !== undefined && value !== undefined && value.type !== "bytes" && (
            <Action
              label="Edit"
              confirm="The value is replaced, unless somebody has changed it meanwhile."
              fields={
                <KeepInitial>
                  <input type="hidden" name="revision" defaultValue={String(entry.revision)} />
                  <ValueFields value={value} />
                </KeepInitial>
              }
              act={async (entered) => {
                const revision = Number(entered.get("revision"))
                await write(bucket, { op: "update", key, revision, ...valueIn(entered) })
                return `The key ${key} is changed.`
              }}
            />
          )}
          {entry !== undefined && (
            <Action
              label="Delete"
              isDangerous
              confirm="The key loses its value. Its earlier revisions stay for as long as the bucket keeps them."
              fields={
                <KeepInitial>
                  <input type="hidden" name="revision" defaultValue={String(entry.revision)} />
                  <label class="check">
                    <input type="checkbox" name="purge" /> Delete its revisions as well
                  </label>
                </KeepInitial>
              }
              act={async (entered) => {
                const deletesRevisions = entered.get("purge") === "on"
                await ask(deleteKey, {
                  variables,
                  ...(deletesRevisions
                    ? { query: { purge: "true" } }
                    : { headers: { "if-match": String(entered.get("revision")) } })
                })
                refreshAll()
                return `The key ${key} is deleted.`
              }}
            />
          )}
        </div>
      </div>
      {live.error !== undefined && <Failure error={live.error} retry={live.refresh} />}
      {entry === undefined || value === undefined ? (
        live.error === undefined && <Loading />
      ) : (
        <>
          <Facts
            facts={[
              [
                "Bucket",
                <Link to={pathTo("keys", bucket)} class="mono">
                  {bucket}
                </Link>
              ],
              ["Revision", count(entry.revision)],
              ["Written", <Time at={entry.created_at} />],
              ["Expires", entry.expires_at === undefined ? undefined : <Time at={entry.expires_at} />],
              ["Kind", value.type === "bytes" ? "bytes, shown as base64" : value.type]
            ]}
          />
          <Value value={value.type === "json" ? value.json : value.text} name="Value" />
        </>
      )}
      <History bucket={bucket} name={key} />
    </>
  )
}

const History = ({ bucket, name }: { readonly bucket: string; readonly name: string }) => {
  const { value } = useLive(`history ${bucket} ${name}`, async (signal) => {
    const { entries } = await ask(keyHistory, { variables: { bucket, key: name }, signal })
    return entries.map((entry) => ({ ...entry, value: oneLine(shownValueOf(entry).text) })).reverse()
  })
  if (value === undefined || value.length === 0) return null
  return (
    <section>
      <h2>Revisions that are kept, newest first</h2>
      <Table
        label="Revisions"
        items={value}
        keyOf={({ revision }) => String(revision)}
        columns={[
          { title: "Revision", width: "", cell: ({ revision }) => count(revision) },
          {
            title: "What",
            width: "",
            cell: ({ operation }) =>
              operation === "put" ? (
                <Status state="ok">put</Status>
              ) : (
                <Status state="cancelled">{operation}</Status>
              )
          },
          { title: "Value", width: "", cell: ({ value }) => <span class="mono quiet">{value}</span> },
          { title: "Written", width: "", isExtra: true, cell: ({ created_at }) => <Time at={created_at} /> }
        ]}
      />
    </section>
  )
}
