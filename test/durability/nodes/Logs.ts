/** What engines may say while everything around them fails. */

/** A password that stands in every URL of the database, and in no line of any log. */
export const SECRET = "kept-from-logs"

/** Where a line of an error is in which function: of use for a bug, and for nothing else. */
const FRAME = /\n?\s+at (?:async )?\S+ ?\(?(?:file|node):/

/** How often an engine may say the same in one storm: once when something begins, and once when it is over. */
const MOST_OF_ONE = 60

interface LogLine {
  readonly level?: string
  readonly message?: string
}

/** Without what differs from time to time. */
const gist = (message: string): string => message.replaceAll(/[\w-]*\d[\w.:-]*/g, "#").slice(0, 80)

export const complaintsAboutLog = (by: string, log: string): ReadonlyArray<string> => {
  const complaints: Array<string> = []
  const counts = new Map<string, number>()
  for (const text of log.split("\n")) {
    if (text === "") continue
    let line: LogLine
    try {
      line = JSON.parse(text) as LogLine
    } catch {
      complaints.push(`${by} has logged what is no JSON: ${text.slice(0, 300)}`)
      continue
    }
    if (text.includes(SECRET)) complaints.push(`${by} has logged the password: ${text.slice(0, 300)}`)
    if (FRAME.test(JSON.stringify(line).replaceAll("\\n", "\n"))) {
      complaints.push(`${by} has logged a stack: ${text.slice(0, 600)}`)
    }
    const what = `${line.level} ${gist(String(line.message))}`
    counts.set(what, (counts.get(what) ?? 0) + 1)
  }
  for (const [what, count] of counts) {
    if (count > MOST_OF_ONE) complaints.push(`${by} has said ${count} times: ${what}`)
  }
  return complaints
}
