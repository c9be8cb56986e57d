/** The events of an environment, newest first, in pages. */
import * as Effect from "effect/Effect"
import { type IronflowError, ValidationError } from "../../Errors.ts"
import { checkPattern } from "../../Pattern.ts"
import { mayHaveEvent, mayHaveStream } from "../Access/WorkerAccess.ts"
import type { EngineService } from "../Engine.ts"
import { readPageQuery } from "../Pages.ts"
import { gathered, onePage } from "../Polite.ts"
import type { LogEntry, LogPage } from "../Store/Store.ts"
import { type Call, checked, type Reply } from "./Route.ts"

const DEFAULT_LIMIT = 100
const MAX_LIMIT = 1000
/** Rows of the log that are read in one turn of the event loop, and such turns for one page. */
const SLICE = 500
const SLICES = 20
/** Characters of data on a page, unless one event alone has more. */
const PAGE_LENGTH = 16 * 1024 * 1024

/**
 * Where few events fit, a page may hold fewer than its limit and still have a cursor to go on with: a page does not take longer
 * for what it leaves out.
 */
export const listEvents = (engine: EngineService, call: Call): Effect.Effect<Reply, IronflowError> =>
  Effect.gen(function* () {
    const { before, limit, name } = yield* checked(() => readQuery(call.query))
    const { caller, environment } = call
    const fits = ({ entity, name }: LogEntry): boolean =>
      call.shows(`events:${name}`) &&
      mayHaveEvent(caller, environment, name, entity) &&
      (entity === undefined || mayHaveStream(caller, environment, entity.id))
    return yield* gathered((most) => gather(most))

    /** `undefined` when more than so many slices are needed. */
    function gather(most: number): Effect.Effect<Reply | undefined, IronflowError> {
      return Effect.gen(function* () {
        const events: Array<string> = []
        let length = 0
        let position = before
        let atEnd = false
        for (let slice = 0; slice < SLICES && !atEnd && events.length < limit; slice++) {
          if (slice === most) return undefined
          const page: LogPage = yield* onePage(
            engine.readLogBack({
              environment,
              kind: "event",
              before: position,
              limit: SLICE,
              ...(name === undefined ? {} : { patterns: [name] })
            })
          )
          atEnd = page.atEnd
          position = page.position
          for (const entry of page.entries) {
            if (!fits(entry)) continue
            const isFull = events.length === limit || (length + entry.data.length > PAGE_LENGTH && length > 0)
            if (isFull) return reply(events, entry.position + 1)
            events.push(encode(entry))
            length += entry.data.length
          }
        }
        return reply(events, atEnd ? undefined : position)
      })
    }
  })

const readQuery = (query: URLSearchParams) => {
  const { after, limit } = readPageQuery(query, MAX_LIMIT) ?? { after: "", limit: DEFAULT_LIMIT }
  const name = query.get("name") || undefined
  if (after !== "" && !/^\d{1,15}$/.test(after)) {
    throw new ValidationError("The cursor must be the `nextCursor` of an earlier page")
  }
  return {
    limit,
    before: after === "" ? Number.MAX_SAFE_INTEGER : Number(after),
    name: name === undefined ? undefined : checkPattern(name, "name of the events")
  }
}

/** The data goes out as the text that it is stored as. */
const encode = ({
  data,
  entity,
  id,
  metadata,
  name,
  position,
  source,
  timestamp,
  version
}: LogEntry): string =>
  `{"id":${JSON.stringify(id)},"name":${JSON.stringify(name)},"version":${version},"data":${data},` +
  `"timestamp":"${new Date(timestamp).toISOString()}","sequence":"${position}"` +
  (source === undefined ? "" : `,"source":${JSON.stringify(source)}`) +
  (metadata === undefined ? "" : `,"metadata":${metadata}`) +
  (entity === undefined ? "}" : `,"entity":${JSON.stringify(entity)}}`)

const reply = (events: ReadonlyArray<string>, cursor: number | undefined): Reply => ({
  status: 200,
  text: `{"events":[${events.join(",")}]${cursor === undefined ? "" : `,"nextCursor":"${cursor}"`}}`
})
