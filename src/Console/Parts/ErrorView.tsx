/** An error as it was thrown: its message, where in the user's code it was thrown, and its causes. */
import { describeError, type ReportedError, stepOf, thrownError } from "../../DescribeError.ts"
import { isRecord } from "./Calls.ts"
import { Collapsible } from "./Elements.tsx"

/** Maximum number of errors that are shown: the error itself, its cause, and so on. */
const MAX_ERRORS = 5

/** The error in a response; `undefined` when the value is not an error. */
export const reportedError = (error: unknown): ReportedError | undefined =>
  isRecord(error) && typeof error["message"] === "string"
    ? // the engine has written the error, so its members have these types
      (error as unknown as ReportedError)
    : typeof error === "string"
      ? { message: error }
      : undefined

/** Maximum number of lines of user code that are shown for one error. The `ironflow` command shows as many. */
const MAX_LINES = 4

/** Whether a line of a stack is a place in the user's code. */
const isUserFrame = (line: string): boolean =>
  /^\s+at .*:\d+:\d+\)?$/.test(line) && !/node:|<anonymous>\)|[/\\]node_modules[/\\]/.test(line)

/** An error, with its stack behind a button. */
export const ErrorView = ({ error }: { readonly error: unknown }) => {
  const reported = reportedError(error)
  if (reported === undefined) return null
  const chain: Array<ReportedError> = []
  for (let one: ReportedError | undefined = reported; one !== undefined && chain.length < MAX_ERRORS;) {
    chain.push(one)
    one = thrownError(one).cause
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
  const { code, stack = "" } = thrownError(error)
  const userFrames = stack.split("\n").filter(isUserFrame).slice(0, MAX_LINES)
  return (
    <div>
      <p>
        {isCause ? <span class="quiet">caused by </span> : null}
        <strong>
          <Collapsible text={describeError(error)} />
        </strong>
        {code !== undefined && stepOf(error) === undefined && <span class="quiet"> {code}</span>}
      </p>
      {userFrames.length > 0 && <pre>{userFrames.map((line) => line.trim()).join("\n")}</pre>}
      {stack !== "" && (
        <details>
          <summary>Whole stack</summary>
          <pre tabIndex={0}>{stack}</pre>
        </details>
      )}
    </div>
  )
}
