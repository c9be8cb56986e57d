/**
 * Makes the route of an endpoint. The spec of the endpoint says who may call it, how its body is read, and
 * how its result is encoded.
 */
import * as Effect from "effect/Effect"
import type { IronflowError } from "../../Errors.ts"
import type { Codec } from "../../Protocol/Codec.ts"
import { decoder, encoder } from "../../Protocol/ServerCodec.ts"
import { accessTo, isCacheable, type EndpointSpec, statusOf } from "../../Protocol/EndpointSpec.ts"
import type { Page, PageQuery } from "../../Engine/Pages.ts"
import { type ItemOf, listReply, pagedReply, type Paging } from "../Http/PagedReply.ts"
import { checkBodySpelling, checkQuerySpelling } from "./RequestSpelling.ts"
import { type Call, json, noContent, type Reply, type Route } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"

type Options = Partial<Pick<Route, "reads" | "isPage">>

/**
 * The route of an endpoint whose function makes the whole `Reply`: status, headers and body. The other
 * functions here are made of this one.
 */
export const replying = (
  endpoint: EndpointSpec,
  reply: (call: Call) => Effect.Effect<Reply, IronflowError>,
  { reads = "json", ...more }: Options = {}
): Route => ({
  endpoint,
  access: accessTo(endpoint),
  fromWorker: endpoint.fromWorker === true,
  isCacheable: isCacheable(endpoint),
  reads,
  answer:
    endpoint.query === undefined && endpoint.page === undefined
      ? reply
      : (call) =>
          Effect.andThen(
            checked(() => checkQuerySpelling(endpoint, call.query)),
            Effect.suspend(() => reply(call))
          ),
  ...more
})

/**
 * The route of an endpoint whose function returns the result. The result is encoded by the codec of the
 * endpoint, and sent with its status; an endpoint without a result replies without a body.
 */
export const answering = <A>(
  endpoint: EndpointSpec<A>,
  ask: (call: Call) => Effect.Effect<A, IronflowError>,
  options?: Options
): Route => {
  const { answer } = endpoint
  const status = statusOf(endpoint)
  if (answer === undefined) return replying(endpoint, (call) => Effect.as(ask(call), noContent), options)
  const encode = encoder(answer)
  return replying(endpoint, (call) => Effect.map(ask(call), (value) => json(encode(value), status)), options)
}

/**
 * Like {@link answering}, for a call with a body: the function gets the body, decoded by the codec of the
 * endpoint. `what` names the body in errors.
 */
export const reading = <A, B>(
  endpoint: EndpointSpec<A, B>,
  what: string,
  ask: (body: B, call: Call) => Effect.Effect<A, IronflowError>
): Route => answering(endpoint, withBody(endpoint, what, ask))

/**
 * Makes the function for {@link answering} of one that takes the decoded body. Fails with `ValidationError`
 * when the body is invalid, or has a member that resembles a known one.
 */
export const withBody = <A, B>(
  endpoint: EndpointSpec<unknown, B>,
  what: string,
  then: (body: B, call: Call) => Effect.Effect<A, IronflowError>
): ((call: Call) => Effect.Effect<A, IronflowError>) => {
  const read = decoder<B>(endpoint.body as Codec<B>, what)
  return (call) =>
    Effect.flatMap(
      checked(() => {
        const body = read(call.body)
        checkBodySpelling(endpoint, call.body, what)
        return body
      }),
      (body) => then(body, call)
    )
}

/**
 * The route of a list that the function reads page by page: a request gets one page, or all of them. The
 * function must leave out items that the caller may not see.
 */
export const paging = <A>(
  endpoint: EndpointSpec<A>,
  read: (call: Call, page: PageQuery) => Effect.Effect<Page<ItemOf<A>>, IronflowError>,
  options: (call: Call) => Paging = () => ({})
): Route => {
  const reply = pagedReply(endpoint)
  return replying(endpoint, (call) => reply(call.query, (page) => read(call, page), options(call)))
}

/**
 * The route of a list that the function returns as a whole, from memory. A request gets one page or all
 * items. The function must leave out items that the caller may not see.
 */
export const listing = <A>(
  endpoint: EndpointSpec<A>,
  ask: (call: Call) => Effect.Effect<ReadonlyArray<ItemOf<A> & { readonly id: string }>, IronflowError>
): Route => {
  const reply = listReply(endpoint)
  return replying(endpoint, (call) => Effect.flatMap(ask(call), (items) => reply(call.query, items)))
}
