/** Fields for the dialogs of actions, and functions that read what was entered in them. */
import type { ComponentChildren } from "preact"
import { useRef } from "preact/hooks"
import { CallError } from "./Calls.ts"

/**
 * Keeps its first content while the page is refreshed, since the user edits the values that were shown first.
 */
export const KeepInitial = ({ children }: { readonly children: ComponentChildren }) => (
  <>{useRef(children).current}</>
)

/** A field with its label. */
export const Field = ({
  hint,
  isRequired = false,
  label,
  lines = 1,
  name,
  placeholder,
  isSecret = false,
  value
}: {
  readonly name: string
  readonly label: string
  readonly placeholder?: string | undefined
  readonly value?: string | undefined
  readonly hint?: string
  readonly lines?: number
  readonly isRequired?: boolean
  readonly isSecret?: boolean
}) => (
  <label>
    {label}
    {lines === 1 ? (
      <input
        name={name}
        {...(isSecret ? { type: "password" } : { type: "text" })}
        placeholder={placeholder}
        defaultValue={value ?? ""}
        required={isRequired}
        autoComplete="off"
      />
    ) : (
      <textarea
        name={name}
        rows={lines}
        placeholder={placeholder}
        defaultValue={value ?? ""}
        required={isRequired}
        spellcheck={false}
      />
    )}
    {hint !== undefined && <span class="quiet">{hint}</span>}
  </label>
)

/** A choice between several values. */
export const Choice = ({
  label,
  name,
  choices,
  value
}: {
  readonly name: string
  readonly label: string
  readonly choices: ReadonlyArray<readonly [value: string, text: string]>
  readonly value?: string
}) => (
  <label>
    {label}
    <select name={name}>
      {choices.map(([choiceValue, text]) => (
        <option key={choiceValue} value={choiceValue} selected={choiceValue === value}>
          {text}
        </option>
      ))}
    </select>
  </label>
)

/** What was entered in the field, without spaces around it; `undefined` when the field is empty. */
export const readEntry = (entered: FormData, name: string): string | undefined => {
  const value = entered.get(name)
  return typeof value === "string" && value.trim() !== "" ? value.trim() : undefined
}

/** What was entered in the field. Throws `Enter ${what}.` when the field is empty. */
export const readRequiredEntry = (entered: FormData, name: string, what: string): string => {
  const value = readEntry(entered, name)
  if (value === undefined) throw new CallError(`Enter ${what}.`, 400, "")
  return value
}

/** What was entered in the field, parsed as JSON; `undefined` when the field is empty. */
export const readJsonEntry = (entered: FormData, name: string, what: string): unknown => {
  const text = readEntry(entered, name)
  if (text === undefined) return undefined
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new CallError(`${what} is not JSON: ${cause instanceof Error ? cause.message : ""}`, 400, "")
  }
}
