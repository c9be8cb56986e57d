#!/usr/bin/env node
/** The `ironflow` command. */
import process from "node:process"
import { useCompileCache } from "./Cli/CompileCache.ts"
import { boundHeap } from "./Cli/HeapGrowth.ts"

useCompileCache()
// Only for commands that run long: other commands end before the limit matters, and a change of V8's flags makes
// Node compile its own modules again.
if (["serve", "dev", "worker"].some((name) => process.argv.includes(name))) boundHeap()
// the heap limit and the cache must be set before the rest is loaded
await import("./Cli/Main.ts")
