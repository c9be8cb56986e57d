/** Refuses members of a request that are not known: whoever sends them thinks that they do something. */
import { ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import { nearest } from "../../OptionKeys.ts"
import { membersOf, type Node, otherCase } from "../../Protocol/Codec.ts"
import { show } from "../../Show.ts"

/** Members of a codec, in either case of letters. */
const eitherCaseOf = (names: Iterable<string>): ReadonlySet<string> =>
  new Set([...names].flatMap((name) => [name, otherCase(name) ?? name]))

/** Throws `ValidationError` for a member of the body that the codec does not have. */
export const checkBodyMembers = (codec: Node, body: unknown, what: string): void => {
  if (!isObject(body)) return
  const names = Object.keys(membersOf(codec))
  const known = eitherCaseOf(names)
  for (const name of Object.keys(body)) {
    if (known.has(name)) continue
    const meant = nearest(name, names)
    throw new ValidationError(
      `${what} has no member ${show(name)}${meant === undefined ? "" : `: did you mean ${show(meant)}?`}. Use ${names.join(", ")}`
    )
  }
}
