/**
 * A call spec describes a call of the API completely: its address, who may make it, its input, its answer and
 * its errors. The server's route, the client's request, the check of requests, the OpenAPI document and
 * the table of calls in `docs/calls.md` are derived from the spec. The comment above a spec says what the call
 * is for; the document and the table quote this comment.
 */
import type { IronflowError } from "../Errors.ts"
import type { Action, ResourceKind } from "../Policy.ts"
import type { Codec } from "./Codec.ts"
import { type CallAddress, type Method, servicePath } from "./Http/CallAddress.ts"

/** The resource on which a call acts, as policies name it: `<kind>:<name>`. */
export type Resource =
  /** All resources of the kind: `run:*`. */
  | { readonly from: "all"; readonly kind: ResourceKind }
  /** Each item in the answer, which is a list. Items that the caller may not see are left out. */
  | { readonly from: "each"; readonly kind: ResourceKind }
  /** The resource that a variable of the path names. */
  | { readonly from: "path"; readonly kind: ResourceKind; readonly variable: string }
  /**
   * The resource that a member of the body names; `members` are the spellings of this member's name. `each` is the name
   * of a list, each item of which has the member. `in` is the name of an object that has the member.
   */
  | {
      readonly from: "body"
      readonly kind: ResourceKind
      readonly members: ReadonlyArray<string>
      readonly each?: string
      readonly in?: string
    }

export interface Rule {
  readonly action: Action
  readonly resource: Resource
  /** Whether the answer may take long. The wait ends when the key stops working. */
  readonly mayWait?: true
}

/**
 * A `public` call needs no key, even if there are keys. With `key` any key is enough, since later requests
 * are authorized on their own.
 */
export type Access = "public" | "key" | Rule

// Declared with `function`: bundlers do not know that calls of a function in a constant have no side effects, and would
// keep every spec.

/* @__NO_SIDE_EFFECTS__ */
export function all(action: Action, kind: ResourceKind): Rule {
  return { action, resource: { from: "all", kind } }
}
/* @__NO_SIDE_EFFECTS__ */
export function each(action: Action, kind: ResourceKind): Rule {
  return { action, resource: { from: "each", kind } }
}
/** The rule of a call that may wait before it answers. */
/* @__NO_SIDE_EFFECTS__ */
export function waiting(rule: Rule): Rule {
  return { ...rule, mayWait: true }
}
/* @__NO_SIDE_EFFECTS__ */
export function inPath(action: Action, kind: ResourceKind, variable: string): Rule {
  return { action, resource: { from: "path", kind, variable } }
}
/* @__NO_SIDE_EFFECTS__ */
export function inBody(action: Action, kind: ResourceKind, ...members: ReadonlyArray<string>): Rule {
  return { action, resource: { from: "body", kind, members } }
}

type ErrorClass = abstract new (...args: never) => IronflowError
type Errors = { readonly [status: number]: ErrorClass }

/** The actions whose name begins with the kind of resource that they act on, such as `run:cancel`. */
type ActionOnKind = Extract<Action, `${ResourceKind}:${string}`>

/** The client's part of a spec. `A` is the type of the answer. */
export interface Operation<A = unknown, M extends IronflowError = IronflowError> extends CallAddress {
  /** The answer; absent for status 204. For a stream, or a watch over a WebSocket: one message. */
  readonly answer?: Codec<A>
  /** The member with the items of a page, if the query may have `limit` and `cursor`. */
  readonly page?: string
  /** Whether only the engine of this package has the call. */
  readonly onlyOurEngine?: true
  /** The error for a 404 about the resource in the path, or in the body of a ConnectRPC call. */
  readonly notFoundError?: new (id: string) => M
  /** Whether the call is safe to repeat. By default, GET requests are. */
  readonly repeats?: boolean
}

/** The server's part of a spec. `B` is the type of the request, and `E` the type of the errors of this call. */
interface Served<B, E> {
  /**
   * A second action, which the key need not be allowed. But if a policy denies it for a resource that the call shows or
   * affects, the call is denied for this resource.
   */
  readonly secondAction?: { readonly action: Action; readonly kind: ResourceKind }
  /** Query parameters, all optional strings. */
  readonly query?: ReadonlyArray<string>
  /** Headers that affect the call. */
  readonly headers?: ReadonlyArray<string>
  readonly body?: Codec<B>
  /** Content type of the answer, if it is not JSON. */
  readonly type?: string
  /** Status of success, if it is not the usual one: 200, or 204 for a call without an answer. */
  readonly status?: 201
  /** Whether the answer may also be 204, when there is nothing to return yet. */
  readonly mayBeNothing?: true
  /** Whether workers make the call. The body may then be as large as reports, and may be sealed. */
  readonly fromWorker?: true
  /** The errors of this call by status, besides those that every call may have. */
  readonly errors?: { readonly [status: number]: abstract new (...args: never) => E }
}

