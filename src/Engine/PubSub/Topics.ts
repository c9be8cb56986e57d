/** Topics in the engine's process: publishes to them and lists them. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ClientApi, EffectKind, PublishOptions, PublishResult, TopicInfo } from "../../Client/Client.ts"
import { validated } from "../../CheckAsEffect.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import type { EngineError, StoreError } from "../../Errors.ts"
import { inSpan } from "../../OpenTelemetry.ts"
import * as Limits from "../../Limits.ts"
import { allPages, inSlices, LIST_PAGE, type Page, type PageQuery, pageByName } from "../Pages.ts"
import { encodeJson } from "../../Json.ts"
import * as Publish from "./Publish.ts"
import { yieldFirst } from "../Yielding.ts"
import { Store, type StoreService } from "../Store/Store.ts"
import { Subscriptions } from "./Subscriptions.ts"
import * as TopicRows from "./TopicRows.ts"

/** How many topics are handled before other work may run. Each of them is compared with all subscriptions. */
const TOPICS_PER_SLICE = 100

export interface TopicsService {
  /** The topics of one environment. */
  readonly in: (
    environment: string
  ) => Pick<Raw<ClientApi<EffectKind>, EngineError>, "publish" | "listTopics" | "getTopicStats">
  /** A page of topics. */
  readonly page: (environment: string, page: PageQuery) => Effect.Effect<Page<TopicInfo>, StoreError>
}

export class Topics extends Context.Service<Topics, TopicsService>()("@ironflow/node/Engine/Topics") {}

export const layer: Layer.Layer<Topics, never, Store | Subscriptions> = Layer.effect(
  Topics,
  Effect.gen(function* () {
    const store = yield* Store
    const subscriptions = yield* Subscriptions

    const topicsPage: TopicsService["page"] = (environment, query) =>
      inSlices(TOPICS_PER_SLICE, (page) =>
        Effect.map(store.read(TopicRows.listTopics(environment, page)), (topics) =>
          pageByName(
            topics.map(({ firstMessageAt, lastMessageAt, messageCount, name }) => ({
              name,
              messageCount,
              consumerCount: subscriptions.consumersOf(environment, name),
              ...(firstMessageAt === undefined
                ? {}
                : { firstMessageAt: new Date(firstMessageAt).toISOString() }),
              ...(lastMessageAt === undefined ? {} : { lastMessageAt: new Date(lastMessageAt).toISOString() })
            })),
            page
          )
        )
      )(query)

    return {
      page: topicsPage,
      in: (environment) => ({
        publish: (topic, data, options) => publish(store, environment, topic, data, options),
        listTopics: () => allPages((after) => topicsPage(environment, { after, limit: LIST_PAGE })),
        getTopicStats: (topic) =>
          Effect.flatMap(
            validated(() => Limits.checkName("topic", topic)),
            (name) =>
              Effect.map(yieldFirst(TopicRows.getTopic(store, environment, name)), (state) => ({
                name,
                consumerCount: subscriptions.consumersOf(environment, name),
                ...state
              }))
          )
      })
    }
  })
)

const publish = (
  store: StoreService,
  environment: string,
  topic: string,
  data: unknown,
  options: PublishOptions = {}
): Effect.Effect<PublishResult, EngineError> =>
  Effect.flatMap(
    validated(() => ({
      environment,
      topic: Limits.checkName("topic", topic),
      data: Limits.checkSize(
        `Message for topic "${topic}"`,
        encodeJson(data, `message for topic "${topic}"`) ?? "{}",
        Limits.messageBytes
      ),
      ...(options.idempotencyKey === undefined
        ? {}
        : { idempotencyKey: Limits.checkIdempotencyKey(options.idempotencyKey) })
    })),
    (message) =>
      Effect.flatMap(
        inSpan(`publish ${topic}`, (trace) => store.write(Publish.appendMessage({ ...message, ...trace }))),
        ({ eventId, sequence, conflicting }) =>
          Effect.as(
            conflicting
              ? Effect.logWarning(
                  `Idempotency key "${options.idempotencyKey}" was used before with other data for topic "${topic}": nothing was stored, and the message of the first use, ${eventId}, is returned`
                )
              : Effect.void,
            { eventId, sequence }
          )
      )
  )
