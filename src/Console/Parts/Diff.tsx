/** Shows how two texts differ, line by line. */

/**
 * If more lines than this are between the common start and the common end of the texts, they are not compared:
 * that would take a browser too long.
 */
const MAX_LINES = 400

interface DiffLine {
  readonly sign: " " | "-" | "+"
  readonly text: string
}

/** The lines of both texts. Common lines appear once. */
const diffOf = (before: string, after: string): ReadonlyArray<DiffLine> => {
  const old = before.split("\n")
  const now = after.split("\n")
  let start = 0
  while (start < old.length && start < now.length && old[start] === now[start]) start++
  let end = 0
  while (
    end < old.length - start &&
    end < now.length - start &&
    old[old.length - 1 - end] === now[now.length - 1 - end]
  ) {
    end++
  }
  const unchanged = (lines: ReadonlyArray<string>): ReadonlyArray<DiffLine> =>
    lines.map((text) => ({ sign: " ", text }))
  return [
    ...unchanged(old.slice(0, start)),
    ...diffBetween(old.slice(start, old.length - end), now.slice(start, now.length - end)),
    ...unchanged(old.slice(old.length - end))
  ]
}

/** Compares the lines between the common start and the common end, by their longest common subsequence. */
const diffBetween = (old: ReadonlyArray<string>, now: ReadonlyArray<string>): ReadonlyArray<DiffLine> => {
  const lines: Array<DiffLine> = []
  if (old.length > MAX_LINES || now.length > MAX_LINES) {
    for (const text of old) lines.push({ sign: "-", text })
    for (const text of now) lines.push({ sign: "+", text })
    return lines
  }
  // `common[i][j]`: how many lines `old` from `i` on and `now` from `j` on have in common
  const common = Array.from({ length: old.length + 1 }, () => new Uint16Array(now.length + 1))
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = now.length - 1; j >= 0; j--) {
      common[i]![j] =
        old[i] === now[j] ? common[i + 1]![j + 1]! + 1 : Math.max(common[i + 1]![j]!, common[i]![j + 1]!)
    }
  }
  let i = 0
  let j = 0
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) {
      lines.push({ sign: " ", text: old[i]! })
      i++
      j++
    } else if (j === now.length || (i < old.length && common[i + 1]![j]! >= common[i]![j + 1]!)) {
      lines.push({ sign: "-", text: old[i++]! })
    } else {
      lines.push({ sign: "+", text: now[j++]! })
    }
  }
  return lines
}

/** How many unchanged lines are shown around a change. */
const CONTEXT_LINES = 2

export const Diff = ({ after, before }: { readonly before: string; readonly after: string }) => {
  const lines = diffOf(before, after)
  const changed = lines.flatMap(({ sign }, i) => (sign === " " ? [] : [i]))
  if (changed.length === 0) return <p class="quiet">Nothing is changed.</p>
  const nearChanges = lines
    .map((line, i) => ({ ...line, i }))
    .filter(({ i }) => changed.some((at) => Math.abs(at - i) <= CONTEXT_LINES))
  return (
    <pre class="diff" tabIndex={0} aria-label="What is changed">
      {nearChanges.map(({ i, sign, text }) => (
        <span key={i} class={sign === "-" ? "gone" : sign === "+" ? "new" : ""}>
          {sign} {text}
          {"\n"}
        </span>
      ))}
    </pre>
  )
}
