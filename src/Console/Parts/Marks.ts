/**
 * Characters that turn the direction of what is around them. They are not seen, and with them one name can pass for another: in
 * every text of a page, and in what is said of it when the pointer is there, each is shown as what it is. What is copied and what
 * is in fields is the text itself.
 */
import { Fragment, options, type VNode } from "preact"

const turning = /[\u202A-\u202E\u2066-\u2069]/g

/** The text with each of them in words, such as `[U+202E]`. */
export const marked = (text: string): string =>
  text.replace(turning, (letter) => `[U+${letter.charCodeAt(0).toString(16).toUpperCase()}]`)

const inside = (children: unknown): unknown =>
  typeof children === "string" ? marked(children) : Array.isArray(children) ? children.map(inside) : children

/** From now on every text is shown like that. Called once. */
export const showMarks = (): void => {
  const before = options.vnode
  options.vnode = (vnode: VNode) => {
    if (typeof vnode.type === "string" || vnode.type === Fragment) {
      // the ones that were just made, for this element alone
      const props = vnode.props as Record<string, unknown>
      for (const name of ["children", "title", "aria-label"]) {
        if (props[name] !== undefined) props[name] = inside(props[name])
      }
    }
    before?.(vnode)
  }
}
