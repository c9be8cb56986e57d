/**
 * The console: a browser app that the engine serves under `/console/`. It makes the same calls as every
 * client, which `src/Protocol` describes. Only the calls about its session are for the console alone.
 *
 * To add a page:
 *
 * 1. `Pages/Things.tsx` exports a component. It receives the variables of its path. It keeps filters in the address
 *    (`place.value.query` and `setQuery` of `Parts/Router.ts`), so that a shared link shows the same.
 * 2. Its data comes from `useLive("things", (signal) => ask(listThings, { signal }))`, which repeats the request once
 *    a second while the page is visible. The key, here "things", must contain everything that the response depends on.
 *    `ask` takes a call that `src/Protocol` describes, and returns the decoded response.
 * 3. It shows `<Loading />` until the first response, `<Failure error={…} retry={…} />` for an error, and
 *    `<Empty command="ironflow …">` for an empty list. Long lists are a `<VirtualList>`, states a `<Status>`, times a
 *    `<Time>`, values a `<Value>`. A change is an `<Action>`, which asks for confirmation where that matters. The
 *    function `act` of the action calls `refreshAll()` at its end.
 * 4. A row in `Pages.ts` gives it a path, a place in the navigation and a key after `g`.
 * 5. `test/console/Things.test.ts` opens it in a browser, with the kit in `test/console/Browser.ts`; `Runs.test.ts`
 *    is an example.
 *
 * Inline styles in markup and HTML from strings are forbidden: the page's content security policy refuses both.
 * Colours are the variables of `console.css`.
 */
import "./console.css"
import { render } from "preact"
import { isConnected } from "./Parts/Calls.ts"
import { listenToKeys } from "./Parts/Keyboard.ts"
import { startLive } from "./Parts/Live.ts"
import { showDirectionMarks } from "./Parts/DirectionMarks.ts"
import { followAddress } from "./Parts/Router.ts"
import { readSession, session } from "./Parts/Session.ts"
import { Shell } from "./Shell.tsx"

// the HTML has a sentence for browsers in which this script fails: it is removed here
const root = document.getElementById("console")!
root.replaceChildren()
showDirectionMarks()
followAddress()
listenToKeys()
startLive()
// The session is read first, since it decides which data is requested. If the engine does not answer, the page
// says so, and the session is read when the engine answers.
const begin = async (): Promise<void> => {
  await readSession().catch(() => undefined)
  render(<Shell />, root)
  isConnected.subscribe((connected) => {
    if (connected === true && session.peek() === undefined) void readSession().catch(() => undefined)
  })
}
void begin()
