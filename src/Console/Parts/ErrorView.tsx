/** An error as it was thrown: its message, its place in the user's code, and its causes. */
import { describeError, type ReportedError, stepOf, thrownBy } from "../../DescribeError.ts"
import { isRecord } from "./Calls.ts"
import { Collapsible } from "./Elements.tsx"

/** The most causes that are shown. */
const MOST_CAUSES = 5

/** The error in a response; `undefined` when it is not an error. */
export const reportedError = (error: unknown): ReportedError | undefined =>
  isRecord(error) && typeof error["message"] === "string"
    ? // the other members have the types that the engine writes
      (error as unknown as ReportedError)
    : typeof error === "string"
      ? { message: error }
      : undefined

/** The most lines of user code shown for one error, as in the command. */
const MOST_LINES = 4

/** Whether a stack line is a place in the user's code. */
const isOwn = (line: string): boolean =>
  /^\s+at .*:\d+:\d+\)?$/.test(line) && !/node:|<anonymous>\)|[/\\]node_modules[/\\]/.test(line)

/** An error, with its stack behind a button. */
export const ErrorView = ({ of }: { readonly of: unknown }) => {
  const error = reportedError(of)
  if (error === undefined) return null
  const chain: Array<ReportedError> = []
  for (let one: ReportedError | undefined = error; one !== undefined && chain.length < MOST_CAUSES;) {
    chain.push(one)
    one = thrownBy(one).cause
  }
  return (
    <div class="failure">
      {chain.map((one, i) => (
        <ErrorLines key={i} error={one} isCause={i > 0} />
      ))}
    </div>
  )
}

const ErrorLines = ({ error, isCause }: { readonly error: ReportedError; readonly isCause: boolean }) => {
  const { code, stack = "" } = thrownBy(error)
  const own = stack.split("\n").filter(isOwn).slice(0, MOST_LINES)
  return (
    <div>
      <p>
        {isCause ? <span class="quiet">caused by </span> : null}
        <strong>
          <Collapsible text={describeError(error)} />
        </strong>
        {code !== undefined && stepOf(error) === undefined && <span class="quiet"> {code}</span>}
      </p>
      {own.length > 0 && <pre>{own.map((line) => line.trim()).join("\n")}</pre>}
      {stack !== "" && (
        <details>
          <summary>Whole stack</summary>
          <pre tabIndex={0}>{stack}</pre>
        </details>
      )}
    </div>
  )
}
