/** Whoever looks: the key that a browser has traded for its session. */
import { signal } from "@preact/signals"
import { type ConsoleSession, endSession, getSession, startSession } from "../../Protocol/Console.ts"
import { ask, isSignedOut } from "./Calls.ts"
import { environment, setQuery } from "./Router.ts"

export const session = signal<ConsoleSession | undefined>(undefined)

const take = (found: ConsoleSession): void => {
  session.value = found
  isSignedOut.value = false
  // a key of one environment sees no other
  const bound = found.key?.environment
  if (bound !== undefined && bound !== environment.peek()) setQuery({ env: bound })
}

/** Who does what is done here, for those who read of it later. */
export const whoIs = (): string => session.peek()?.key?.name ?? "console"

/** Asks who that is. Whether somebody has to sign in is known afterwards. */
export const readSession = async (): Promise<void> => take(await ask(getSession, { isOfKey: true }))

/** Trades a key. Fails with a `CallError` for one that does not work. */
export const signIn = async (key: string): Promise<void> =>
  // nothing but a key goes into a header
  take(await ask(startSession, { headers: { authorization: `Bearer ${key.trim()}` }, isOfKey: true }))

export const signOut = async (): Promise<void> => {
  await ask(endSession, { isOfKey: true })
  session.value = undefined
  isSignedOut.value = true
}
