/**
 * Consumer groups over HTTP. Most calls are those of `PubSubService`, which every Ironflow server has. Only our
 * engine has the calls about dead letters.
 */
import * as Effect from "effect/Effect"
import {
  ConsumerGroupExistsError,
  ConsumerGroupNotFoundError,
  InvalidStateError,
  type IronflowError
} from "../Errors.ts"
import { encodeJson } from "../Json.ts"
import { encodeMetadata } from "../Metadata.ts"
import { reader, encodeWord } from "../Protocol/Codec.ts"
import * as operations from "../Protocol/ConsumerGroups.ts"
import { AckModeWord, BackpressureWord, ConnectGroup, StatusWord } from "../Protocol/ConsumerGroups.ts"
import type { Operation } from "../Protocol/CallSpec.ts"
import { show } from "../Show.ts"
import type { EffectKind } from "./Client.ts"
import type {
  ConsumerGroup,
  ConsumerGroupConfig,
  ConsumerGroupOptions,
  ConsumerGroupsApi,
  ConsumerGroupUpdate,
  ListConsumerGroupsOptions
} from "./ConsumerGroups.ts"
import { defined } from "./HttpAnswers.ts"
import { ignoredAnswer, makeCalls, quote } from "./HttpCalls.ts"
import { validated } from "../CheckAsEffect.ts"
import type { Connection } from "./HttpConnection.ts"
import type { Raw } from "./NarrowErrors.ts"
import { makeOperationCalls } from "./OperationCalls.ts"

/** Groups per page; the server may send fewer. */
const PAGE_SIZE = 100

