/**
 * A legacy client as the wire sees it: plain `fetch`, bodies as text. It shares no code with the package, so that a mistake on
 * both sides of the package cannot hide itself.
 */
export interface Answer {
  readonly status: number
  readonly type: string | null
  readonly text: string
  // oxlint-disable-next-line typescript/no-explicit-any -- the tests check what the engine answers
  readonly body: any
}

export const send = async (
  url: string,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = { "content-type": "application/json" }
): Promise<Answer> => {
  const response = await fetch(url + path, {
    method,
    headers,
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) })
  })
  const text = await response.text()
  const type = response.headers.get("content-type")
  return {
    status: response.status,
    type,
    text,
    body: type?.startsWith("application/json") === true ? JSON.parse(text) : undefined
  }
}

/** A call of `IronflowService`, or of another service. */
export const rpc = (url: string, method: string, body: unknown = {}, service = "IronflowService") =>
  send(url, "POST", `/ironflow.v1.${service}/${method}`, body)

/** Replaces ids and times by values that are the same in every run: `run_1`, `evt_1`, `<time>`. The rest is unchanged. */
export const normalize = (value: unknown): unknown => {
  const names = new Map<string, string>()
  const counts = new Map<string, number>()
  const nameOf = (id: string, kind: string): string => {
    const known = names.get(id)
    if (known !== undefined) return known
    const count = (counts.get(kind) ?? 0) + 1
    counts.set(kind, count)
    names.set(id, `${kind}_${count}`)
    return `${kind}_${count}`
  }
  const visit = (item: unknown): unknown => {
    if (typeof item === "string") {
      if (/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(item)) return "<time>"
      return item.replace(/\b(run|evt|msg|job)_[0-9a-z]{25}\b/g, nameOf)
    }
    if (Array.isArray(item)) return item.map(visit)
    if (item === null || typeof item !== "object") return item
    return Object.fromEntries(Object.entries(item).map(([key, member]) => [key, visit(member)]))
  }
  return visit(value)
}
