/** The elements of pages: links, states, values, errors, buttons, dialogs, and texts in place of what is missing. */
import { signal } from "@preact/signals"
import type { ComponentChildren } from "preact"
import { useEffect, useRef, useState } from "preact/hooks"
import { CallError } from "./Calls.ts"
import { hrefOf, type Query } from "./Router.ts"

/** A link to a page of the console, in the displayed environment. */
export const Link = ({
  children,
  query,
  title,
  to,
  ...more
}: {
  readonly to: string
  readonly query?: Query
  readonly title?: string | undefined
  readonly class?: string
  readonly children: ComponentChildren
}) => (
  <a href={hrefOf(to, query)} title={title} {...more}>
    {children}
  </a>
)

/** The shapes of states, since colours alone are not accessible. They are drawn in a square of 12 by 12. */
const shapes: { readonly [look: string]: string } = {
  good: "M2 6.5 5 9.5 10 3",
  bad: "M2.5 2.5 9.5 9.5M9.5 2.5 2.5 9.5",
  busy: "M3 2 10 6 3 10Z",
  wait: "M3 2h6L3 10h6Z",
  held: "M4 2.5v7M8 2.5v7",
  back: "M10 9.5V6a2 2 0 0 0-2-2H2.5M5 1.5 2.5 4 5 6.5",
  off: "M2.5 6h7",
  open: "M6 2a4 4 0 1 0 .01 0Z"
}

/** The shape of each state of runs, steps and other things. */
const looks: { readonly [word: string]: keyof typeof shapes } = {
  completed: "good",
  ready: "good",
  ok: "good",
  up: "good",
  connected: "good",
  active: "good",
  failed: "bad",
  error: "bad",
  degraded: "bad",
  dead: "bad",
  down: "bad",
  damaged: "bad",
  unavailable: "bad",
  running: "busy",
  rebuilding: "busy",
  waiting: "wait",
  sleeping: "wait",
  draining: "wait",
  paused: "held",
  compensating: "back",
  cancelled: "off",
  pending: "open"
}

/** A state: its shape and its word. */
export const Status = ({
  state,
  children
}: {
  readonly state: string
  readonly children?: ComponentChildren
}) => {
  const look = looks[state] ?? "open"
  return (
    <span class={`status ${look}`}>
      <svg viewBox="0 0 12 12" aria-hidden="true">
        <path d={shapes[look]} />
      </svg>
      {children ?? state}
    </span>
  )
}

/** The error code of calls that got no response. The banner above every page reports such calls. */
const NO_ANSWER = "NO_ANSWER"

/**
 * The error of a call that has failed. `retry` makes the call again. When there was no response, the error is only
 * shown in a dialog, which covers the banner: elsewhere the banner reports it.
 */
