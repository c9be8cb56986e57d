/** The browser of the tests: its binary is in a package of npm, and is unpacked once a checkout. */
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import path from "node:path"
import puppeteer, { type Browser } from "puppeteer-core"

const modules = path.join(import.meta.dirname, "../../node_modules")
const { version } = JSON.parse(readFileSync(path.join(modules, "@sparticuz/chromium/package.json"), "utf8"))
const folder = path.join(modules, `.cache/chromium-${version}`)

/** Several processes of the tests may come here at once: each unpacks for itself, and the first one's folder is everybody's. */
const unpack = (): void => {
  if (existsSync(path.join(folder, "chromium"))) return
  mkdirSync(path.dirname(folder), { recursive: true })
  const own = mkdtempSync(`${folder}-`)
  execFileSync(
    process.execPath,
    ["--input-type=module", "-e", 'await (await import("@sparticuz/chromium")).default.executablePath()'],
    { cwd: path.dirname(modules), env: { ...process.env, TMPDIR: own } }
  )
  // those of the package, wherever this is: a browser without fonts ends, and a machine may have none
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

/** Starts the browser. It has the rules of every browser for pages of others. */
export const launch = (): Promise<Browser> => {
  unpack()
  return puppeteer.launch({
    executablePath: path.join(folder, "chromium"),
    headless: "shell",
    // containers run as root, where there is no sandbox
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--font-render-hinting=none",
      // a name that others made to point here
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
