/**
 * The console: an app for browsers, which the engine serves under `/console/`. It asks what every client asks, by the operations of
 * `src/Protocol`, and has no calls of its own but those of its session.
 *
 * To add a page:
 *
 * 1. `Pages/Things.tsx` exports a component. It gets the variables of its path; filters it keeps in the address (`place.value.query`
 *    and `setQuery` of `Parts/Router.ts`), so that a link shows the same to somebody else.
 * 2. What it shows comes from `useLive("things", (signal) => ask(listThings, { signal }))`: asked for again once a second while the page
 *    is seen. The key has in it whatever the answer depends on. `ask` takes an operation of the contract and gives what its codec reads.
 * 3. Until the first answer it shows `<Loading />`, for an error `<Failure error={…} again={…} />`, and where there is nothing
 *    `<Empty command="ironflow …">`. Long lists are a `<VirtualList>`, states a `<Status>`, times a `<Time>`, values a `<Value>`.
 *    What changes something is an `<Action>`, which asks first where that matters, and calls `refreshAll()` afterwards.
 * 4. A row in `Pages.ts` gives it a path, a place in the navigation and a key behind `g`.
 * 5. `test/console/Things.test.ts` opens it in a browser: `test/console/Browser.ts` has the kit, `Runs.test.ts` is the pattern.
 *
 * No inline styles in markup and no HTML from texts: the policy of the page refuses both. Colours are the variables of `console.css`.
 */
import "./console.css"
import { render } from "preact"
import { isConnected } from "./Parts/Calls.ts"
import { listenToKeys } from "./Parts/Keyboard.ts"
import { startLive } from "./Parts/Live.ts"
import { showMarks } from "./Parts/Marks.ts"
import { followAddress } from "./Parts/Router.ts"
import { readSession, session } from "./Parts/Session.ts"
import { Shell } from "./Shell.tsx"

// the sentence for those whose browser does not come this far
const root = document.getElementById("console")!
root.replaceChildren()
showMarks()
followAddress()
listenToKeys()
startLive()
// who that is decides what is asked for; without an answer the page says so, and asks when somebody answers
const begin = async (): Promise<void> => {
  await readSession().catch(() => undefined)
  render(<Shell />, root)
  isConnected.subscribe((connected) => {
    if (connected === true && session.peek() === undefined) void readSession().catch(() => undefined)
  })
}
void begin()
