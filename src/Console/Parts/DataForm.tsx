/**
 * A form for data. It has fields by the schema, and beside them the same data as JSON. A change of one
 * changes the other.
 */
import { useState } from "preact/hooks"
import { type DataField, dataFields, missingIn, valueAt, withValue } from "./DataFields.ts"

export const DataForm = ({
  onText,
  schema,
  text
}: {
  readonly schema: { readonly [member: string]: unknown } | undefined
  readonly text: string
  readonly onText: (text: string) => void
}) => {
  const fields = schema === undefined ? [] : dataFields(schema)
  const json = (
    <label>
      Data, as JSON
      <textarea
        name="data"
        rows={8}
        placeholder={'{ "orderId": "o-1" }'}
        value={text}
        spellcheck={false}
        onInput={(event) => onText(event.currentTarget.value)}
      />
    </label>
  )
  if (fields.length === 0) return json
  const data = parsed(text)
  const missing = data === broken ? [] : missingIn(data, fields)
  return (
    <>
      <div class="data-form">
        <div>
          <Fields
            of={fields}
            data={data === broken ? undefined : data}
            isOff={data === broken}
            onValue={(path, value) => onText(JSON.stringify(withValue(data, path, value) ?? {}, null, 2))}
          />
        </div>
        {json}
      </div>
      <p class="quiet" role="status">
        {data === broken
          ? "The fields wait until the JSON can be read."
          : missing.length === 0
            ? ""
            : `Missing: ${missing.join(", ")}. The function refuses an event without ${missing.length === 1 ? "it" : "them"}.`}
      </p>
    </>
  )
}

const broken = Symbol("broken")

const parsed = (text: string): unknown => {
  if (text.trim() === "") return undefined
  try {
    return JSON.parse(text)
  } catch {
    // what was typed is not complete yet
    return broken
  }
}

interface Given {
  readonly data: unknown
  readonly isOff: boolean
  readonly onValue: (path: ReadonlyArray<string>, value: unknown) => void
}

const Fields = ({ of, ...given }: Given & { readonly of: ReadonlyArray<DataField> }) => (
  <>
    {of.map((field) =>
      field.fields === undefined ? (
        <label key={field.name}>
          <span class="quiet">{nameOf(field)}</span>
          <Input field={field} {...given} />
          {field.hint !== undefined && <span class="quiet">{field.hint}</span>}
        </label>
      ) : (
        <fieldset key={field.name}>
          <legend>{nameOf(field)}</legend>
          <Fields of={field.fields} {...given} />
        </fieldset>
      )
    )}
  </>
)

const nameOf = ({ isNeeded, name }: DataField): string => (isNeeded ? name : `${name} (optional)`)

const Input = ({ data, field, isOff, onValue }: Given & { readonly field: DataField }) => {
  const { kind, path, values = [] } = field
  const value = valueAt(data, path)
  // named here, since the label also contains the hint, which is not part of the name
  const named = { "aria-label": nameOf(field), "aria-description": field.hint }
  if (kind === "choice") {
    const chosen = values.findIndex((one) => one === value)
    return (
      <select
        {...named}
        disabled={isOff}
        value={String(chosen)}
        onChange={(event) => onValue(path, values[Number(event.currentTarget.value)])}
      >
        <option value="-1">–</option>
        {values.map((one, i) => (
          <option key={i} value={String(i)}>
            {String(one)}
          </option>
        ))}
      </select>
    )
  }
  if (kind === "text") {
    return (
      <input
        {...named}
        type="text"
        disabled={isOff}
        autoComplete="off"
        value={typeof value === "string" ? value : ""}
        onInput={(event) => onValue(path, event.currentTarget.value || undefined)}
      />
    )
  }
  return (
    <DraftInput
      named={named}
      isOff={isOff}
      isJson={kind === "json"}
      step={kind === "integer" ? 1 : "any"}
      value={value}
      onValue={(next) => onValue(path, next)}
    />
  )
}

/**
 * An input whose text may be invalid while it is typed: a number, or JSON. The text stays as it was typed
 * while the page is refreshed.
 */
const DraftInput = ({
  isJson,
  isOff,
  named,
  onValue,
  step,
  value
}: {
  readonly isJson: boolean
  readonly isOff: boolean
  readonly named: { readonly "aria-label": string; readonly "aria-description": string | undefined }
  readonly step: number | string
  readonly value: unknown
  readonly onValue: (value: unknown) => void
}) => {
  const [draft, setDraft] = useState<string | undefined>(undefined)
  const isWrong = isJson && draft !== undefined && parsed(draft) === broken
  const kept = value === undefined || (!isJson && typeof value !== "number") ? "" : JSON.stringify(value)
  return (
    <>
      <input
        {...named}
        {...(isJson ? { type: "text", class: "mono", placeholder: "JSON" } : { type: "number", step })}
        disabled={isOff}
        autoComplete="off"
        aria-invalid={isWrong}
        value={draft ?? kept}
        onInput={({ currentTarget }) => {
          setDraft(currentTarget.value)
          const next = currentTarget.validity.badInput ? broken : parsed(currentTarget.value)
          if (isJson) currentTarget.setCustomValidity(next === broken ? "This is not JSON." : "")
          if (next !== broken) onValue(next)
        }}
        onBlur={() => {
          if (!isWrong) setDraft(undefined)
        }}
      />
      {isWrong && <span role="alert">This is not JSON.</span>}
    </>
  )
}
