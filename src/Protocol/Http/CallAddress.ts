/** The address of a call: its method, its path, and how errors are encoded there. */

/**
 * How a call encodes errors. `connect`: `{code, message}` with ConnectRPC codes (and answers leave out empty lists, and
 * numbers that are 0). `rest`: `{error, message, code}` with the codes of Ironflow.
 */
export type Dialect = "connect" | "rest"

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE"

export interface CallAddress {
  readonly method: Method
  /** Path with `:name` for variables, and `:name*` at the end for the rest, including slashes. */
  readonly path: string
  readonly dialect: Dialect
  /** Whether the answer is a stream of ConnectRPC envelopes, one for each message. Errors are envelopes too, with status 200. */
  readonly streams?: true
}

const SERVICES = "/ironflow.v1."

/** The path of a ConnectRPC call. `serviceAndMethod` names the call, such as `IronflowService/GetRun`. */
/* @__NO_SIDE_EFFECTS__ */
export function servicePath(serviceAndMethod: string): string {
  return SERVICES + serviceAndMethod
}

/** How errors are encoded at a path, even if no call has this path. */
export const dialectOf = (path: string): Dialect => (path.startsWith(SERVICES) ? "connect" : "rest")

/** The header with the environment of a call; `default` without it. */
export const ENVIRONMENT_HEADER = "x-ironflow-environment"

/** The path with its variables filled in. */
export const pathOf = (
  address: Pick<CallAddress, "path">,
  variables: { readonly [name: string]: string } = {}
): string =>
  address.path.replace(/:(\w+)(\*?)/g, (_, name: string, rest: string) =>
    rest === "" ? encodeURIComponent(variables[name] ?? "") : encodeRest(variables[name] ?? "")
  )

/**
 * Encodes the rest of a path. Characters that are valid in a path stay as they are, which every server understands.
 * Slashes stay too. But if a segment is empty, `.` or `..`, all slashes are encoded, since such a segment would be
 * lost.
 */
const encodeRest = (text: string): string =>
  encodeURIComponent(text)
    .replace(/%(?:3A|40|24|26|2B|2C|3B|3D)/g, decodeURIComponent)
    .replaceAll(
      "%2F",
      text.split("/").some((segment) => segment === "" || segment === "." || segment === "..") ? "%2F" : "/"
    )