export interface CallSpec<A = unknown, B = unknown, E extends IronflowError = IronflowError>
  extends Operation<A, E>, Served<B, E> {
  /** The permission that the call needs ({@link accessTo}): an action, or a rule if the resource is not in the path. */
  readonly permission: ActionOnKind | Access
}

type More<A, M extends IronflowError> = Omit<Operation<A, M>, Exclude<keyof CallAddress, "streams">>
/**
 * Method and path, such as `GET /api/v1/orgs/:id`; for ConnectRPC, the service and its method, such as
 * `IronflowService/GetRun`.
 */
type Endpoint = `${Method} /${string}` | `${string}Service/${string}`

type Failure<E> = {
  [Status in keyof E]: E[Status] extends (abstract new (
    ...args: never
  ) => infer Instance extends IronflowError)
    ? Instance
    : never
}[keyof E]

/** The client's part of a spec, so that client bundles do not contain the rest. */
/* @__NO_SIDE_EFFECTS__ */
export function operation<A = undefined, M extends IronflowError = never>(
  endpoint: Endpoint,
  more?: More<A, M>
): Operation<A, M> {
  const [method, path] = endpoint.split(" ")
  return path === undefined
    ? { method: "POST", path: servicePath(endpoint), dialect: "connect", ...more }
    : // the type `Endpoint` guarantees the format
      { method: method as Method, path, dialect: "rest", ...more }
}

/** Makes the spec of a call. `call` is an operation, or only the endpoint if our clients do not make the call. */
/* @__NO_SIDE_EFFECTS__ */
export function callSpec<
  A = undefined,
  B = undefined,
  M extends IronflowError = never,
  const E extends Errors = Record<never, never>
>(
  call: Endpoint | Operation<A, M>,
  permission: ActionOnKind | Access,
  more?: More<A, M> & Omit<Served<B, never>, "errors"> & { readonly errors?: E }
): CallSpec<A, B, M | Failure<E>> {
  // the type of the errors is derived from the given errors
  return { ...(typeof call === "string" ? operation(call) : call), permission, ...more } as never
}

/**
 * The rule of a call. If `permission` only names an action, the first variable in the path names the resource. If the
 * path has no variable, the rule is for each item of the answer when the answer has pages, and otherwise for all
 * resources of the kind.
 */
export const accessTo = ({ permission, page, path }: CallSpec): Access => {
  if (permission === "public" || permission === "key" || typeof permission === "object") return permission
  // the type of `permission` guarantees this form
  const kind = permission.slice(0, permission.indexOf(":")) as ResourceKind
  const variable = /:(\w+)/.exec(path)?.[1]
  if (variable !== undefined) return inPath(permission, kind, variable)
  return page === undefined ? all(permission, kind) : each(permission, kind)
}

/** The status of a successful call. */
export const statusOf = ({ answer, status }: CallSpec): number => status ?? (answer === undefined ? 204 : 200)

/** The statuses of the errors of this call, without those that every call may have. */
export const failuresOf = ({ errors = {}, notFoundError }: CallSpec): ReadonlyArray<number> => [
  ...new Set([...(notFoundError === undefined ? [] : [404]), ...Object.keys(errors).map(Number)])
]

/**
 * Whether the call only reads, answers at once, and depends on nothing but its path, query and body. A POST
 * that only reads is a ConnectRPC call that may be repeated.
 */
export const isCacheable = (spec: CallSpec): boolean => {
  const access = accessTo(spec)
  return (
    typeof access === "object" &&
    access.action.endsWith(":read") &&
    access.mayWait !== true &&
    spec.headers === undefined &&
    isReadOnly(spec)
  )
}

/**
 * Whether the call only reads, as far as a client can tell. The rule of access, which {@link isCacheable} checks
 * too, is not known to clients.
 */
export const isReadOnly = (call: Operation): boolean =>
  call.method === "GET" || (call.dialect === "connect" && isRepeatable(call))

export const isRepeatable = ({ method, repeats = method === "GET" }: Operation): boolean => repeats
