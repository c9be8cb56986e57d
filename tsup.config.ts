import { mkdirSync, rmSync } from "node:fs"
import { readFile, writeFile } from "node:fs/promises"
import { isBuiltin } from "node:module"
import path from "node:path"
import { defineConfig, type Options } from "tsup"
import { buildConsole, callsMarked, licencesOf, pureFunctions } from "./console.config.ts"

/** Where the build goes: the tests keep one of their own, see `test/Built.ts`. */
const folder = process.env.IRONFLOW_BUILD_FOLDER ?? "dist"

// both builds write to it, so neither may empty it
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })
await buildConsole(path.resolve(folder, "console"))

type Plugin = NonNullable<Options["esbuildPlugins"]>[number]

const celLibrary = "@marcbachmann/cel-js"

/** A module that is required inside of a bundle is evaluated when it is, and not before: that saves 30 ms of every import. */
const celOnFirstUse: Plugin = {
  name: "cel-on-first-use",
  setup: (build) =>
    build.onLoad({ filter: /\/src\/Cel\.ts$/ }, () => ({
      contents: `export const cel = () => require("${celLibrary}")`
    }))
}

/**
 * WebSockets are inside of the package: bundlers that make ECMAScript modules cannot carry what `ws`, which is CommonJS, asks
 * Node.js for, warn of the packages that could speed it up, and Bun puts another one in its place.
 */
const webSocketsInside: Plugin = {
  name: "web-sockets-inside",
  setup: (build) =>
    build.onLoad({ filter: /\/node_modules\/ws\/lib\/.*\.js$/ }, async ({ path: file }) => ({
      contents: (await readFile(file, "utf8")).replace(
        /\brequire\('([^'.][^']*)'\)/g,
        (_call, name: string) => (isBuiltin(name) ? `process.getBuiltinModule('${name}')` : notHere)
      )
    }))
}

/** In place of `require` for what it may do without: it looks whether that throws. */
const notHere = "(() => { throw new Error('not here') })()"

/**
 * What `src/core.ts` needs at once becomes one file, what a client needs besides another, and the rest of `src/index.ts` a
 * third: the modules outside of a part ask for all of it, so that esbuild does not cut it up by who needs what. Loading a
 * file costs one to two milliseconds. What a client loads later does not ask for the third part: bundles of a client would
 * get it.
 */
const fewFiles: Plugin = {
  name: "few-files",
  setup: async (build) => {
    const parts: Array<{ readonly entries: Array<string>; readonly members: ReadonlySet<string> }> = []
    for (const entries of [
      ["src/core.ts"],
      // those after the second are for functions too, and for what a client loads later
      [
        "src/Promise/Client.ts",
        "src/Projection/Projection.ts",
        "src/Metadata.ts",
        "src/Overlap.ts",
        "src/RunStatus.ts",
        "src/Versioning.ts"
      ],
      ["src/index.ts"]
    ]) {
      const before = parts.at(-1)?.members ?? []
      parts.push({ entries, members: new Set([...before, ...(await neededAtOnce(build.esbuild, entries))]) })
    }
    build.onResolve({ filter: /^((\.{1,2}|src)\/|\/).*\.ts$/ }, ({ importer, path: asked, resolveDir }) => ({
      path: path.resolve(importer === "" ? "." : resolveDir, asked),
      // nobody uses what a part exports to those who ask for all of it
      sideEffects: true
    }))
    const pure = await pureFunctions()
    build.onLoad({ filter: /\/src\/.*\.ts$/ }, async (file) => {
      const own = path.relative(".", file.path)
      const source = await readFile(file.path, "utf8")
      const known = /^src\/((Client|Protocol)\/|EffectSchema\.ts$)/.test(own) ? parts.slice(0, 2) : parts
      const asked = known.filter(({ members }) => !members.has(own))
      return {
        contents: [
          own.startsWith("src/Protocol/") ? callsMarked(source, pure) : source,
          // by its place beside the module: what is written here goes into the source maps
          ...asked.flatMap(({ entries }) =>
            entries.map((entry) => `import ${JSON.stringify(`./${path.relative(path.dirname(own), entry)}`)}`)
          )
        ].join("\n"),
        loader: "ts"
      }
    })
  }
}

/**
 * Imports of a part for nothing but its sake have done their work, and bundlers would warn of them: no module of ours does
 * anything by being loaded, as package.json says.
 */
