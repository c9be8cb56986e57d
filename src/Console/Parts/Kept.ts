/** What the browser remembers of how somebody likes the console. A browser that may keep nothing forgets it. */
const PREFIX = "ironflow."

export const kept = (name: string): string | undefined => {
  try {
    return localStorage.getItem(PREFIX + name) ?? undefined
  } catch {
    return undefined
  }
}

export const keep = (name: string, value: string): void => {
  try {
    if (value === "") localStorage.removeItem(PREFIX + name)
    else localStorage.setItem(PREFIX + name, value)
  } catch {
    // nothing of ours depends on it
  }
}
