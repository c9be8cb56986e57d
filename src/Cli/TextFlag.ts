/** A flag for a text that must not be blank: a blank text mostly comes from an unset variable of a script. */
import * as Flag from "effect/cli/Flag"

export const textFlag = (name: string): Flag.Flag<string> =>
  Flag.String(name).pipe(
    Flag.filter(
      (text) => text.trim() !== "",
      () => "text"
    )
  )
