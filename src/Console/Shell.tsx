/**
 * The frame around every page: the navigation, the environment, the search, the user, and a banner when the engine
 * does not answer.
 */
import { useEffect, useErrorBoundary, useState } from "preact/hooks"
import { CallError, isConnected, isSignedOut } from "./Parts/Calls.ts"
import { saveSetting, loadSetting } from "./Parts/BrowserStorage.ts"
import { isHelpShown, shortcuts, addShortcut } from "./Parts/Keyboard.ts"
import { findPage, type FoundPage, type Page, pages } from "./Pages.ts"
import { Dialog, Failure, Link, Toasts } from "./Parts/Elements.tsx"
import { markDirection } from "./Parts/DirectionMarks.ts"
import { readMetrics } from "./Parts/Metrics.ts"
import { FindBox } from "./Pages/Find.tsx"
import { environment, go, hrefOf, place } from "./Parts/Router.ts"
import { session, signOut } from "./Parts/Session.ts"
import { SignIn } from "./SignIn.tsx"
import { isUtc } from "./Parts/Time.tsx"

export const Shell = () => {
  const found = findPage(place.value.path)
  useEffect(() => {
    const name = found?.page.title ?? "Not found"
    const about = Object.values(found?.variables ?? {}).join(" ")
    document.title = `${[name, markDirection(about)].filter((part) => part !== "").join(" ")} · Ironflow`
  }, [place.value.path])
  useEffect(() => {
    const removals = pages.map(({ key, path, title }) =>
      key === undefined ? () => {} : addShortcut(`g ${key}`, `go to ${title}`, () => go(hrefOf(path)))
    )
    return () => {
      for (const remove of removals) remove()
    }
  }, [])
  if (isSignedOut.value) return <SignIn />
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the page
      </button>
      <header class="top">
        <Link to="" class="brand">
          Ironflow
        </Link>
        <Environments />
        <FindBox />
        <span class="space" />
        <button
          type="button"
          class="small"
          title="Show times in the time zone of this browser, or in UTC"
          onClick={() => (isUtc.value = !isUtc.peek())}
        >
          {isUtc.value ? "UTC" : "Local time"}
        </button>
        <button type="button" class="small" aria-label="Keys" onClick={() => (isHelpShown.value = true)}>
          ?
        </button>
        {session.value?.key !== undefined && (
          <span class="who">
            <span class="quiet" title={`The API key ${session.value.key.id}`}>
              {session.value.key.name}
            </span>
            <button type="button" class="small" onClick={() => void signOut()}>
              Sign out
            </button>
          </span>
        )}
      </header>
      {isConnected.value === false && (
        <p class="banner" role="alert">
          The engine does not answer. What you see is old; this page updates itself when the engine is back.
        </p>
      )}
      <div class="frame">
        <Navigation current={found?.page} />
        <main id="main" tabIndex={-1}>
          {found === undefined ? <NotFound /> : <GuardedPage key={place.value.path} found={found} />}
        </main>
      </div>
      <Toasts />
      {isHelpShown.value && <Keys />}
    </>
  )
}

/** The page itself. A bug in a page leaves the frame as it is. */
const GuardedPage = ({ found: { page, variables } }: { readonly found: FoundPage }) => {
  const [error, resetError] = useErrorBoundary((cause) => reportError(cause))
  if (error === undefined) return <page.component variables={variables} />
  return (
    <Failure
      error={new CallError(`This page has failed because of a bug: ${String(error)}`, 500, "BUG")}
      retry={resetError}
    />
  )
}

const Navigation = ({ current }: { readonly current: Page | undefined }) => {
  useEffect(() => {
    // on narrow screens the navigation can be scrolled, so the link to this page is brought into view
    document
      .querySelector('nav [aria-current="page"]')
      ?.scrollIntoView({ block: "nearest", inline: "nearest" })
  }, [current])
  const groups = [...new Set(pages.flatMap(({ group }) => group ?? []))]
  const isIn = (page: Page): boolean =>
    page === current || (page.path !== "" && current?.path.startsWith(`${page.path}/`) === true)
  return (
    <nav aria-label="Pages">
      {groups.map((group) => (
        <div key={group}>
          <h2>{group}</h2>
          <ul>
            {pages
              .filter((page) => page.group === group)
              .map((page) => (
                <li key={page.path}>
                  <a href={hrefOf(page.path)} aria-current={isIn(page) ? "page" : undefined}>
                    {page.title}
                  </a>
                </li>
              ))}
          </ul>
        </div>
      ))}
    </nav>
  )
}

/**
 * Chooses the environment. An environment exists once it has data, so the list has the environments that the
 * metrics name, and those that were entered in this browser.
 */
const Environments = () => {
  const keyEnvironment = session.value?.key?.environment
  const current = environment.value
  const [isOther, setOther] = useState(false)
  const enteredNames = (loadSetting("environments") ?? "").split(" ").filter((name) => name !== "")
  const [found, setFound] = useState<ReadonlyArray<string>>([])
  const names = [...new Set(["default", ...found, ...enteredNames, current])]
  useEffect(() => {
    // for a user who may not read metrics, the list only has the environments that were entered
    void readMetrics().then(
      (samples) =>
        setFound([...new Set(samples.flatMap(({ labels }) => labels["environment"] ?? []))].sort()),
      () => undefined
    )
  }, [current])
  if (keyEnvironment !== undefined) return <span class="environment">{keyEnvironment}</span>
  const show = (name: string): void => {
    setOther(false)
    // leaves the page of a single thing, since that thing is not in the environment that is opened
    const { path } = place.peek()
    go(hrefOf(findPage(path)?.page.group === undefined ? "" : path, { env: name }))
  }
  if (isOther)
    return (
      <form
        onSubmit={(event) => {
          event.preventDefault()
          const name = String(new FormData(event.currentTarget).get("name") ?? "").trim()
          if (name === "") return
          // only an entered name is saved, and not the environment of a link, which may not exist
          saveSetting(
            "environments",
            [...enteredNames.filter((one) => one !== name), name].slice(-20).join(" ")
          )
          show(name)
        }}
      >
        <input
          name="name"
          aria-label="Name of the environment"
          placeholder="staging"
          autoFocus
          onBlur={() => setOther(false)}
        />
      </form>
    )
  return (
    <select
      aria-label="Environment"
      value={current}
      onChange={(event) => {
        const { value } = event.currentTarget
        if (value === "+") setOther(true)
        else show(value)
      }}
    >
      {names.map((name) => (
        <option key={name} value={name}>
          {name}
        </option>
      ))}
      <option value="+">another …</option>
    </select>
  )
}

const Keys = () => (
  <Dialog title="Keys" onClose={() => (isHelpShown.value = false)}>
    <dl class="keys">
      {shortcuts().map(({ keys, what }) => (
        <div key={keys}>
          <dt>
            {keys.split(" ").map((key) => (
              <kbd key={key}>{key}</kbd>
            ))}
          </dt>
          <dd>{what}</dd>
        </div>
      ))}
    </dl>
    <div class="actions">
      <button type="button" onClick={() => (isHelpShown.value = false)}>
        Close
      </button>
    </div>
  </Dialog>
)

const NotFound = () => (
  <>
    <h1>There is no such page</h1>
    <p>
      The console has no page at this address. <Link to="">To the overview</Link>
    </p>
  </>
)
