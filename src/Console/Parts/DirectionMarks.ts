/**
 * Shows the characters that change the direction of the text around them. These characters are invisible, and with them
 * one name can look like another. They are replaced in all texts of a page and in tooltips, but not in text that is
 * copied and in fields.
 */
import { Fragment, options, type VNode } from "preact"

const directionCharacters = /[\u202A-\u202E\u2066-\u2069]/g

/** The text with each such character written out, such as `[U+202E]`. */
export const markDirection = (text: string): string =>
  text.replace(directionCharacters, (letter) => `[U+${letter.charCodeAt(0).toString(16).toUpperCase()}]`)

const markChildren = (children: unknown): unknown =>
  typeof children === "string"
    ? markDirection(children)
    : Array.isArray(children)
      ? children.map(markChildren)
      : children

/** From now on, shows all texts as {@link markDirection} returns them. Called once. */
export const showDirectionMarks = (): void => {
  const previousHook = options.vnode
  options.vnode = (vnode: VNode) => {
    if (typeof vnode.type === "string" || vnode.type === Fragment) {
      // these props were just made for this element, so they may be changed
      const props = vnode.props as Record<string, unknown>
      for (const name of ["children", "title", "aria-label"]) {
        if (props[name] !== undefined) props[name] = markChildren(props[name])
      }
    }
    previousHook?.(vnode)
  }
}
