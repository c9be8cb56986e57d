/** Builds the console into a folder: `npm run console` into that of the package, the build and the tests do the same. */
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises"
import path from "node:path"
import { build, type Metafile, type Plugin } from "esbuild"

const root = import.meta.dirname

/** The functions that the contract declares to have no side effects. */
export const pureFunctions = async (): Promise<ReadonlyArray<string>> => {
  const files = await readdir(path.join(root, "src/Protocol"), { recursive: true })
  const sources = files
    .filter((file) => file.endsWith(".ts"))
    .map((file) => readFile(path.join(root, "src/Protocol", file), "utf8"))
  return (await Promise.all(sources)).flatMap((source) =>
    [...source.matchAll(/@__NO_SIDE_EFFECTS__ \*\/\n(?:export )?function (\w+)/g)].flatMap(
      ([, name]) => name ?? []
    )
  )
}

/**
 * A module in which each call of a pure function is said to be pure. esbuild believes a declaration within its own file alone: said of
 * each call, bundles of a client have none of the rows and codecs that they do not use. Only what the module imports or declares counts:
 * a parameter of the same name may do anything, and bundlers would leave out the call of it.
 */
export const callsMarked = (source: string, pure: ReadonlyArray<string>): string => {
  const imported = [...source.matchAll(/^import \{([^}]*)\} from/gm)].flatMap(([, names = ""]) =>
    names.split(",")
  )
  const declared = [...source.matchAll(/^(?:export )?function (\w+)/gm)].map(([, name]) => name)
  const known = new Set([...imported.map((name) => name.trim()), ...declared])
  const names = pure.filter((name) => known.has(name))
  if (names.length === 0) return source
  return source.replace(
    new RegExp(`(?<![\\w.$]|function )(?:${names.join("|")})(?=[<(])`, "g"),
    "/* @__PURE__ */ $&"
  )
}

/** Under which licences those whose code is inside gave it to us: they ask to be named wherever it goes. */
export const licencesOf = async (metafile: Metafile | undefined): Promise<string> => {
  const folders = new Set(
    Object.keys(metafile?.inputs ?? {}).flatMap(
      (input) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input) ?? []
    )
  )
  const texts = [...folders].sort().map(async (folder) => {
    const { name, version, license } = JSON.parse(await readFile(`${folder}/package.json`, "utf8"))
    const file = (await readdir(folder)).find((it) => /^licen[cs]e/i.test(it))
    const text = file === undefined ? `Licence: ${license}` : await readFile(`${folder}/${file}`, "utf8")
    return `${name} ${version}\n\n${text.trim()}\n`
  })
  return (await Promise.all(texts)).join(`\n${"-".repeat(80)}\n\n`)
}

const contract = (pure: ReadonlyArray<string>): Plugin => ({
  name: "contract",
  setup: (it) => {
    it.onLoad({ filter: /\/src\/Protocol\/.*\.ts$/ }, async (file) => ({
      contents: callsMarked(await readFile(file.path, "utf8"), pure),
      loader: "ts"
    }))
    // what only engines and workers do with values is not there
    it.onResolve({ filter: /^node:/ }, ({ path: asked }) => ({ path: asked, namespace: "node" }))
    it.onLoad({ filter: /.*/, namespace: "node" }, () => ({
      contents: "module.exports = new Proxy({}, { get: () => () => false })"
    }))
  }
})

/**
 * uPlot asks for the formats of the language of the browser while it loads. Some browsers name one that `Intl` refuses, such as
 * `en-US@posix`, and nothing would start. Numbers are those of every page.
 */
const charts: Plugin = {
  name: "charts",
  setup: (it) => {
    it.onLoad({ filter: /[/\\]uPlot\.esm\.js$/ }, async (file) => {
      const source = await readFile(file.path, "utf8")
      const contents = source.replaceAll("nav.language", '"en-US"')
      if (contents === source) throw new Error("uPlot asks for the language of the browser in another way")
      return { contents, loader: "js" }
    })
  }
}

/** What the page says until its script has begun. The style sheet holds it back for some seconds: mostly there is nothing to say. */
const notStarted =
  '<p class="not-started" role="alert">The console has not started: its script does not come, or does not run in this browser. ' +
  "Load this page again. It needs Chrome 120, Firefox 121, Safari 17.2 or a later one." +
  "<!--where--></p>"

/** Makes the folder anew, with names that say what is in the files: browsers keep those for ever. */
export const buildConsole = async (folder: string): Promise<void> => {
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: { console: "src/Console/main.tsx" },
    outdir: folder,
    entryNames: "[name]-[hash]",
    assetNames: "[name]-[hash]",
    bundle: true,
    minify: true,
    metafile: true,
    format: "esm",
    target: ["chrome120", "firefox121", "safari17.2"],
    tsconfig: path.join(root, "src/Console/tsconfig.json"),
    plugins: [contract(await pureFunctions()), charts],
    legalComments: "none",
    logLevel: "warning"
  })
  const names = Object.keys(metafile.outputs).map((file) => path.basename(file))
  const named = (extension: string): string => names.find((name) => name.endsWith(extension)) ?? ""
  await writeFile(
    path.join(folder, "index.html"),
    `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Ironflow</title>
<link rel="icon" href="icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="${named(".css")}">
<script type="module" src="${named(".js")}"></script>
</head>
<body><div id="console">${notStarted}</div><noscript>The console needs JavaScript.</noscript></body>
</html>
`
  )
  await writeFile(path.join(folder, "icon.svg"), await readFile(path.join(root, "src/Console/icon.svg")))
  await writeFile(path.join(folder, "licences.txt"), await licencesOf(metafile))
}

if (import.meta.main) await buildConsole(path.join(root, "dist/console"))