export const Failure = ({
  retry,
  error,
  isInDialog = false
}: {
  readonly error: CallError
  readonly retry?: () => void
  readonly isInDialog?: boolean
}) =>
  error.code === NO_ANSWER && !isInDialog ? null : (
    <div class="failure" role="alert">
      <p>
        <strong>{titleOf(error)}</strong> {error.message}
      </p>
      {error.code !== "" && error.status !== 0 && <p class="quiet">{error.code}</p>}
      {retry !== undefined && error.status !== 403 && error.status !== 404 && (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  )

const titleOf = ({ status }: CallError): string => {
  if (status === 0) return "No answer."
  if (status === 403) return "You may not do this."
  if (status === 404) return "Not found."
  if (status === 400) return "The request is not valid."
  if (status === 409 || status === 412) return "Not possible now."
  return "The call has failed."
}

/** What is shown in place of an empty list: why it is empty, and the command that adds something. */
export const Empty = ({
  children,
  command
}: {
  readonly children: ComponentChildren
  readonly command?: string
}) => (
  <div class="empty">
    <p>{children}</p>
    {command !== undefined && (
      <p>
        <code>{command}</code> <Copy text={command} />
      </p>
    )}
  </div>
)

/** What is shown until the first response. It appears with a delay, so that nothing flickers. */
export const Loading = () => (
  <p class="loading" role="status">
    Asking the engine
  </p>
)

/** A button that copies a text. */
export const Copy = ({
  text,
  label = "Copy"
}: {
  readonly text: string | (() => string)
  readonly label?: string
}) => {
  const [isDone, setDone] = useState(false)
  const copy = async (): Promise<void> => {
    if (!(await copyToClipboard(typeof text === "string" ? text : text()))) {
      return showToast(
        "The browser does not let this page copy texts: select the text and copy it yourself",
        "bad"
      )
    }
    setDone(true)
    setTimeout(() => setDone(false), 1500)
  }
  return (
    <button type="button" class="small" onClick={() => void copy()}>
      {isDone ? "Copied" : label}
    </button>
  )
}

/**
 * Copies a text to the clipboard. Returns whether that worked. A page that came over plain http from another
 * machine can only use the old clipboard API.
 */
const copyToClipboard = async (text: string): Promise<boolean> => {
  if (isSecureContext) {
    return navigator.clipboard.writeText(text).then(
      () => true,
      () => false
    )
  }
  const area = document.createElement("textarea")
  area.value = text
  area.className = "unseen"
  // an open dialog takes the focus away from everything outside of it
  const place = document.querySelector("dialog[open]") ?? document.body
  place.append(area)
  area.select()
  const isDone = document.execCommand("copy")
  area.remove()
  return isDone
}

/** How many characters of a value are shown at first: several megabytes would freeze a browser. */
const SHOWN_CHARACTERS = 20_000

/** A value as JSON. A long value is shown in part at first. `name` is the label of the value for screen readers. */
export const Value = ({ value, name }: { readonly value: unknown; readonly name: string }) => {
  const [isWhole, setWhole] = useState(false)
  if (value === undefined) return <p class="quiet">none</p>
  const text = typeof value === "string" && value.includes("\n") ? value : JSON.stringify(value, null, 2)
  const isLong = text.length > SHOWN_CHARACTERS
  return (
    <div class="value">
      <pre tabIndex={0} aria-label={name}>
        {isLong && !isWhole ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text}
      </pre>
      <div class="actions">
        <Copy text={text} />
        {isLong && (
          <button type="button" class="small" onClick={() => setWhole(!isWhole)}>
            {isWhole ? "Show less" : `Show all ${bytes(text.length)}`}
          </button>
        )}
      </div>
    </div>
  )
}

/** How many characters of a text are shown at first. */
const MAX_TEXT = 600

/** A text that may be long. Only its start is shown, with a button that shows all of it. */
export const Collapsible = ({ text }: { readonly text: string }) => {
  const [isWhole, setWhole] = useState(false)
  if (isWhole || text.length <= MAX_TEXT) return <>{text}</>
  return (
    <>
      {/* does not split a surrogate pair */}
      {text.slice(0, MAX_TEXT).replace(/[\uD800-\uDBFF]$/, "")}…{" "}
      <button type="button" class="small" onClick={() => setWhole(true)}>
        Show all {count(text.length)} characters
      </button>
    </>
  )
}

/** A size with its unit: `340 B`, `12 kB`, `4.2 MB`. */
export const bytes = (count: number): string =>
  count < 1000
    ? `${count} B`
    : count < 1_000_000
      ? `${Math.round(count / 1000)} kB`
      : `${(count / 1_000_000).toFixed(1)} MB`

/** A number with its separators: `1,234`. */
export const count = (value: number): string => value.toLocaleString("en-US")

interface Toast {
  readonly text: string
  readonly look: "good" | "bad"
}

const toast = signal<Toast | undefined>(undefined)
let toastTimer: ReturnType<typeof setTimeout> | undefined

/** Shows for some seconds what an action has done, or why it failed. */
const showToast = (text: string, look: Toast["look"] = "good"): void => {
  toast.value = { text, look }
  clearTimeout(toastTimer)
  toastTimer = setTimeout(() => (toast.value = undefined), look === "good" ? 5000 : 12_000)
}

/** The messages that {@link showToast} shows. */
export const Toasts = () => (
  <div class="sayings" role="status" aria-live="polite">
    {toast.value !== undefined && (
      <p class={toast.value.look}>
        {toast.value.text}
        <button type="button" class="small" aria-label="Dismiss" onClick={() => (toast.value = undefined)}>
          ×
        </button>
      </p>
    )}
  </div>
)

/** A dialog over the page. The Escape key closes it. */
export const Dialog = ({
  children,
  onClose,
  title
}: {
  readonly title: string
  readonly onClose: () => void
  readonly children: ComponentChildren
}) => {
  const ref = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    ref.current?.showModal()
  }, [])
  return (
    <dialog ref={ref} aria-labelledby="dialog-title" onClose={onClose}>
      <h2 id="dialog-title">{title}</h2>
      {children}
    </dialog>
  )
}

/**
 * A button that changes something in the engine. With `confirm` it first asks for confirmation in a dialog. A failure
 * is shown in that dialog, or as a message at the edge of the page.
 */
export const Action = ({
  act,
  confirm,
  fields,
  isDangerous = false,
  isSmall = false,
  label
}: {
  readonly label: string
  /** The whole sentence with which the dialog asks for confirmation. The dialog also has the `fields`. */
  readonly confirm?: string
  readonly fields?: ComponentChildren
  readonly isDangerous?: boolean
  /** Whether the button is in a row of a table. */
  readonly isSmall?: boolean
  /**
   * Does what the button is for. `entered` has the values of the fields by their names. Returns the message about what
   * was done.
   */
  readonly act: (entered: FormData) => Promise<string>
}) => {
  const [isOpen, setOpen] = useState(false)
  const [isBusy, setBusy] = useState(false)
  const [error, setError] = useState<CallError | undefined>(undefined)
  const run = async (entered: FormData): Promise<void> => {
    setBusy(true)
    setError(undefined)
    try {
      showToast(await act(entered))
      setOpen(false)
    } catch (cause) {
      const failure = cause instanceof CallError ? cause : new CallError(String(cause), 0, "BUG")
      if (confirm === undefined) showToast(failure.message, "bad")
      else setError(failure)
    } finally {
      setBusy(false)
    }
  }
  return (
    <>
      <button
        type="button"
        class={`${isDangerous ? "danger" : ""} ${isSmall ? "small" : ""}`}
        disabled={isBusy}
        onClick={() => (confirm === undefined ? void run(new FormData()) : setOpen(true))}
      >
        {label}
      </button>
      {isOpen && (
        <Dialog title={label} onClose={() => setOpen(false)}>
          <form
            onSubmit={(event) => {
              event.preventDefault()
              void run(new FormData(event.currentTarget))
            }}
          >
            <p>{confirm}</p>
            {fields}
            {error !== undefined && <Failure error={error} isInDialog />}
            <div class="actions">
              <button type="submit" class={isDangerous ? "danger primary" : "primary"} disabled={isBusy}>
                {label}
              </button>
              <button type="button" onClick={() => setOpen(false)}>
                Leave it
              </button>
            </div>
          </form>
        </Dialog>
      )}
    </>
  )
}
