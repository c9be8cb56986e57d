/**
 * A form for data: fields that the JSON Schema describes, and beside them the same data as JSON. A change of a field
 * changes the JSON, and a change of the JSON changes the fields.
 */
import { useState } from "preact/hooks"
import { type DataField, dataFields, missingPaths, valueAt, withValue } from "./DataFields.ts"

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
  const jsonField = (
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
  if (fields.length === 0) return jsonField
  const data = parseText(text)
  const missing = data === NOT_JSON ? [] : missingPaths(data, fields)
  return (
    <>
      <div class="data-form">
        <div>
          <Fields
            fields={fields}
            data={data === NOT_JSON ? undefined : data}
            isLocked={data === NOT_JSON}
            onValue={(path, value) => onText(JSON.stringify(withValue(data, path, value) ?? {}, null, 2))}
          />
        </div>
        {jsonField}
      </div>
      <p class="quiet" role="status">
        {data === NOT_JSON
          ? "The fields are locked until the text is valid JSON."
          : missing.length === 0
            ? ""
            : `Missing: ${missing.join(", ")}. The function refuses an event without ${missing.length === 1 ? "this value" : "these values"}.`}
      </p>
    </>
  )
}

const NOT_JSON = Symbol("broken")

const parseText = (text: string): unknown => {
  if (text.trim() === "") return undefined
  try {
    return JSON.parse(text)
  } catch {
    // the user has not finished typing
    return NOT_JSON
  }
}

interface FieldsProps {
  readonly data: unknown
  readonly isLocked: boolean
  readonly onValue: (path: ReadonlyArray<string>, value: unknown) => void
}

const Fields = ({ fields, ...props }: FieldsProps & { readonly fields: ReadonlyArray<DataField> }) => (
  <>
    {fields.map((field) =>
      field.fields === undefined ? (
        <label key={field.name}>
          <span class="quiet">{nameOf(field)}</span>
          <Input field={field} {...props} />
          {field.hint !== undefined && <span class="quiet">{field.hint}</span>}
        </label>
      ) : (
        <fieldset key={field.name}>
          <legend>{nameOf(field)}</legend>
          <Fields fields={field.fields} {...props} />
        </fieldset>
      )
    )}
  </>
)

const nameOf = ({ isRequired, name }: DataField): string => (isRequired ? name : `${name} (optional)`)

const Input = ({ data, field, isLocked, onValue }: FieldsProps & { readonly field: DataField }) => {
  const { kind, path, values = [] } = field
  const value = valueAt(data, path)
  // for screen readers: the label element also contains the hint, which is not part of the name
  const ariaNames = { "aria-label": nameOf(field), "aria-description": field.hint }
  if (kind === "choice") {
    const chosenIndex = values.findIndex((one) => one === value)
    return (
      <select
        {...ariaNames}
        disabled={isLocked}
        value={String(chosenIndex)}
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
        {...ariaNames}
        type="text"
        disabled={isLocked}
        autoComplete="off"
        value={typeof value === "string" ? value : ""}
        onInput={(event) => onValue(path, event.currentTarget.value || undefined)}
      />
    )
  }
  return (
    <DraftInput
      ariaNames={ariaNames}
      isLocked={isLocked}
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
  isLocked,
  ariaNames,
  onValue,
  step,
  value
}: {
  readonly isJson: boolean
  readonly isLocked: boolean
  readonly ariaNames: { readonly "aria-label": string; readonly "aria-description": string | undefined }
  readonly step: number | string
  readonly value: unknown
  readonly onValue: (value: unknown) => void
}) => {
  const [draft, setDraft] = useState<string | undefined>(undefined)
  const isInvalid = isJson && draft !== undefined && parseText(draft) === NOT_JSON
  const storedText =
    value === undefined || (!isJson && typeof value !== "number") ? "" : JSON.stringify(value)
  return (
    <>
      <input
        {...ariaNames}
        {...(isJson ? { type: "text", class: "mono", placeholder: "JSON" } : { type: "number", step })}
        disabled={isLocked}
        autoComplete="off"
        aria-invalid={isInvalid}
        value={draft ?? storedText}
        onInput={({ currentTarget }) => {
          setDraft(currentTarget.value)
          const next = currentTarget.validity.badInput ? NOT_JSON : parseText(currentTarget.value)
          if (isJson) currentTarget.setCustomValidity(next === NOT_JSON ? "This is not JSON." : "")
          if (next !== NOT_JSON) onValue(next)
        }}
        onBlur={() => {
          if (!isInvalid) setDraft(undefined)
        }}
      />
      {isInvalid && <span role="alert">This is not JSON.</span>}
    </>
  )
}
