/**
 * One row says all there is to say of an endpoint: how it is called, who may, what it takes, what it answers and how it fails. The
 * server's route, the client's request, the check of what comes in, the OpenAPI document and the table of calls in the docs are
 * made of it. What it is for is the comment above it, which those two quote: at run time nobody asks.
 */
import type { IronflowError } from "../Errors.ts"
import type { Action, ResourceKind } from "../Policy.ts"
import type { Codec } from "./Codec.ts"
import { type Endpoint, type Method, servicePath } from "./Http/Endpoints.ts"

/** Which resource a call is about. */
export type Subject =
  /** Everything of the kind: `run:*`. */
  | { readonly from: "all"; readonly kind: ResourceKind }
  /** A list of them: it leaves out those that may not be seen. */
  | { readonly from: "each"; readonly kind: ResourceKind }
  /** Named by a variable of the path. */
  | { readonly from: "path"; readonly kind: ResourceKind; readonly variable: string }
  /**
   * Named by a member of the body in any of these spellings; `each` names the list whose items have it, `in` the member that
   * has it.
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
  readonly subject: Subject
  /** The answer may take its time: it ends with the key. */
  readonly waits?: true
}

/** Anybody may ask for what is public, key or not; with `key` whoever has one, since all that follows is asked about by itself. */
export type Access = "public" | "key" | Rule

// functions: bundlers forget of constants that calling them does nothing, and would keep every row

/* @__NO_SIDE_EFFECTS__ */
export function all(action: Action, kind: ResourceKind): Rule {
  return { action, subject: { from: "all", kind } }
}
/* @__NO_SIDE_EFFECTS__ */
export function each(action: Action, kind: ResourceKind): Rule {
  return { action, subject: { from: "each", kind } }
}
/** The rule of a call that may take its time. */
/* @__NO_SIDE_EFFECTS__ */
export function waiting(rule: Rule): Rule {
  return { ...rule, waits: true }
}
/* @__NO_SIDE_EFFECTS__ */
export function inPath(action: Action, kind: ResourceKind, variable: string): Rule {
  return { action, subject: { from: "path", kind, variable } }
}
/* @__NO_SIDE_EFFECTS__ */
export function inBody(action: Action, kind: ResourceKind, ...members: ReadonlyArray<string>): Rule {
  return { action, subject: { from: "body", kind, members } }
}

type ErrorClass = abstract new (...args: never) => IronflowError
type Errors = { readonly [status: number]: ErrorClass }

/** An action that is done to what it is named after. */
type Own = Extract<Action, `${ResourceKind}:${string}`>

/** What a client knows of an endpoint. `A` is what is answered. */
export interface Operation<A = unknown, M extends IronflowError = IronflowError> extends Endpoint {
  /** Absent where nothing is answered, with 204. Of streams, and of watches over WebSockets, it is each message. */
  readonly answer?: Codec<A>
  /** Whether the query may have `limit` and `cursor`: then items come in pages, as the member of this name. */
  readonly page?: string
  /** Of the servers only the engine of this package has it. */
  readonly ours?: true
  /** What 404 says of what is named by the path, or by the body of a call of ConnectRPC. */
  readonly missing?: new (id: string) => M
  /** Whether making the call again does no harm; as it does none for what is asked for with GET, when this says nothing. */
  readonly repeats?: boolean
}

/** What only servers and documents have to know besides. `B` is what is asked with, `E` are the errors that this call fails with. */
interface Served<B, E> {
  /** A denial of this is respected besides, by whatever the answer shows or the call does of the kind. */
  readonly respects?: { readonly action: Action; readonly kind: ResourceKind }
  /** Members of the query, all of them texts that may be absent. */
  readonly query?: ReadonlyArray<string>
  /** Headers that change what the call does. */
  readonly headers?: ReadonlyArray<string>
  readonly body?: Codec<B>
  /** Of the answer, where it is not JSON. */
  readonly type?: string
  /** Where it is not 200, or 204 without an answer. */
  readonly status?: 201
  /** It is answered with 204 as well, when there is nothing to say yet. */
  readonly mayBeNothing?: true
  /** Workers call it: the body may be as large as reports are, and sealed. */
  readonly fromWorker?: true
  /** What it fails with besides what any call may fail with, by status. */
  readonly errors?: { readonly [status: number]: abstract new (...args: never) => E }
}

export interface Row<A = unknown, B = unknown, E extends IronflowError = IronflowError>
  extends Operation<A, E>, Served<B, E> {
  /** What its key needs ({@link accessTo}): an action, or a rule where the resource is not told by the path. */
  readonly may: Own | Access
}

type More<A, M extends IronflowError> = Omit<Operation<A, M>, Exclude<keyof Endpoint, "streams">>
/** The method and the path, as `GET /api/v1/orgs/:id`; of ConnectRPC service and method, as `IronflowService/GetRun`. */
type Line = `${Method} /${string}` | `${string}Service/${string}`

type Failure<E> = {
  [Status in keyof E]: E[Status] extends (abstract new (
    ...args: never
  ) => infer Instance extends IronflowError)
    ? Instance
    : never
}[keyof E]

/** The half of a row that clients have as well: bundles of theirs have nothing of the row itself. */
/* @__NO_SIDE_EFFECTS__ */
export function operation<A = undefined, M extends IronflowError = never>(
  line: Line,
  more?: More<A, M>
): Operation<A, M> {
  const [method, path] = line.split(" ")
  return path === undefined
    ? { method: "POST", path: servicePath(line), dialect: "connect", ...more }
    : // the line is written so
      { method: method as Method, path, dialect: "rest", ...more }
}

/** `of` is an operation, or the method and the path of one that no client of ours makes. */
/* @__NO_SIDE_EFFECTS__ */
export function row<
  A = undefined,
  B = undefined,
  M extends IronflowError = never,
  const E extends Errors = Record<never, never>
>(
  of: Line | Operation<A, M>,
  may: Own | Access,
  more?: More<A, M> & Omit<Served<B, never>, "errors"> & { readonly errors?: E }
): Row<A, B, M | Failure<E>> {
  // the type of the errors is made of them
  return { ...(typeof of === "string" ? operation(of) : of), may, ...more } as never
}

/**
 * The rule of a row. Where it names an action alone, the resource is the one of the path's first variable; without a variable those on
 * the list, or all of them.
 */
export const accessTo = ({ may, page, path }: Row): Access => {
  if (may === "public" || may === "key" || typeof may === "object") return may
  const kind = may.slice(0, may.indexOf(":")) as ResourceKind // `Own` says so
  const variable = /:(\w+)/.exec(path)?.[1]
  if (variable !== undefined) return inPath(may, kind, variable)
  return page === undefined ? all(may, kind) : each(may, kind)
}

/** With which status a call succeeds. */
export const statusOf = ({ answer, status }: Row): number => status ?? (answer === undefined ? 204 : 200)

/** The statuses of its failures, besides those of any call. */
export const failuresOf = ({ errors = {}, missing }: Row): ReadonlyArray<number> => [
  ...new Set([...(missing === undefined ? [] : [404]), ...Object.keys(errors).map(Number)])
]

export const isRepeatable = ({ method, repeats = method === "GET" }: Operation): boolean => repeats
