/** Consumer groups of a server elsewhere, by the calls of `PubSubService` that every Ironflow server has. */
import * as Effect from "effect/Effect"
import {
  ConsumerGroupExistsError,
  ConsumerGroupNotFoundError,
  InvalidStateError,
  type IronflowError
} from "../Errors.ts"
import { encodeJson, isObject, numberOf } from "../Json.ts"
import { encodeMetadata } from "../Metadata.ts"
import { type Endpoint, endpoints } from "../Protocol/Http/Endpoints.ts"
import {
  ackModeWords,
  backpressureWords,
  decodeWord,
  encodeWord,
  statusWords
} from "../Protocol/Http/GroupJson.ts"
import type { EffectKind } from "./Client.ts"
import type {
  ConsumerGroup,
  ConsumerGroupConfig,
  ConsumerGroupDeadLetter,
  ConsumerGroupMember,
  ConsumerGroupOptions,
  ConsumerGroupsApi,
  ConsumerGroupUpdate
} from "./ConsumerGroups.ts"
import { defined, each, field, filled, list, number, text } from "./HttpAnswers.ts"
import { show } from "../Show.ts"
import { type Call, checked, done, makeCalls, quote } from "./HttpCalls.ts"
import type { Raw } from "./Named.ts"
import type { Connection } from "./HttpConnection.ts"

/** Groups that are asked for at once; the server may send fewer. */
const PAGE = 100

/** The methods over a connection. */
export const make = (connection: Connection): Raw<ConsumerGroupsApi<EffectKind>> => {
  const { call, withoutEndpoint } = makeCalls(connection)

  const ask = <A>(
    endpoint: Endpoint,
    what: string,
    request: object,
    more: Pick<Call<A>, "read"> & Partial<Call<A>>
  ): Effect.Effect<A, IronflowError> =>
    Effect.flatMap(
      checked(() => encodeJson(request, `request of ${what}`)),
      (body) => call<A>({ endpoint, what, repeatable: false, body: body ?? "{}", ...more })
    )

  const about = (method: string, name: string, options: ConsumerGroupOptions | undefined) => ({
    what: `consumerGroups.${method}(${quote(name)})`,
    choice: defined({ name, namespace: options?.namespace, pattern: options?.pattern }),
    notFound: () => new ConsumerGroupNotFoundError(name, options?.namespace ?? "default", options?.pattern)
  })

  const change = (
    method: string,
    name: string,
    options: ConsumerGroupOptions | undefined,
    group: { readonly [field: string]: unknown },
    more: object = {}
  ) => {
    const { choice, notFound, what } = about(method, name, options)
    return ask(
      endpoints.updateConsumerGroup,
      what,
      {
        group: { ...choice, ...group },
        updateMask: Object.keys(group).join(),
        ...more
      },
      { notFound, read: readGroup }
    )
  }

  const readOn = (cursor: string, { name, namespace, status }: Parameters<typeof api.list>[0] & object) =>
    ask(
      endpoints.listConsumerGroups,
      "consumerGroups.list()",
      defined({
        name,
        namespace,
        status: status === undefined ? undefined : encodeWord(statusWords, String(status)),
        limit: PAGE,
        cursor: cursor === "" ? undefined : cursor
      }),
      {
        repeatable: true,
        read: (answer) =>
          isObject(answer)
            ? {
                // other servers do not know what to do with a name
                groups: each(list(answer, "groups"), readGroup).filter(
                  (group) => name === undefined || group.name === name
                ),
                next: filled(answer, "nextCursor")
              }
            : undefined
      }
    )

  const letters = (method: string, name: string, options: ConsumerGroupOptions | undefined) => {
    const { notFound, what } = about(method, name, options)
    const which = defined({ namespace: options?.namespace, pattern: options?.pattern })
    return { what, notFound, query: `?${new URLSearchParams(which as Record<string, string>)}` }
  }

  const retry = (
    method: string,
    name: string,
    options: ConsumerGroupOptions | undefined,
    body: { readonly position?: number }
  ) => {
    const { notFound, query, what } = letters(method, name, options)
    return call<number>({
      endpoint: endpoints.retryGroupDeadLetters,
      what,
      variables: { name },
      query,
      body: JSON.stringify(body),
      repeatable: false,
      ours: true,
      orElse: withoutEndpoint(what, "It keeps nothing of what its groups have given up"),
      notFound,
      read: (answer) => (isObject(answer) ? numberOf(answer.retrying) : undefined)
    })
  }

  const api: Raw<ConsumerGroupsApi<EffectKind>> = {
    create: (config) =>
      Effect.flatMap(
        checked(() => fieldsOf(config ?? {})),
        (fields) =>
          ask(
            endpoints.createConsumerGroup,
            `consumerGroups.create(${quote(config?.name)})`,
            {
              ...fields,
              ...defined({ name: config?.name, pattern: config?.pattern, namespace: config?.namespace })
            },
            {
              conflict: () =>
                new ConsumerGroupExistsError(config.name, config.namespace ?? "default", config.pattern),
              read: readGroup
            }
          )
      ),
    get: (name, options) => {
      const { choice, notFound, what } = about("get", name, options)
      return ask(endpoints.getConsumerGroup, what, choice, { repeatable: true, notFound, read: readGroup })
    },
    list: (options = {}) =>
      Effect.gen(function* () {
        const all: Array<ConsumerGroup> = []
        let cursor = ""
        while (true) {
          const { groups, next } = yield* readOn(cursor, options)
          all.push(...groups)
          // a server that repeats itself would never come to an end
          if (next === undefined || next === cursor) return all
          cursor = next
        }
      }),
    update: (name, settings, options) =>
      Effect.flatMap(
        checked(() => fieldsOf(settings)),
        (fields) => change("update", name, options, fields)
      ),
    pause: (name, options = {}) =>
      change(
        "pause",
        name,
        options,
        { status: encodeWord(statusWords, "paused") },
        defined({ by: options.by, reason: options.reason })
      ),
    resume: (name, options) => change("resume", name, options, { status: encodeWord(statusWords, "active") }),
    deadLetters: (name, options = {}) => {
      const { after = 0, limit = 100 } = options
      const { notFound, query, what } = letters("deadLetters", name, options)
      return call<Array<ConsumerGroupDeadLetter>>({
        endpoint: endpoints.groupDeadLetters,
        what,
        variables: { name },
        query: `${query}&after=${after}&limit=${limit}`,
        repeatable: true,
        ours: true,
        orElse: withoutEndpoint(what, "It keeps nothing of what its groups have given up"),
        notFound,
        read: (answer) =>
          isObject(answer) && Array.isArray(answer.dead_letters)
            ? // only our engine has them, and it sends them as they are
              (answer.dead_letters as Array<ConsumerGroupDeadLetter>)
            : undefined
      })
    },
    retryDeadLetter: (name, position, options) =>
      Number.isSafeInteger(position)
        ? Effect.asVoid(retry("retryDeadLetter", name, options, { position }))
        : Effect.fail(
            new InvalidStateError(
              `Consumer group ${quote(name)} has no dead letter at position ${show(position)}`
            )
          ),
    retryDeadLetters: (name, options) => retry("retryDeadLetters", name, options, {}),
    delete: (name, options) => {
      const { choice, notFound, what } = about("delete", name, options)
      return Effect.asVoid(ask(endpoints.deleteConsumerGroup, what, choice, { notFound, read: () => done }))
    }
  }
  return api
}