/** Makes the methods, over a connection. */
export const make = (connection: Connection): Raw<ConsumerGroupsApi<EffectKind>> => {
  const { failUnsupported } = makeCalls(connection)
  const { ask } = makeOperationCalls(connection)

  /** Makes a request about one group. */
  const askAboutGroup = <A, B = A>(
    operation: Operation<A>,
    method: string,
    name: string,
    body: object,
    input: Parameters<typeof ask<A, B>>[2] = {},
    read?: (answer: unknown) => B | undefined
  ): Effect.Effect<B, IronflowError> =>
    Effect.flatMap(
      validated(() => encodeJson(body, `request of consumerGroups.${method}(${quote(name)})`)),
      (body = "{}") =>
        ask<A, B>(operation, `consumerGroups.${method}`, { subject: name, body, ...input }, read)
    )

  /** The fields of a request that identify the group. */
  const identityOf = (name: string, options: ConsumerGroupOptions | undefined) =>
    defined({ name, namespace: options?.namespace, pattern: options?.pattern })

  const notFoundError = (name: string, options: ConsumerGroupOptions | undefined) => ({
    notFound: () => new ConsumerGroupNotFoundError(name, options?.namespace ?? "default", options?.pattern)
  })

  const change = (
    method: string,
    name: string,
    options: ConsumerGroupOptions | undefined,
    group: { readonly [field: string]: unknown },
    more: object = {}
  ) =>
    askAboutGroup(
      operations.updateConsumerGroup,
      method,
      name,
      { group: { ...identityOf(name, options), ...group }, updateMask: Object.keys(group).join(), ...more },
      notFoundError(name, options),
      readGroup
    )

  const readPage = (cursor: string, { name, namespace, status }: ListConsumerGroupsOptions) =>
    ask(operations.listConsumerGroups, "consumerGroups.list", {
      body: defined({
        name,
        namespace,
        status: status === undefined ? undefined : encodeWord(StatusWord, status),
        limit: PAGE_SIZE,
        cursor: cursor === "" ? undefined : cursor
      })
    })

  /** The input of requests about dead letters, which only our engine has. */
  const deadLettersInput = (method: string, name: string, options: ConsumerGroupOptions | undefined) => ({
    variables: { name },
    query: `?${new URLSearchParams(defined({ namespace: options?.namespace, pattern: options?.pattern }) as Record<string, string>)}`,
    whenUnsupported: failUnsupported(
      `consumerGroups.${method}(${quote(name)})`,
      "That server keeps no dead letters"
    ),
    ...notFoundError(name, options)
  })

  const retry = (
    method: string,
    name: string,
    options: ConsumerGroupOptions | undefined,
    body: { readonly position?: number }
  ) =>
    Effect.map(
      ask(operations.retryGroupDeadLetters, `consumerGroups.${method}`, {
        ...deadLettersInput(method, name, options),
        body
      }),
      ({ retrying }) => retrying
    )

  return {
    create: (config) =>
      Effect.flatMap(
        validated(() => fieldsOf(config ?? {})),
        (fields) =>
          askAboutGroup(
            operations.createConsumerGroup,
            "create",
            config?.name,
            {
              ...fields,
              ...defined({ name: config?.name, pattern: config?.pattern, namespace: config?.namespace })
            },
            {
              conflict: () =>
                new ConsumerGroupExistsError(config.name, config.namespace ?? "default", config.pattern)
            },
            readGroup
          )
      ),
    get: (name, options) =>
      askAboutGroup(
        operations.getConsumerGroup,
        "get",
        name,
        identityOf(name, options),
        notFoundError(name, options),
        readGroup
      ),
    list: (options = {}) =>
      Effect.gen(function* () {
        const all: Array<ConsumerGroup> = []
        let cursor = ""
        while (true) {
          const { groups, nextCursor } = yield* readPage(cursor, options)
          for (const group of groups) {
            // legacy servers ignore the name filter
            if (options.name === undefined || group.name === options.name) all.push(withDefaults(group))
          }
          // a cursor that comes again would make this loop forever
          if (nextCursor === undefined || nextCursor === cursor) return all
          cursor = nextCursor
        }
      }),
    update: (name, settings, options) =>
      Effect.flatMap(
        validated(() => fieldsOf(settings ?? {})),
        (fields) => change("update", name, options, fields)
      ),
    pause: (name, options = {}) =>
      change(
        "pause",
        name,
        options,
        { status: encodeWord(StatusWord, "paused") },
        defined({ by: options.by, reason: options.reason })
      ),
    resume: (name, options) => change("resume", name, options, { status: encodeWord(StatusWord, "active") }),
    deadLetters: (name, options = {}) => {
      const { after = 0, limit = 100 } = options
      const input = deadLettersInput("deadLetters", name, options)
      return Effect.map(
        ask(operations.groupDeadLetters, "consumerGroups.deadLetters", {
          ...input,
          query: `${input.query}&after=${after}&limit=${limit}`
        }),
        ({ deadLetters }) => deadLetters
      )
    },
    retryDeadLetter: (name, position, options) =>
      Number.isSafeInteger(position)
        ? Effect.asVoid(retry("retryDeadLetter", name, options, { position }))
        : Effect.fail(
            new InvalidStateError(
              `Consumer group ${quote(name)} has no dead letter at position ${show(position)}: deadLetters() lists the existing ones`
            )
          ),
    retryDeadLetters: (name, options) => retry("retryDeadLetters", name, options, {}),
    delete: (name, options) =>
      Effect.asVoid(
        askAboutGroup(
          operations.deleteConsumerGroup,
          "delete",
          name,
          identityOf(name, options),
          notFoundError(name, options),
          () => ignoredAnswer
        )
      )
  }
}

/**
 * Returns the settings under their names in `PubSubService`, and checks the metadata. A setting that is `null`
 * stays in the result: the `updateMask` of the request then names the setting, and the server resets it.
 */
const fieldsOf = (settings: ConsumerGroupConfig | ConsumerGroupUpdate | object) => {
  const { ackMode, backpressure, filter, ...rest } = settings as ConsumerGroupUpdate
  const { buffer, maxInflight, maxRedeliveries, metadata, redeliverDelayMs } = rest
  encodeMetadata("The metadata of a consumer group", metadata ?? undefined)
  return defined({
    filterExpr: filter,
    ackMode: ackMode == null ? ackMode : encodeWord(AckModeWord, ackMode),
    backpressure: backpressure == null ? backpressure : encodeWord(BackpressureWord, backpressure),
    buffer,
    maxInflight,
    maxRedeliveries,
    redeliverDelayMs,
    metadata
  })
}

const readConnectGroup = reader(ConnectGroup)

const readGroup = (answer: unknown): ConsumerGroup | undefined => {
  const group = readConnectGroup(answer)
  return group === undefined ? undefined : withDefaults(group)
}

/** Fills in the members that legacy servers leave out. */
const withDefaults = (group: ConsumerGroup): ConsumerGroup => ({
  ...group,
  message: group.message || `${group.name} is ${group.status}`,
  updatedAt: group.updatedAt || group.createdAt,
  usedAt: group.usedAt || group.createdAt
})
