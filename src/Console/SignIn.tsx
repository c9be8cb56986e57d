/** The page to sign in, for users without a session. It starts a session with an API key. */
import { useState } from "preact/hooks"
import { CallError } from "./Parts/Calls.ts"
import { signIn } from "./Parts/Session.ts"

export const SignIn = () => {
  const [problem, setProblem] = useState("")
  const [isBusy, setBusy] = useState(false)
  const submit = async (key: string): Promise<void> => {
    // a key with other characters could not be sent in a header
    if (!/^[\x21-\x7e]+$/.test(key))
      return setProblem("Paste the whole key. It has only ASCII characters and no spaces.")
    setBusy(true)
    try {
      await signIn(key)
    } catch (cause) {
      const isWrong = cause instanceof CallError && cause.status === 401
      setProblem(
        isWrong
          ? "This key does not work: it is wrong, was deleted, or has expired."
          : cause instanceof Error
            ? cause.message
            : String(cause)
      )
    } finally {
      setBusy(false)
    }
  }
  return (
    <main class="sign-in">
      <h1>Ironflow</h1>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void submit(String(new FormData(event.currentTarget).get("key") ?? "").trim())
        }}
      >
        <label for="key">API key</label>
        <input
          id="key"
          name="key"
          type="password"
          autoComplete="off"
          autoFocus
          required
          aria-describedby="key-hint"
        />
        <p id="key-hint" class="quiet">
          You can see and do what the key allows. You stay signed in for 12 hours, or until the key stops
          working; pages cannot read the key. To create a key: <code>ironflow apikeys create</code>
        </p>
        {problem !== "" && (
          <p class="failure" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" class="primary" disabled={isBusy}>
          Sign in
        </button>
      </form>
    </main>
  )
}