/** The settings, whose metadata is checked, under their names in `PubSubService`. What is `null` is named in the mask and has no value. */
const fieldsOf = (settings: ConsumerGroupConfig | ConsumerGroupUpdate | object) => {
  const { ackMode, backpressure, filter, ...rest } = settings as ConsumerGroupUpdate
  const { buffer, maxInflight, maxRedeliveries, metadata, redeliverDelayMs } = rest
  encodeMetadata("The metadata of a consumer group", metadata ?? undefined)
  return defined({
    filterExpr: filter,
    ackMode: ackMode == null ? ackMode : encodeWord(ackModeWords, String(ackMode)),
    backpressure: backpressure == null ? backpressure : encodeWord(backpressureWords, String(backpressure)),
    buffer,
    maxInflight,
    maxRedeliveries,
    redeliverDelayMs,
    metadata
  })
}

const readGroup = (answer: unknown): ConsumerGroup | undefined => {
  if (!isObject(answer)) return undefined
  const name = text(answer, "name")
  if (name === undefined) return undefined
  const isPaused = decodeWord(statusWords, field(answer, "status")) === "paused"
  const buffer = field(answer, "buffer")
  const metadata = field(answer, "metadata")
  const backpressure = decodeWord(backpressureWords, field(answer, "backpressure"))
  const createdAt = text(answer, "createdAt") ?? ""
  return {
    id: text(answer, "id") ?? "",
    namespace: filled(answer, "namespace") ?? "default",
    name,
    pattern: text(answer, "pattern") ?? "",
    status: isPaused ? "paused" : "active",
    message: filled(answer, "message") ?? `${name} is ${isPaused ? "paused" : "active"}`,
    position: number(answer, "position"),
    lag: number(answer, "lag"),
    inFlight: number(answer, "inFlight"),
    retrying: number(answer, "retrying"),
    givenUp: number(answer, "givenUp"),
    deadLetters: number(answer, "deadLetters"),
    memberCount: number(answer, "memberCount"),
    members: each(list(answer, "members"), readMember),
    ackMode: readAckMode(answer),
    backpressure: backpressure === "drop" || backpressure === "block" ? backpressure : "buffer",
    buffer: isObject(buffer) && typeof buffer.maxBytes === "number" ? { maxBytes: buffer.maxBytes } : {},
    maxInflight: number(answer, "maxInflight"),
    maxRedeliveries: number(answer, "maxRedeliveries"),
    redeliverDelayMs: number(answer, "redeliverDelayMs"),
    createdAt,
    updatedAt: text(answer, "updatedAt") ?? createdAt,
    usedAt: text(answer, "usedAt") ?? createdAt,
    ...defined({
      filter: filled(answer, "filterExpr"),
      nextRetryAt: filled(answer, "nextRetryAt"),
      metadata: isObject(metadata) ? metadata : undefined,
      pausedBy: filled(answer, "pausedBy"),
      pausedAt: filled(answer, "pausedAt"),
      pauseReason: filled(answer, "pauseReason"),
      expiresAt: filled(answer, "expiresAt")
    })
  }
}

const readAckMode = (of: { readonly [name: string]: unknown }) =>
  decodeWord(ackModeWords, field(of, "ackMode")) === "manual" ? "manual" : "auto"

const readMember = (member: unknown): ConsumerGroupMember | undefined =>
  isObject(member)
    ? {
        id: text(member, "id") ?? "",
        ackMode: readAckMode(member),
        inFlight: number(member, "inFlight"),
        isSlow: field(member, "isSlow") === true,
        joinedAt: text(member, "joinedAt") ?? ""
      }
    : undefined
