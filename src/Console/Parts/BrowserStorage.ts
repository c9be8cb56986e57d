/** Settings of the console, in the browser's storage. A browser without storage forgets them with the page. */
const PREFIX = "ironflow."

export const loadSetting = (name: string): string | undefined => {
  try {
    return localStorage.getItem(PREFIX + name) ?? undefined
  } catch {
    return undefined
  }
}

export const saveSetting = (name: string, value: string): void => {
  try {
    if (value === "") localStorage.removeItem(PREFIX + name)
    else localStorage.setItem(PREFIX + name, value)
  } catch {
    // the setting is not saved: the console works without storage
  }
}
