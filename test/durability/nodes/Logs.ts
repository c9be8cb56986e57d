/** What engines may log while everything around them fails. */

/** A password that every URL of the database has, and that no log may have. */
export const SECRET = "kept-from-logs"

/** A frame of a stack trace, which is useful for a bug only. */
const FRAME = /\n?\s+at (?:async )?\S+ ?\(?(?:file|node):/

/**
 * How often an engine may log the same in one storm: it should log once when a problem begins, and once when it ends.
 */
const MOST_OF_ONE = 60

interface LogLine {
  readonly level?: string
  readonly message?: string
}

/** The message without numbers and ids, which differ each time. */
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
      // a command that cannot start, because Postgres is down at that moment, says so on its last line
      if (text.startsWith("Error: Cannot use Postgres")) continue
      complaints.push(`${by} has logged a line that is not JSON: ${text.slice(0, 300)}`)
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
    if (count > MOST_OF_ONE) complaints.push(`${by} has logged ${count} times: ${what}`)
  }
  return complaints
}
