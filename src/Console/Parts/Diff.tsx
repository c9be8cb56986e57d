/** Shows how two texts differ, line by line. */

/**
 * Maximum number of lines that are compared, between the common start and the common end of the texts. To compare more
 * lines would take a browser too long.
 */
const MAX_LINES = 400

interface DiffLine {
  readonly sign: " " | "-" | "+"
  readonly text: string
}

/** The lines of both texts. Common lines appear once. */
const diffOf = (before: string, after: string): ReadonlyArray<DiffLine> => {
  const oldLines = before.split("\n")
  const newLines = after.split("\n")
  let start = 0
  while (start < oldLines.length && start < newLines.length && oldLines[start] === newLines[start]) start++
  let end = 0
  while (
    end < oldLines.length - start &&
    end < newLines.length - start &&
    oldLines[oldLines.length - 1 - end] === newLines[newLines.length - 1 - end]
  ) {
    end++
  }
  const unchanged = (lines: ReadonlyArray<string>): ReadonlyArray<DiffLine> =>
    lines.map((text) => ({ sign: " ", text }))
  return [
    ...unchanged(oldLines.slice(0, start)),
    ...diffBetween(
      oldLines.slice(start, oldLines.length - end),
      newLines.slice(start, newLines.length - end)
    ),
    ...unchanged(oldLines.slice(oldLines.length - end))
  ]
}

/** Compares the lines between the common start and the common end, by their longest common subsequence. */
const diffBetween = (
  oldLines: ReadonlyArray<string>,
  newLines: ReadonlyArray<string>
): ReadonlyArray<DiffLine> => {
  const lines: Array<DiffLine> = []
  if (oldLines.length > MAX_LINES || newLines.length > MAX_LINES) {
    for (const text of oldLines) lines.push({ sign: "-", text })
    for (const text of newLines) lines.push({ sign: "+", text })
    return lines
  }
  // `common[i][j]`: how many lines `oldLines` from `i` on and `newLines` from `j` on have in common
  const common = Array.from({ length: oldLines.length + 1 }, () => new Uint16Array(newLines.length + 1))
  for (let i = oldLines.length - 1; i >= 0; i--) {
    for (let j = newLines.length - 1; j >= 0; j--) {
      common[i]![j] =
        oldLines[i] === newLines[j]
          ? common[i + 1]![j + 1]! + 1
          : Math.max(common[i + 1]![j]!, common[i]![j + 1]!)
    }
  }
  let i = 0
  let j = 0
  while (i < oldLines.length || j < newLines.length) {
    if (i < oldLines.length && j < newLines.length && oldLines[i] === newLines[j]) {
      lines.push({ sign: " ", text: oldLines[i]! })
      i++
      j++
    } else if (j === newLines.length || (i < oldLines.length && common[i + 1]![j]! >= common[i]![j + 1]!)) {
      lines.push({ sign: "-", text: oldLines[i++]! })
    } else {
      lines.push({ sign: "+", text: newLines[j++]! })
    }
  }
  return lines
}

/** How many unchanged lines are shown around a change. */
const CONTEXT_LINES = 2

export const Diff = ({ after, before }: { readonly before: string; readonly after: string }) => {
  const lines = diffOf(before, after)
  const changedLines = lines.flatMap(({ sign }, i) => (sign === " " ? [] : [i]))
  if (changedLines.length === 0) return <p class="quiet">Nothing is changed.</p>
  const nearChanges = lines
    .map((line, i) => ({ ...line, i }))
    .filter(({ i }) => changedLines.some((at) => Math.abs(at - i) <= CONTEXT_LINES))
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
