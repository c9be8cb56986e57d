/** Makes the calls that the `Operation`s of the protocol describe, and reads their answers. */
import * as Effect from "effect/Effect"
import { type IronflowError, ValidationError } from "../Errors.ts"
import { isObject } from "../Json.ts"
import { type Codec, json, reader } from "../Protocol/Codec.ts"
import { isRepeatable, type Operation } from "../Protocol/CallSpec.ts"
import { type Call, type Calls, ignoredAnswer, makeCalls, quote } from "./HttpCalls.ts"
import { validated } from "../CheckAsEffect.ts"
import type { Connection } from "./HttpConnection.ts"
import { callPages } from "./HttpPages.ts"

/** The input of a call, and what to do about a server whose answers differ from those that the operation describes. */
export interface Input<B> extends Partial<Omit<Call<B>, "address" | "body" | "read">> {
  /** JSON, bytes, or an object to encode as JSON. */
  readonly body?: object | string | Uint8Array
  /** The name or id of what the call is about, for messages. By default the first variable of the path. */
  readonly subject?: unknown
  /** Members of the request that the answer should repeat: they are filled in for servers that leave them out. */
  readonly requestMembers?: object
}

type Paged = Omit<Input<never>, "query"> & { readonly query?: { readonly [name: string]: string } }

export interface OperationCalls {
  /** Makes a call. `what` is the method as the user wrote it, such as `roles.get`. */
  readonly ask: <A, B = A>(
    operation: Operation<A>,
    what: string,
    input?: Input<NoInfer<B>>,
    read?: (answer: unknown) => B | undefined
  ) => Effect.Effect<B, IronflowError>
  /** Does what `listItems` does, for an operation that declares where its answer has the items. */
  readonly list: <A>(
    operation: Operation<Array<A>>,
    what: string,
    query?: { readonly [name: string]: string | undefined }
  ) => Effect.Effect<Array<A>, IronflowError>
  /** Requests a list page by page. `items` extracts the items of a page. */
  readonly listInPages: <A, Page>(
    operation: Operation<Page>,
    what: string,
    input: Paged,
    items: (page: Page) => Array<A>
  ) => Effect.Effect<Array<A>, IronflowError>
  /**
   * Requests a list in one request, which every server supports. If the list is too large for one answer of our engine,
   * requests it page by page. `items` extracts the items of an answer.
   */
  readonly listItems: <A, Page>(
    operation: Operation<Page>,
    what: string,
    items: (page: Page) => Array<A>
  ) => Effect.Effect<Array<A>, IronflowError>
  readonly failUnsupported: Calls["failUnsupported"]
}

/** Makes the calls, over a connection. */
export const makeOperationCalls = (connection: Connection): OperationCalls => {
  const calls = makeCalls(connection)

  /** The call, without the function that reads its answer. */
  const toCall = <A>(
    operation: Operation,
    what: string,
    { subject: namedSubject, body, requestMembers: _, variables = {}, ...more }: Omit<Input<A>, "query">
  ) =>
    validated(() => {
      const texts = Object.values(variables)
      for (const text of texts) checkVariable(what, text)
      const subject = namedSubject ?? texts[0]
      const { notFoundError } = operation
      return {
        address: operation,
        variables,
        ...(body === undefined
          ? {}
          : { body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body) }),
        what: `${what}(${subject === undefined ? "" : quote(subject)})`,
        repeatable: isRepeatable(operation),
        ...(operation.onlyOurEngine === undefined ? {} : { onlyOurEngine: true }),
        ...(notFoundError === undefined || subject === undefined
          ? {}
          : { notFound: () => new notFoundError(String(subject)) }),
        ...more
      }
    })

  const ask: OperationCalls["ask"] = <A, B>(
    operation: Operation<A>,
    what: string,
    input: Input<B> = {},
    read?: (answer: unknown) => B | undefined
  ) =>
    Effect.flatMap(toCall<B>(operation, what, input), (call) => {
      const { answer } = operation
      // an operation without an answer has `undefined` as `B`
      if (answer === undefined && read === undefined) {
        return Effect.as(calls.call<unknown>({ ...call, read: () => ignoredAnswer }), undefined as B)
      }
      // without `read`, `B` is the type of the operation's answer
      const readAnswer = read ?? (reader(answer ?? json) as unknown as (answer: unknown) => B)
      const { requestMembers } = input
      return calls.call<B>({
        ...call,
        read:
          requestMembers === undefined
            ? readAnswer
            : (answer) => readAnswer(isObject(answer) ? { ...requestMembers, ...answer } : answer)
      })
    })

  const listInPages: OperationCalls["listInPages"] = <A, Page>(
    operation: Operation<Page>,
    what: string,
    { query, ...input }: Paged,
    items: (page: Page) => Array<A>
  ) =>
    Effect.flatMap(toCall(operation, what, input), (call) => {
      const read = reader<Page>(operation.answer ?? (json as Codec<Page>))
      return callPages<A>(calls, {
        ...call,
        ...(query === undefined ? {} : { query }),
        read: (answer) => {
          const page = read(answer)
          return page === undefined ? undefined : items(page)
        }
      })
    })

  return {
    failUnsupported: calls.failUnsupported,
    ask,
    listInPages,
    listItems: (operation, what, items) =>
      Effect.catch(Effect.map(ask(operation, what), items), (error) =>
        error.code === "LIMIT_EXCEEDED" ? listInPages(operation, what, {}, items) : Effect.fail(error)
      ),
    list: <A>(
      operation: Operation<Array<A>>,
      what: string,
      query: { readonly [name: string]: string | undefined } = {}
    ) =>
      Effect.flatMap(
        validated(() => {
          const search = new URLSearchParams()
          for (const [name, text] of Object.entries(query)) {
            if (text !== undefined) search.set(name, checkVariable(what, text))
          }
          return search
        }),
        (search) => {
          const read = reader<Array<A>>(operation.answer ?? { kind: "list", item: { kind: "json" } })
          const call: Omit<Call<Array<A>>, "whenUnsupported" | "query"> = {
            address: operation,
            what: `${what}()`,
            repeatable: isRepeatable(operation),
            // the answer is the whole list as an array, or an object in which one member is a page of the list
            read: (answer) => read(isObject(answer) ? answer[operation.page ?? ""] : answer)
          }
          return Effect.catchIf(
            calls.call({ ...call, query: search.size === 0 ? "" : `?${search}` }),
            // the list is too large for one answer: it is read page by page, in the order of ids
            ({ code }) => code === "LIMIT_EXCEEDED",
            () => callPages<A>(calls, { ...call, query: Object.fromEntries(search) })
          )
        }
      )
  }
}

/** Checks that an argument is an object, since it is to be sent as the body. */
export const bodyOf = (what: string, input: unknown): Effect.Effect<object, ValidationError> =>
  validated(() => {
    if (isObject(input)) return input
    throw new ValidationError(`${what}() must be given an object, got ${quote(input)}`)
  })

/** Checks a variable of the path. If the variable were empty, `.` or `..`, the path would be the path of another call. */
export const checkVariable = (what: string, text: unknown): string => {
  const isDots = text === "." || text === ".."
  if (typeof text === "string" && text !== "" && !isDots) return text
  throw new ValidationError(
    `${what}() must be given a non-empty string${isDots ? ' other than "." and ".."' : ""}, got ${quote(text)}`
  )
}
