/**
 * Shows the characters that change the direction of the text around them. They are invisible, and with them
 * one name can look like another. They are replaced in all texts of a page and in tooltips. Text that is
 * copied and text in fields stay unchanged.
 */
import { Fragment, options, type VNode } from "preact"

const turning = /[\u202A-\u202E\u2066-\u2069]/g

/** The text with each such character written out, such as `[U+202E]`. */
export const marked = (text: string): string =>
  text.replace(turning, (letter) => `[U+${letter.charCodeAt(0).toString(16).toUpperCase()}]`)

const inside = (children: unknown): unknown =>
  typeof children === "string" ? marked(children) : Array.isArray(children) ? children.map(inside) : children

/** From now on, shows all texts as {@link marked} returns them. Called once. */
export const showMarks = (): void => {
  const before = options.vnode
  options.vnode = (vnode: VNode) => {
    if (typeof vnode.type === "string" || vnode.type === Fragment) {
      // these props were just made for this element, so they may be changed
      const props = vnode.props as Record<string, unknown>
      for (const name of ["children", "title", "aria-label"]) {
        if (props[name] !== undefined) props[name] = inside(props[name])
      }
    }
    before?.(vnode)
  }
}