const bareImports: NonNullable<Options["plugins"]>[number] = {
  name: "bare-imports",
  renderChunk: (code) => ({ code: code.replace(/^import "\.\/[^"]+";$/gm, "") })
}

/**
 * Namespaces of the Effect API are objects that esbuild fills by a call, which bundlers keep, with all that is named in it, though
 * nobody uses the namespace: said to be pure, it goes.
 */
const pureNamespaces: NonNullable<Options["plugins"]>[number] = {
  name: "pure-namespaces",
  renderChunk: (code) => ({
    code: code.replace(
      /^var (\w+) = \{\};\n__export\(\1, (\{[^{}]*\})\);$/gm,
      // line by line as it was, for the source maps
      "var $1 = /* @__PURE__ */ ((to, all) => (__export(to, all), to))({},\n$2);"
    )
  })
}

/** The modules that are loaded when the entries are, themselves included. */
const neededAtOnce = async (
  { build }: Parameters<Plugin["setup"]>[0]["esbuild"],
  entryPoints: Array<string>
): Promise<ReadonlySet<string>> => {
  const { metafile } = await build({
    entryPoints,
    outdir: folder,
    bundle: true,
    format: "esm",
    platform: "node",
    packages: "external",
    write: false,
    metafile: true
  })
  const members = new Set(entryPoints)
  // a set that grows is walked to its new end
  for (const member of members) {
    for (const it of metafile.inputs[member]?.imports ?? []) {
      if (it.kind !== "dynamic-import" && it.external !== true) members.add(it.path)
    }
  }
  return members
}

/**
 * Puts the code that every command needs into one file, so that a command starts in four fifths of the time. esbuild splits code by
 * the entry points that need it, so each part that is loaded later also imports the whole command.
 */
const commandInOneFile: Plugin = {
  name: "command-in-one-file",
  setup: (build) => {
    const namespace = "with-the-command"
    build.onResolve({ filter: /^\.{1,2}\/.*\.ts$/ }, ({ importer, kind, path: asked, resolveDir }) =>
      kind !== "dynamic-import" || importer.endsWith("/src/bin.ts")
        ? undefined
        : { path: path.resolve(resolveDir, asked), namespace }
    )
    build.onLoad({ filter: /./, namespace }, ({ path: file }) => ({
      contents: [
        `export { invoke as command } from ${JSON.stringify(path.resolve("src/Cli/Invocation.ts"))}`,
        `export * from ${JSON.stringify(file)}`
      ].join("\n"),
      resolveDir: path.dirname(file)
    }))
  }
}

/** Writes down under which licences those whose code is inside gave it to us: they ask to be named wherever it goes. */
const licences: Plugin = {
  name: "licences",
  setup: (build) => {
    build.initialOptions.metafile = true
    build.onEnd(async ({ metafile }) =>
      writeFile(path.join(folder, "THIRD_PARTY_LICENSES.txt"), await licencesOf(metafile))
    )
  }
}

const shared: Options = {
  outDir: folder,
  format: ["esm"],
  target: "node22",
  platform: "node",
  splitting: true,
  sourcemap: true,
  clean: false,
  // `node:sqlite` exists only under its full name.
  removeNodeProtocol: false,
  dts: false,
  noExternal: [celLibrary, "ws"],
  esbuildPlugins: [celOnFirstUse, webSocketsInside]
}

export default defineConfig([
  {
    ...shared,
    esbuildPlugins: [celOnFirstUse, webSocketsInside, fewFiles],
    plugins: [bareImports, pureNamespaces],
    entry: {
      index: "src/index.ts",
      core: "src/core.ts",
      protocol: "src/protocol.ts",
      effect: "src/effect.ts",
      engine: "src/engine.ts",
      test: "src/test.ts",
      worker: "src/worker.ts",
      serve: "src/serve.ts",
      "worker-streaming": "src/worker-streaming.ts",
      "cli-worker": "src/Cli/WorkerProcess.ts"
    }
  },
  {
    ...shared,
    // The command starts on its own: it has all that it needs inside, and only `serve` and `dev` load the engine.
    entry: { bin: "src/bin.ts" },
    noExternal: [/.*/],
    // errors are known by the names of their classes
    keepNames: true,
    minifySyntax: true,
    minifyWhitespace: true,
    sourcemap: false,
    // what is CommonJS among the dependencies asks for Node's own modules in its own way
    banner: {
      js: 'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);'
    },
    esbuildOptions: (options) => {
      options.chunkNames = "cli/[name]-[hash]"
    },
    esbuildPlugins: [
      celOnFirstUse,
      licences,
      {
        name: "worker-process",
        // A worker shares this package and Effect with the user's code, so it comes from the build above.
        setup: (build) =>
          build.onResolve({ filter: /\/WorkerProcess\.ts$/ }, () => ({
            // from the chunks of the command, which have a folder of their own
            path: "../cli-worker.js",
            external: true
          }))
      },
      commandInOneFile,
      {
        name: "postgres-driver",
        // those who use Postgres have installed it
        setup: (build) => build.onResolve({ filter: /^pg$/ }, () => ({ path: "pg", external: true }))
      }
    ]
  }
])
