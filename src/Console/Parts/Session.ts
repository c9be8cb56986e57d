/** Who is signed in: the API key of the browser's session. */
import { signal } from "@preact/signals"
import { type ConsoleSession, endSession, getSession, startSession } from "../../Protocol/Console.ts"
import { ask, isSignedOut } from "./Calls.ts"
import { environment, setQuery } from "./Router.ts"

export const session = signal<ConsoleSession | undefined>(undefined)

/** The tabs of a browser share its cookie. So a tab that has signed in with another key tells the others. */
const otherTabs = new BroadcastChannel("ironflow session")
otherTabs.onmessage = async () => {
  const before = session.peek()?.key?.id
  await readSession().catch(() => undefined)
  // loads the page anew, so that nothing stays that was shown with the key before
  if (before !== undefined && session.peek()?.key?.id !== before) location.reload()
}

const take = (found: ConsoleSession): void => {
  session.value = found
  isSignedOut.value = false
  // a key that is bound to an environment sees no other one
  const bound = found.key?.environment
  if (bound !== undefined && bound !== environment.peek()) setQuery({ env: bound })
}

/** The name that is recorded for what this user does. */
export const currentUserName = (): string => session.peek()?.key?.name ?? "console"

/** Reads the session. Afterwards it is known whether the user must sign in. */
export const readSession = async (): Promise<void> => take(await ask(getSession, { isOfKey: true }))

/** Starts a session with a key. Fails with a `CallError` when the key is invalid. */
export const signIn = async (key: string): Promise<void> => {
  // without spaces around it, which a header does not allow
  take(await ask(startSession, { headers: { authorization: `Bearer ${key.trim()}` }, isOfKey: true }))
  otherTabs.postMessage("changed")
}

export const signOut = async (): Promise<void> => {
  await ask(endSession, { isOfKey: true })
  session.value = undefined
  isSignedOut.value = true
  otherTabs.postMessage("changed")
}
