/**
 * Makes the route of a call. The spec of the call says who may make it, how its body is read, and how its
 * result is encoded.
 */
import * as Effect from "effect/Effect"
import type { IronflowError } from "../../Errors.ts"
import type { Codec } from "../../Protocol/Codec.ts"
import { decoder, encoder } from "../../Protocol/ServerCodec.ts"
import { accessTo, isCacheable, type CallSpec, statusOf } from "../../Protocol/CallSpec.ts"
import type { Page, PageQuery } from "../../Engine/Pages.ts"
import { type ItemOf, listReply, pagedReply, type Paging } from "../Http/PagedReply.ts"
import { checkBodySpelling, checkQuerySpelling } from "./RequestSpelling.ts"
import { type Call, json, noContent, type Reply, type Route } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"

type Options = Partial<Pick<Route, "bodyForm" | "isPage">>

/**
 * The route of a call whose function makes the whole `Reply`: status, headers and body. The other
 * functions in this file use this one.
 */
export const replyRoute = (
  spec: CallSpec,
  reply: (call: Call) => Effect.Effect<Reply, IronflowError>,
  { bodyForm = "json", ...more }: Options = {}
): Route => ({
  address: spec,
  access: accessTo(spec),
  fromWorker: spec.fromWorker === true,
  isCacheable: isCacheable(spec),
  bodyForm,
  answer:
    spec.query === undefined && spec.page === undefined
      ? reply
      : (call) =>
          Effect.andThen(
            checked(() => checkQuerySpelling(spec, call.query)),
            Effect.suspend(() => reply(call))
          ),
  ...more
})

/**
 * The route of a call whose function returns the result. The result is encoded by the codec of the spec, and
 * sent with the status of the spec; a call without a result replies without a body.
 */
export const answerRoute = <A>(
  spec: CallSpec<A>,
  handle: (call: Call) => Effect.Effect<A, IronflowError>,
  options?: Options
): Route => {
  const { answer } = spec
  const status = statusOf(spec)
  if (answer === undefined) return replyRoute(spec, (call) => Effect.as(handle(call), noContent), options)
  const encode = encoder(answer)
  return replyRoute(spec, (call) => Effect.map(handle(call), (value) => json(encode(value), status)), options)
}

/**
 * Like {@link answerRoute}, for a call with a body: the function gets the body, decoded by the codec of the
 * spec. `what` names the body in errors.
 */
export const bodyRoute = <A, B>(
  spec: CallSpec<A, B>,
  what: string,
  handle: (body: B, call: Call) => Effect.Effect<A, IronflowError>
): Route => answerRoute(spec, withBody(spec, what, handle))

/**
 * Makes the function of a route from `handle`, which takes the decoded body of the call. The function fails with
 * `ValidationError` when the body is invalid, or has an unknown member that resembles a known one.
 */
export const withBody = <A, B>(
  spec: CallSpec<unknown, B>,
  what: string,
  handle: (body: B, call: Call) => Effect.Effect<A, IronflowError>
): ((call: Call) => Effect.Effect<A, IronflowError>) => {
  const read = decoder<B>(spec.body as Codec<B>, what)
  return (call) =>
    Effect.flatMap(
      checked(() => {
        const body = read(call.body)
        checkBodySpelling(spec, call.body, what)
        return body
      }),
      (body) => handle(body, call)
    )
}

/**
 * The route of a list that the function reads page by page: a request gets one page, or all items. The
 * function must leave out items that the caller may not see.
 */
export const pageRoute = <A>(
  spec: CallSpec<A>,
  read: (call: Call, page: PageQuery) => Effect.Effect<Page<ItemOf<A>>, IronflowError>,
  options: (call: Call) => Paging = () => ({})
): Route => {
  const reply = pagedReply(spec)
  return replyRoute(spec, (call) => reply(call.query, (page) => read(call, page), options(call)))
}

/**
 * The route of a list that the function returns as a whole, from memory. A request gets one page or all
 * items. The function must leave out items that the caller may not see.
 */
export const listRoute = <A>(
  spec: CallSpec<A>,
  handle: (call: Call) => Effect.Effect<ReadonlyArray<ItemOf<A> & { readonly id: string }>, IronflowError>
): Route => {
  const reply = listReply(spec)
  return replyRoute(spec, (call) => Effect.flatMap(handle(call), (items) => reply(call.query, items)))
}
