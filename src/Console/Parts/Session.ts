/** Who is signed in: the API key of the browser's session. */
import { signal } from "@preact/signals"
import { type ConsoleSession, endSession, getSession, startSession } from "../../Protocol/Console.ts"
import { ask, isSignedOut } from "./Calls.ts"
import { environment, setQuery } from "./Router.ts"

export const session = signal<ConsoleSession | undefined>(undefined)

/** The tabs of a browser share the cookie of the session. So a tab that has signed in or out tells the other tabs. */
const otherTabs = new BroadcastChannel("ironflow session")
otherTabs.onmessage = async () => {
  const keyIdBefore = session.peek()?.key?.id
  await readSession().catch(() => undefined)
  // loads the page anew, so that nothing stays that was shown with the previous key
  if (keyIdBefore !== undefined && session.peek()?.key?.id !== keyIdBefore) location.reload()
}

const applySession = (newSession: ConsoleSession): void => {
  session.value = newSession
  isSignedOut.value = false
  // a key that is bound to an environment sees no other environment
  const keyEnvironment = newSession.key?.environment
  if (keyEnvironment !== undefined && keyEnvironment !== environment.peek()) setQuery({ env: keyEnvironment })
}

/** The name that is recorded for what this user does. */
export const currentUserName = (): string => session.peek()?.key?.name ?? "console"

/** Reads the session, and finds out whether the user must sign in. */
export const readSession = async (): Promise<void> =>
  applySession(await ask(getSession, { usesKeyEnvironment: true }))

/** Starts a session with a key. Fails with a `CallError` when the key is invalid. */
export const signIn = async (key: string): Promise<void> => {
  // trimmed, since a header does not allow spaces around the key
  applySession(
    await ask(startSession, { headers: { authorization: `Bearer ${key.trim()}` }, usesKeyEnvironment: true })
  )
  otherTabs.postMessage("changed")
}

export const signOut = async (): Promise<void> => {
  await ask(endSession, { usesKeyEnvironment: true })
  session.value = undefined
  isSignedOut.value = true
  otherTabs.postMessage("changed")
}
