/** What an endpoint is, and its path. */

/**
 * How a call spells its errors. `connect`: `{code, message}` with the codes of ConnectRPC; zero values are left out of
 * answers. `rest`: `{error, message, code}` with our codes.
 */
export type Dialect = "connect" | "rest"

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE"

export interface Endpoint {
  readonly method: Method
  /** With `:name` for what varies, `:name*` at the end for all that is left, slashes included. */
  readonly path: string
  readonly dialect: Dialect
  /** Answered with the envelopes of ConnectRPC, one for each message; so are errors, with status 200. */
  readonly streams?: true
}

const SERVICES = "/ironflow.v1."

/** The path of a call of ConnectRPC, as `IronflowService/GetRun`. */
/* @__NO_SIDE_EFFECTS__ */
export function servicePath(line: string): string {
  return SERVICES + line
}

/** How the call at a path spells its errors, also where there is none. */
export const dialectOf = (path: string): Dialect => (path.startsWith(SERVICES) ? "connect" : "rest")

/** The header that names the environment of a call; `default` without it. */
export const ENVIRONMENT_HEADER = "x-ironflow-environment"

/** The path with its variables filled in. */
export const pathOf = (
  endpoint: Pick<Endpoint, "path">,
  variables: { readonly [name: string]: string } = {}
): string =>
  endpoint.path.replace(/:(\w+)(\*?)/g, (_, name: string, rest: string) =>
    rest === "" ? encodeURIComponent(variables[name] ?? "") : encodeRest(variables[name] ?? "")
  )

/**
 * What a path may hold stays as it is, which every server understands, but for segments that would be lost on the way:
 * empty ones and those of dots.
 */
const encodeRest = (text: string): string =>
  encodeURIComponent(text)
    .replace(/%(?:3A|40|24|26|2B|2C|3B|3D)/g, decodeURIComponent)
    .replaceAll(
      "%2F",
      text.split("/").some((segment) => segment === "" || segment === "." || segment === "..") ? "%2F" : "/"
    )
